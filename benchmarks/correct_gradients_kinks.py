"""Subgradients at kinks, all of them valid."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gradient_cases import ALL, WIDE, Family, normal, with_value


def _with_zeros(dtype: str, scale: float) -> tuple[Any, ...]:
    x = np.random.default_rng(11).normal(0, scale, 12)
    x[[0, 3, 4, 9]] = 0
    return jnp.asarray(x, dtype), normal(12, (12,), dtype)


def _tied(dtype: str, scale: float) -> tuple[Any, ...]:
    return (jnp.asarray([0.5, 2, -1, 2, 2, 1, 0, 2, -3, 1.5, 1, 0.25], dtype),)


def kinks() -> list[Family]:
    """Functions at points where they have several slopes; each gradient is a valid subgradient."""

    def relu(x: Any, c: Any) -> Any:
        return jnp.sum(c * jax.nn.relu(x))

    return [
        Family("kink: relu with slope 0 at 0", relu, lambda x, c: c * (x > 0).astype(x.dtype), _with_zeros),
        Family("kink: relu with slope 1 at 0", relu, lambda x, c: c * (x >= 0).astype(x.dtype), _with_zeros),
        Family(
            "kink: relu with slope ½ at 0",
            relu,
            lambda x, c: c * jnp.heaviside(x, jnp.full_like(x, 0.5)),
            _with_zeros,
            dtypes=WIDE,
        ),
        Family(
            "kink: |x| with slope 0 at 0",
            lambda x, c: jnp.sum(c * jnp.abs(x)),
            lambda x, c: c * jnp.sign(x),
            _with_zeros,
        ),
        Family(
            "kink: |x| with slope 1 at 0",
            lambda x, c: jnp.sum(c * jnp.abs(x)),
            lambda x, c: c * jnp.where(x >= 0, 1, -1).astype(x.dtype),
            _with_zeros,
        ),
    ]


def ties() -> list[Family]:
    """The maximum where it is attained more than once, and the leaky relu at 0."""

    def first(x: Any) -> Any:
        return jax.nn.one_hot(jnp.argmax(x), x.size, dtype=x.dtype)

    def shared(x: Any) -> Any:
        top = (x == jnp.max(x)).astype(x.dtype)
        return top / jnp.sum(top)

    return [
        Family("kink: max of ties, to the first", jnp.max, first, _tied),
        Family("kink: max of ties, shared", jnp.max, shared, _tied),
        Family("kink: max of ties, value too", jnp.max, with_value(jnp.max, shared), _tied, dtypes=("float32",)),
        Family(
            "kink: leaky relu, slope 0.1 at 0",
            lambda x, c: jnp.sum(c * jax.nn.leaky_relu(x, 0.1)),
            lambda x, c: c * jnp.where(x > 0, 1, 0.1).astype(x.dtype),
            _with_zeros,
            dtypes=ALL,
        ),
    ]


def families() -> list[Family]:
    """All of them."""
    return [*kinks(), *ties()]
