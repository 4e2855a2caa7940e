"""Elementwise functions: how they are written in JAX, and their derivatives as expressions."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from funcnet.activations import ACTIVATIONS

Slope = Callable[[Any, Any, Any], Any]


class Function(NamedTuple):
    """A function of each entry.

    Attributes:
        name: What it is called.
        python: It in JAX, with {} for the argument.
        law: Its derivative in words.
        slope: Its derivative as an expression, from the argument z, the value h, and the operations of
            `funcnet.derive.algebra`.
        at: Its exact values at some points.
    """

    name: str
    python: str
    law: str
    slope: Slope
    at: Mapping[Any, int]


def _half_over(h: Any, algebra: Any) -> Any:
    return algebra.scaled(Fraction(1, 2), algebra.power(h, -1))


def _one_minus(e: Any, algebra: Any) -> Any:
    return algebra.add(algebra.number(1), algebra.scaled(-1, e))


def _of_activation(name: str, order: int) -> Function:
    """An activation of funcnet, or one of its derivatives, which has no formula of its own here."""
    primes = "′" * order
    attribute = ("value", "slope", "curvature", "third")[order]
    activation = f"fn.activations.{name}"
    call = f"{activation}.{attribute}({{0}}" + (f", {activation}.value({{0}}))" if order else ")")
    return Function(name + primes, call, f"{name}{primes}′(z)", lambda z, h, al: al.apply(name + primes + "′", z), {})


FUNCTIONS = {
    f.name: f
    for f in (
        Function("identity", "{}", "1", lambda z, h, al: al.ones(*z.shape), {}),
        Function("exp", "jnp.exp({})", "exp z", lambda z, h, al: h, {0: 1}),
        Function("log", "jnp.log({})", "1 / z", lambda z, h, al: al.power(z, -1), {1: 0}),
        Function("sqrt", "jnp.sqrt({})", "1 / (2 √z)", lambda z, h, al: _half_over(h, al), {0: 0, 1: 1}),
        Function("abs", "jnp.abs({})", "sign z", lambda z, h, al: al.apply("sign", z), {0: 0, 1: 1}),
        Function("sign", "jnp.sign({})", "0", lambda z, h, al: al.zeros(z.shape), {0: 0, 1: 1}),
        Function("sin", "jnp.sin({})", "cos z", lambda z, h, al: al.apply("cos", z), {0: 0}),
        Function("cos", "jnp.cos({})", "−sin z", lambda z, h, al: al.scaled(-1, al.apply("sin", z)), {0: 1}),
        Function("tanh", "jnp.tanh({})", "1 − tanh² z", lambda z, h, al: _one_minus(al.power(h, 2), al), {0: 0}),
        Function("sigmoid", "jax.nn.sigmoid({})", "σ(z) (1 − σ(z))", lambda z, h, al: al.mul(h, _one_minus(h, al)), {}),
        Function(
            "relu", "jax.nn.relu({})", "1 where z > 0, else 0", lambda z, h, al: al.apply("step", z), {0: 0, 1: 1}
        ),
        Function("step", "jnp.heaviside({}, 0.0)", "0", lambda z, h, al: al.zeros(z.shape), {0: 0, 1: 1}),
        Function("softplus", "jax.nn.softplus({})", "σ(z)", lambda z, h, al: al.apply("sigmoid", z), {}),
        *(
            _of_activation(name, order)
            for name in ACTIVATIONS
            if name not in ("identity", "relu", "sigmoid", "softplus", "tanh")
            for order in range(4)
        ),
    )
}
"""By name. The activations of funcnet that have no formula here are written f, their slopes f′."""
