"""What closed forms are checked on: settings, networks and data."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet import activations, losses
from funcnet.checking import GradientReport
from funcnet.network import MLP
from funcnet.types import Layer, Params

WIDTHS = (4, 6, 5, 3)
N = 7


class Setting(NamedTuple):
    """What a closed form is checked with; what does not concern it is not looked at.

    Attributes:
        activation: Of the hidden layers.
        loss: The loss.
        dtype: Of parameters and data.
        option: One of `OPTIONS`.
        turn: The number of the check, for what takes turns.
    """

    activation: str = "tanh"
    loss: str = "half_squared_error"
    dtype: str = "float32"
    option: str = "plain"
    turn: int = 0


NETWORK = ("activation", "loss", "dtype", "option")
OPTIONS = ("plain", "weights", "l2 and dropout", "output activation", "an activation for each layer")


class Form(NamedTuple):
    """A closed form, or several that one check covers.

    Attributes:
        covers: Names of the functions that it checks.
        factors: Which fields of a setting concern it.
        check: The check.
    """

    covers: tuple[str, ...]
    factors: tuple[str, ...]
    check: Callable[[Setting], GradientReport]


class Problem(NamedTuple):
    """The arguments of a network function."""

    net: MLP
    params: Params
    x: Any
    y: Any
    kwargs: dict[str, Any]


def numbers(seed: int, shape: tuple[int, ...], dtype: str, scale: float = 1.0) -> Any:
    """Normal random numbers."""
    return jnp.asarray(np.random.default_rng(seed).normal(0, scale, shape), dtype)


def loss_of(s: Setting) -> losses.Loss:
    """The loss of a setting; of the 3 classes, 2 at a time."""
    chunked = losses.softmax_cross_entropy_chunked(2)
    return chunked if s.loss == chunked.name else losses.by_name(s.loss)


def targets(rule: losses.Loss, n: int, k: int, dtype: str, distributions: bool = False) -> Any:
    """Labels, target distributions, counts or numbers in [0, 1], as the loss takes them."""
    random = np.random.default_rng(3)
    if rule.targets == "classes" and not distributions:
        return jnp.asarray(random.integers(0, k, n), "int32")
    if rule.targets == "classes":
        return jnp.asarray(random.dirichlet(np.ones(k), n), dtype)
    return jnp.asarray(random.integers(0, 4, (n, k)) if rule.name == "poisson" else random.uniform(0, 1, (n, k)), dtype)


def problem(s: Setting) -> Problem:
    """A network with its parameters and data."""
    rule, own = loss_of(s), activations.by_name(s.activation)
    regularised = s.option == "l2 and dropout"
    net = MLP(
        WIDTHS,
        activation=(own, activations.tanh) if s.option == "an activation for each layer" else own,
        output_activation=own if s.option == "output activation" else activations.identity,
        loss=rule,
        l2=0.1 if regularised else None,
        dropout=0.25 if regularised else None,
    )
    params = tuple(
        Layer(numbers(i, (a, b), s.dtype, a**-0.5), numbers(10 + i, (b,), s.dtype, 0.3))
        for i, (a, b) in enumerate(pairwise(WIDTHS))
    )
    kwargs: dict[str, Any] = {"key": jax.random.key(s.turn)} if regularised else {}
    if s.option == "weights":
        kwargs["weights"] = jnp.asarray([1.0, 2.0, 0.0, -0.5, 1.0, 3.0, 1.0], s.dtype)
    x = numbers(20, (N, 2, 2) if s.turn % 2 else (N, 4), s.dtype)
    return Problem(net, params, x, targets(rule, N, 3, s.dtype, distributions=s.turn % 3 == 0), kwargs)
