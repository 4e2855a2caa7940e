"""Differential privacy in numbers: the settings of private training, and the ε that they cost."""

import logging
import math
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet.training.checks import check_at_least_zero, check_positive


class Privacy(NamedTuple):
    """What makes training private.

    Attributes:
        noise_multiplier: σ; the noise on a sum of clipped gradients has the deviation σ · max_norm. 0 for none, and no
            privacy.
        max_norm: C, the largest norm that the gradient of an example keeps.
        delta: δ of the (ε, δ) that is told; below 1 / n for n examples.
    """

    noise_multiplier: float | Float[Array, ""]
    max_norm: float | Float[Array, ""] = 1.0
    delta: float = 1e-5


def check_privacy(privacy: Any, n: int) -> Privacy:
    """The settings for n examples as plain numbers.

    Raises:
        TypeError: If it is no `Privacy`, or holds what is no number.
        ValueError: If a number is out of its range.
    """
    if not isinstance(privacy, Privacy):
        raise TypeError(f"privacy must be a funcnet.training.Privacy; got {privacy!r}")
    noise = check_at_least_zero("noise_multiplier", privacy.noise_multiplier)
    max_norm, delta = check_positive("max_norm", privacy.max_norm), check_positive("delta", privacy.delta)
    if not delta < 1 / n:
        raise ValueError(f"delta must be below 1 / n for n = {n} examples, {1 / n:.3g}; got {delta:g}")
    return Privacy(noise, max_norm, delta)


def check_sampling(privacy: Privacy, batch_size: int | None, weights: Float[Array, " n"]) -> None:
    """Refuse what cannot be drawn privately, and find out whether ε can be told.

    Raises:
        ValueError: If each step takes all examples, or weights differ from 1.
        ModuleNotFoundError: If dp-accounting is not installed.
    """
    if batch_size is None:
        raise ValueError("batch_size must be a number in private training, the expected size of a sample; got None")
    if not bool(jnp.all(weights == 1)):
        raise ValueError("weights must all be 1 in private training, where no example may count for more than its norm")
    epsilon(privacy, batch_size / len(weights), 1)


def epsilon(privacy: Privacy, rate: float, steps: int) -> float:
    """ε after so many steps on Poisson samples, for neighbours that differ by one example added or removed.

    Computed by Google's dp-accounting through Rényi divergences: an upper bound.

    Args:
        privacy: σ and δ.
        rate: The probability with which a step draws each example.
        steps: The number of steps.

    Raises:
        ModuleNotFoundError: If dp-accounting is not installed.

    References:
        Mironov, Talwar, Zhang 2019, Rényi differential privacy of the sampled Gaussian mechanism.
    """
    if not privacy.noise_multiplier:
        return math.inf
    orders, divergences = _divergences(float(privacy.noise_multiplier), rate)
    from dp_accounting.rdp import compute_epsilon

    return float(compute_epsilon(orders, steps * divergences, privacy.delta)[0])


@cache
def _divergences(noise_multiplier: float, rate: float) -> tuple[Any, Any]:
    """Orders, and the Rényi divergence of one step at each: steps add them up."""
    try:
        import dp_accounting  # takes a second or two, and most runs are not private
        from dp_accounting.rdp import RdpAccountant
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"private training needs {error.name}: pip install dp-accounting") from None
    accountant, log = RdpAccountant(), logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # orders that do not converge are left out, which it tells of one by one
    try:
        accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise_multiplier)))
    finally:
        log.setLevel(level)
    return accountant.orders, accountant.rdp
