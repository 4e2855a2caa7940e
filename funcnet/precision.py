"""How precisely funcnet computes: half precision is lifted to float32, products run at full precision."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, Float

from funcnet.types import AnyArray

T = TypeVar("T")


def is_floating(array: Any) -> bool:
    """Whether an array's dtype is a real floating-point one (half precision and bfloat16 included)."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def work_dtype(dtype: DTypeLike) -> Any:
    """The dtype in which values stored in `dtype` are computed: float32 for float16 and bfloat16, else `dtype`.

    float16 ends at 65,504 and at 6e-8: a sum over 70,000 classes overflows it, and 1/n of a large batch underflows.
    Storage in half, arithmetic in float32 and one rounding at the end avoid both.
    """
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def lift(array: AnyArray) -> Array:
    """An array in the dtype it is computed in."""
    array = jnp.asarray(array)  # first, since a NumPy float64 is float32 to JAX without x64
    return array.astype(work_dtype(array.dtype))


def at_least_float32(fun: Callable[..., Array]) -> Callable[..., Array]:
    """Make a function of arrays compute in float32 where its first argument is half; its result is rounded back."""

    @wraps(fun)
    def lifted(*arrays: AnyArray, **constants: float) -> Array:
        dtype = jnp.result_type(arrays[0])
        if work_dtype(dtype) == dtype:
            return fun(*arrays, **constants)
        return fun(*(lift(a) if is_floating(a) else a for a in arrays), **constants).astype(dtype)

    return lifted


def matmul(
    a: Float[Array, "*batch n i"], b: Float[Array, "*batch i o"], operand_dtype: str | None = None
) -> Float[Array, "*batch n o"]:
    """The matrix product a b, accumulated in the dtype of `a` at the highest precision of the device.

    With an `operand_dtype` both operands are first rounded to it, and only they are: products of two bfloat16
    numbers are exact in float32.
    """
    dtype = a.dtype
    if operand_dtype is not None:
        a, b = a.astype(operand_dtype), b.astype(operand_dtype)
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST, preferred_element_type=dtype)


def transpose(a: Float[Array, "n i"], operand_dtype: str | None = None) -> Float[Array, "i n"]:
    """aᵀ for a product; with an `operand_dtype`, rounded to it and, on CPUs, written out.

    XLA:CPU multiplies bfloat16 by the processor's own instructions only where no operand is a transpose: else it widens
    both to float32 first, which takes three times as long. It does not see one in a transpose made of two halves.
    """
    if operand_dtype is None or jax.default_backend() != "cpu":
        return a.T
    top, bottom = jnp.split(a.astype(operand_dtype), [a.shape[0] // 2])
    return jnp.concatenate([top.T, bottom.T], axis=1).astype(a.dtype)


def cast_like(tree: T, like: Any) -> T:
    """Each leaf of `tree` in the dtype of its counterpart in `like`."""
    return jax.tree.map(lambda leaf, model: leaf.astype(model.dtype), tree, like)
