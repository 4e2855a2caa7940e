"""The cross-entropy of a linear layer over very many classes, a chunk of classes at a time: logits are never stored."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int

from funcnet.boundary import check_weights
from funcnet.class_chunks import Head, How, PerExample, first_pass, second_pass
from funcnet.losses import CHUNK
from funcnet.numbers import check_count
from funcnet.precision import is_floating, work_dtype
from funcnet.types import AnyArray, Weights


def linear_cross_entropy(
    h: Float[AnyArray, "n d"],
    w: Float[AnyArray, "d k"],
    b: Float[AnyArray, " k"],
    labels: Int[AnyArray, " n"],
    *,
    weights: Weights | None = None,
    chunk_size: int | None = None,
    label_smoothing: float = 0.0,
    ignore: int | None = None,
) -> Float[Array, ""]:
    """Σ w_i ℓ_i / Σ w_i with ℓ_i the softmax cross-entropy of the logits h_i V + b, which are never all in memory.

    JAX differentiates it in h, w, b and weights by the closed form of `linear_cross_entropy_value_and_grad`, in reverse
    and forward mode and again for Hessians. float16 and bfloat16 are computed in float32; so is the result.

    Args:
        h: The inputs of the layer.
        w: V, one column for each class.
        b: Its bias; −∞ masks a class.
        labels: The class of each example. One outside 0 … k − 1 makes the loss NaN and adds nothing to the gradient.
        weights: One weight for each example; 0 equals the row absent.
        chunk_size: So many classes at a time; memory is that of n × chunk_size logits.
        label_smoothing: ε of the target (1 − ε) e_y + ε / k, at least 0 and below 1.
        ignore: The label of examples to be left out, as if their weight were 0.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit or a number is out of its range; the message names the argument.

    References:
        Milakov, Gimelshein 2018, Online normalizer calculation for softmax.
        Wijmans et al. 2024, Cut your losses in large-vocabulary language models.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> h, w, b = jnp.ones((2, 3)), jnp.zeros((3, 1000)), jnp.zeros(1000)
    >>> value = jax.jit(fn.linear_cross_entropy)(h, w, b, jnp.array([4, 999]))
    >>> bool(abs(value - jnp.log(1000.0)) < 1e-5)
    True
    """
    head, how = _enter(h, w, b, labels, weights, chunk_size, label_smoothing, ignore)
    return _mean(*head, how)


def linear_cross_entropy_value_and_grad(
    h: Float[AnyArray, "n d"],
    w: Float[AnyArray, "d k"],
    b: Float[AnyArray, " k"],
    labels: Int[AnyArray, " n"],
    *,
    weights: Weights | None = None,
    chunk_size: int | None = None,
    label_smoothing: float = 0.0,
    ignore: int | None = None,
) -> tuple[Float[Array, ""], tuple[Array, Array, Array]]:
    """`linear_cross_entropy` and its gradients (dH, dV, db), in two passes over chunks of classes.

        G = diag(c) (P − Q),    dH = Σ_chunks G Vᵀ,    dV = Hᵀ G,    db = Gᵀ 1

    with P the probabilities, Q = (1 − ε) e_yᵀ + ε / k the targets and c_i = w_i / Σ w. The entry of the label is
    −Σ_{j≠y} p_j + ε (1 − 1/k), so that it does not cancel where the label is sure.

    Derivation:
        dℓ_i = (p_i − q_i)ᵀ dz_i (as for `softmax_cross_entropy`), so dL = tr(Gᵀ dZ). With dZ = dH V + H dV + 1 dbᵀ:
        tr((G Vᵀ)ᵀ dH), tr((Hᵀ G)ᵀ dV) and (Gᵀ 1)ᵀ db. Sums over classes and columns of dV fall apart into chunks.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit or a number is out of its range; the message names the argument.

    References:
        Wijmans et al. 2024, Cut your losses in large-vocabulary language models.
    """
    head, how = _enter(h, w, b, labels, weights, chunk_size, label_smoothing, ignore)
    parts = first_pass(head, how)
    d_h, d_w, d_b = second_pass(head, parts, how)
    return _weighed(head.c, parts.losses), (d_h.astype(h.dtype), d_w, d_b)


def _enter(
    h: Any, w: Any, b: Any, labels: Any, weights: Any, chunk_size: Any, smoothing: Any, ignore: Any
) -> tuple[Head, How]:
    """The checked arguments in the form that the passes compute with."""
    _check(h, w, b, labels, weights, smoothing)
    dtype = jnp.promote_types(work_dtype(h.dtype), work_dtype(w.dtype))
    chunk = min(check_count("chunk_size", CHUNK if chunk_size is None else chunk_size), w.shape[1])
    labels = jnp.asarray(labels).astype(jnp.int32)
    present = jnp.ones(h.shape[0], dtype) if weights is None else jnp.asarray(weights, dtype)
    if ignore is not None:
        present = jnp.where(labels == ignore, 0, present)
    total = jnp.sum(present)
    c = jnp.where(total == 0, 0, present / jnp.where(total == 0, 1, total))
    rows = jnp.where(present[:, None] == 0, 0, jnp.asarray(h).astype(dtype))
    return Head(rows, jnp.asarray(w), jnp.asarray(b), c, labels), How(chunk, float(smoothing))


def _check(h: Any, w: Any, b: Any, labels: Any, weights: Any, smoothing: Any) -> None:
    for name, array in (("h", h), ("w", w), ("b", b), ("labels", labels)):
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise TypeError(f"{name} must be a JAX or NumPy array; got {type(array).__name__}")
        if name != "labels" and not is_floating(array):
            raise TypeError(f"{name} must be floating point; got {array.dtype}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if h.ndim != 2:
        raise ValueError(f"h must have shape (n, d); got {h.shape}")
    if w.ndim != 2 or h.shape[1] != w.shape[0]:
        raise ValueError(f"w must have shape (d, k) to match h of shape (n, d); got {w.shape} and {h.shape}")
    if b.shape != w.shape[1:]:
        raise ValueError(f"b must have shape {w.shape[1:]} to match w; got {b.shape}")
    if labels.shape != h.shape[:1]:
        raise ValueError(f"labels must have shape {h.shape[:1]}, one for each example of h; got {labels.shape}")
    if weights is not None:
        check_weights(h.shape[0], weights)
    if isinstance(smoothing, bool) or not isinstance(smoothing, int | float):
        raise TypeError(f"label_smoothing must be a number; got {smoothing!r}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"label_smoothing must be in [0, 1); got {smoothing}")


def _weighed(c: PerExample, losses: PerExample) -> Float[Array, ""]:
    """Σ c_i ℓ_i, rows of weight 0 left out whatever they hold."""
    return jnp.sum(jnp.where(c == 0, 0, c * losses))


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def _mean(h: Any, w: Any, b: Any, c: Any, labels: Any, how: How) -> Float[Array, ""]:
    return _weighed(c, first_pass(Head(h, w, b, c, labels), how).losses)


def _rule(how: How, primals: Any, tangents: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """dL = ⟨dH, dh⟩ + ⟨dV, dw⟩ + ⟨db, db⟩ + Σ_i ℓ_i dc_i: linear in the tangents, so that JAX can transpose it."""
    head = Head(*primals)
    parts = first_pass(head, how)
    value, tangent = _weighed(head.c, parts.losses), jnp.zeros((), head.h.dtype)
    gradients = (*second_pass(head, parts, how), jnp.where(head.c == 0, 0, parts.losses))
    for gradient, change in zip(gradients, tangents[:4], strict=True):
        if not isinstance(change, SymbolicZero):
            tangent += jnp.sum(gradient.astype(tangent.dtype) * change.astype(tangent.dtype))
    return value, tangent


_mean.defjvp(_rule, symbolic_zeros=True)
