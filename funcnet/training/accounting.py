"""Differential privacy in numbers: the settings of private training, and the ε that they cost.

(ε, δ): what comes out is at most e^ε times as likely with an example as without, but for a probability of δ, which is
to be far below one in the number of examples.
"""

import logging
import math
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from funcnet.numbers import check_at_least_zero, check_count, check_positive
from funcnet.training.epoch import State


class Privacy(NamedTuple):
    """What makes training private.

    Attributes:
        noise_multiplier: σ; the noise on a sum of clipped gradients has the deviation σ · max_norm. 0 for none, and no
            privacy.
        max_norm: C, the largest norm that the gradient of an example keeps.
        delta: δ of the (ε, δ) that is told; below 1 / n for n examples.

    >>> import funcnet as fn
    >>> plan = fn.training.Privacy(noise_multiplier=1.1, max_norm=1.0, delta=1e-5)
    >>> round(fn.training.epsilon(plan, rate=0.01, steps=1000), 2)
    1.71
    """

    noise_multiplier: float
    max_norm: float = 1.0
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


def check_sampling(
    privacy: Privacy,
    batch_size: int | None,
    weights: Float[Array, " n"],
    optimizer: optax.GradientTransformation,
    state: State,
) -> None:
    """Refuse what cannot be drawn privately, and find out whether ε can be told.

    Raises:
        TypeError: If the optimizer wants to see the loss of the examples, as line searches do.
        ValueError: If each step takes all examples, or weights differ from 1.
        ModuleNotFoundError: If dp-accounting is not installed.
    """
    if batch_size is None:
        raise ValueError("batch_size must be a number in private training, the expected size of a sample; got None")
    if not bool(jnp.all(weights == 1)):
        other = float(weights[jnp.argmax(weights != 1)])
        raise ValueError(
            f"weights must be 0 or 1 in private training, where no example may count for more; got {other:g}"
        )
    try:
        jax.eval_shape(optimizer.update, state.params, state.opt_state, state.params)
    except TypeError as error:
        raise TypeError(
            f"optimizer must do with gradients in private training, without the examples: {error}"
        ) from None
    epsilon(privacy, batch_size / len(weights), 1)


def epsilon(privacy: Privacy, rate: float, steps: int) -> float:
    """ε after so many steps on Poisson samples, for neighbours that differ by one example added or removed.

    By Google's dp-accounting through Rényi divergences: an upper bound. Its privacy loss distributions take longer and
    often tell a tenth less, and after few steps with small samples less than half. Both hold for steps that draw each
    example by itself (not for shuffled batches), with keys that stay secret.

    Args:
        privacy: σ and δ.
        rate: The probability with which a step draws each example; in `fit` batch_size / n.
        steps: The number of steps; in `fit` n / batch_size an epoch, rounded up.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If a number is out of its range.
        ModuleNotFoundError: If dp-accounting is not installed.

    References:
        Mironov, Talwar, Zhang 2019, Rényi differential privacy of the sampled Gaussian mechanism.
    """
    privacy, steps = check_privacy(privacy, 1), check_count("steps", steps)
    if not check_positive("rate", rate) <= 1:
        raise ValueError(f"rate must be a probability above 0; got {rate}")
    if not privacy.noise_multiplier:
        return math.inf
    orders, divergences = _divergences(privacy.noise_multiplier, float(rate))
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
