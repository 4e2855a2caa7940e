"""The affine map Y = X W + 1 bᵀ and its backward, for inputs of any rank."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet.precision import is_floating, lift, matmul
from funcnet.types import AnyArray, Features


def flatten(x: Features) -> Float[AnyArray, "n i"]:
    """Each example of a batch `(n, *features)` as one row."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def _check(x: AnyArray, w: AnyArray, b: AnyArray | None, dy: AnyArray | None) -> None:
    arrays = {"x": x, "w": w, "b": b, "dy": dy}
    for name, array in arrays.items():
        if array is not None and not is_floating(array):
            raise TypeError(f"{name} must be floating point; got {array.dtype}")
    if w.ndim != 2:
        raise ValueError(f"w must be a matrix (n_in, n_out); got shape {w.shape}")
    if x.ndim < 2 or math.prod(x.shape[1:]) != w.shape[0]:
        raise ValueError(f"x must be a batch (n, *features) with {w.shape[0]} features to match w; got shape {x.shape}")
    if b is not None and b.shape != (w.shape[1],):
        raise ValueError(f"b must have shape {(w.shape[1],)} to match w; got {b.shape}")
    if dy is not None and dy.shape != (x.shape[0], w.shape[1]):
        raise ValueError(f"dy must have shape {(x.shape[0], w.shape[1])} to match x and w; got {dy.shape}")
    for name, array in arrays.items():
        if array is not None and array.dtype != w.dtype:
            raise TypeError(f"{name} must have the dtype {w.dtype} of w; got {array.dtype}")


def affine(x: Features, w: Float[AnyArray, "i o"], b: Float[AnyArray, " o"]) -> Float[Array, "n o"]:
    """Y = X W + 1 bᵀ, with each example of x flattened to one row of X.

    All arguments share one dtype; float16 and bfloat16 are computed in float32 and rounded once.

    Raises:
        TypeError: If an argument is not floating point.
        ValueError: If the sizes do not fit; the message names the argument.

    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> fn.affine(jnp.ones((2, 3)), jnp.ones((3, 1)), jnp.ones(1)).tolist()
    [[4.0], [4.0]]
    """
    _check(x, w, b, None)
    return affine_map(lift(flatten(x)), lift(w), lift(b)).astype(w.dtype)


def affine_map(
    x: Float[Array, "n i"], w: Float[Array, "i o"], b: Float[Array, " o"], operand_dtype: str | None = None
) -> Float[Array, "n o"]:
    """Y = X W + 1 bᵀ on checked rows, as the sweeps run it."""
    return matmul(x, w, operand_dtype) + b[None, :]


def affine_backward(
    x: Features, w: Float[AnyArray, "i o"], dy: Float[AnyArray, "n o"]
) -> tuple[Features, Float[Array, "i o"], Float[Array, " o"]]:
    """The gradients (dX, dW, db) of a scalar ℓ from dY = ∂ℓ/∂Y, where Y = X W + 1 bᵀ; dX in the shape of x.

        dX = dY Wᵀ,    dW = Xᵀ dY,    db = dYᵀ 1

    Derivation:
        dℓ = tr(dYᵀ d(XW + 1bᵀ)) = tr(dYᵀ dX W) + tr(dYᵀ X dW) + tr(dYᵀ 1 dbᵀ); swapping factors under the trace,
        tr(W dYᵀ dX) = tr((dY Wᵀ)ᵀ dX), tr((Xᵀ dY)ᵀ dW), and tr(dbᵀ dYᵀ 1) = (dYᵀ 1)ᵀ db.

    Raises:
        TypeError: If an argument is not floating point.
        ValueError: If the sizes do not fit; the message names the argument.

    References:
        Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors.

    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> dx, dw, db = fn.affine_backward(jnp.ones((2, 3, 5)), jnp.ones((15, 4)), jnp.ones((2, 4)))
    >>> dx.shape, dw.shape, db.shape
    ((2, 3, 5), (15, 4), (4,))
    """
    _check(x, w, None, dy)
    rows, matrix, d_rows = lift(flatten(x)), lift(w), lift(dy)
    dx = matmul(d_rows, matrix.T).reshape(x.shape)
    dw = matmul(rows.T, d_rows)
    db = jnp.sum(d_rows, axis=0)
    return dx.astype(x.dtype), dw.astype(w.dtype), db.astype(w.dtype)
