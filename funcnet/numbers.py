"""Checks of single numbers: a plain one, or an array of no dimensions; of tracers as far as their values are known."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def check_count(name: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1; got {value}")
    return int(value)


def check_seed(name: str, value: Any) -> int:
    """A whole number from 0 to 2³² − 1.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be a whole number from 0 to {2**32 - 1}; got {value}")
    return int(value)


def check_positive(name: str, value: Any) -> Any:
    """A finite number above 0.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range.
    """
    return _number(name, value, lambda v: 0 < v < float("inf"), "a positive finite number")


def check_at_least_zero(name: str, value: Any) -> Any:
    """A finite number of at least 0.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range.
    """
    return _number(name, value, lambda v: 0 <= v < float("inf"), "a finite number of at least 0")


def check_limit(name: str, value: Any) -> Any:
    """A number of at least 0, which may be infinite.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range.
    """
    return _number(name, value, lambda v: v >= 0, "at least 0")


def check_share(name: str, value: Any) -> Any:
    """A number in [0, 1).

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range.
    """
    return _number(name, value, lambda v: 0 <= v < 1, "in [0, 1)")


def _number(name: str, value: Any, fits: Callable[[Any], bool], expected: str) -> Any:
    dtype = getattr(value, "dtype", type(value))
    real = dtype in (int, float) or (hasattr(value, "shape") and jnp.issubdtype(dtype, jnp.number))
    if not real or jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if getattr(value, "shape", ()) != ():
        raise ValueError(f"{name} must be one number; got shape {value.shape}")
    if isinstance(value, Tracer):
        return value
    if not fits(value):
        raise ValueError(f"{name} must be {expected}; got {value}")
    return float(value)
