"""Autodiff in float64: the oracle."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def in_float64(fun: Callable[..., Any], *, compiled: bool = False) -> Callable[..., Any]:
    """`fun` run with all floating-point arguments in float64 and products at full precision; NumPy arrays come back.

    Works without `jax_enable_x64` and leaves the configuration as it was.

    Args:
        fun: Any function of arrays.
        compiled: Whether to run it under `jax.jit`, without expensive optimizations since it runs seldom: faster for
            one large case, slower for many small ones.
    """
    if compiled:
        fun = jax.jit(fun, compiler_options={"xla_backend_optimization_level": 0})

    def widen(leaf: Any) -> Any:
        floating = isinstance(leaf, float) or jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        return np.asarray(leaf).astype(np.float64) if floating else leaf

    def run(*args: Any, **kwargs: Any) -> Any:
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            args, kwargs = jax.tree.map(widen, (args, kwargs))
            result = jax.tree.map(np.asarray, fun(*args, **kwargs))
        if any(leaf.dtype == np.float32 for leaf in jax.tree.leaves(result)):
            raise RuntimeError("the reference did not run in float64")
        return result

    return run


def reference_value_and_grad(
    fun: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, compiled: bool = False
) -> Callable[..., Any]:
    """`jax.value_and_grad(fun, argnums)` in float64: the oracle that a gradient in any dtype is compared with.

    Args:
        fun: A function that gives a scalar.
        argnums: Which of its arguments to differentiate in.
        compiled: As for `in_float64`.
    """
    return in_float64(jax.value_and_grad(fun, argnums), compiled=compiled)
