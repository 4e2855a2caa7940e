"""The cross-entropy of a linear layer over very many classes, a chunk of classes at a time: logits are never stored."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool, Float, Int

from funcnet.boundary import check_count, check_weights
from funcnet.precision import is_floating, matmul, work_dtype
from funcnet.types import AnyArray, Weights

CHUNK = 2048
"""So many classes at a time, where no other number is wished."""
Carry = TypeVar("Carry")
PerExample = Float[Array, " n"]


class Head(NamedTuple):
    """The linear layer Z = H V + 1 bᵀ and its labels.

    Attributes:
        h: The inputs, in the work dtype; 0 where c_i is 0.
        w: V, a column for each class.
        b: The bias.
        c: c_i = w_i / Σ w.
        labels: The class of each example.
    """

    h: Float[Array, "n d"]
    w: Float[AnyArray, "d k"]
    b: Float[AnyArray, " k"]
    c: PerExample
    labels: Int[Array, " n"]


class Partition(NamedTuple):
    """What the first pass over the classes leaves of each example, all relative to the logit z_y of its label.

    Attributes:
        reference: z_y; 0 where the label is masked by −∞.
        total: T = log Σ_j e^{z_j − z_y}, never below 0 but where the label is masked.
        others: 1 − p_y = Σ_{j≠y} p_j, summed and not subtracted.
        gaps: Σ_j (z_j − z_y).
        losses: ℓ_i.
    """

    reference: PerExample
    total: PerExample
    others: PerExample
    gaps: PerExample
    losses: PerExample


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
    head, chunk = _enter(h, w, b, labels, weights, chunk_size, label_smoothing, ignore)
    return _mean(*head, chunk, float(label_smoothing))


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
    head, chunk = _enter(h, w, b, labels, weights, chunk_size, label_smoothing, ignore)
    parts = _partition(head, chunk, float(label_smoothing))
    d_h, d_w, d_b = _second_pass(head, parts, chunk, float(label_smoothing))
    return _weighed(head.c, parts.losses), (d_h.astype(h.dtype), d_w, d_b)


def _enter(
    h: Any, w: Any, b: Any, labels: Any, weights: Any, chunk_size: Any, smoothing: Any, ignore: Any
) -> tuple[Head, int]:
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
    return Head(rows, jnp.asarray(w), jnp.asarray(b), c, labels), chunk


def _check(h: Any, w: Any, b: Any, labels: Any, weights: Any, smoothing: Any) -> None:
    for name, array in (("h", h), ("w", w), ("b", b), ("labels", labels)):
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise TypeError(f"{name} must be a JAX or NumPy array; got {type(array).__name__}")
        if name != "labels" and not is_floating(array):
            raise TypeError(f"{name} must be floating point; got {array.dtype}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if h.ndim != 2 or w.ndim != 2 or h.shape[1] != w.shape[0]:
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


def _over_classes(step: Callable[[Carry, Any, int], Carry], carry: Carry, k: int, chunk: int) -> Carry:
    """Run `step(carry, start, size)` for every chunk of classes, of which the last may be smaller."""
    whole = k // chunk
    carry, _ = jax.lax.scan(lambda c, start: (step(c, start, chunk), None), carry, chunk * jnp.arange(whole))
    return carry if k % chunk == 0 else step(carry, whole * chunk, k % chunk)


def _gap(
    head: Head, reference: PerExample, start: Any, size: int
) -> tuple[Float[Array, "d m"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """The columns of V of a chunk, the logits less the reference, and which of them are the labels'."""
    w = jax.lax.dynamic_slice_in_dim(head.w, start, size, axis=1).astype(head.h.dtype)
    b = jax.lax.dynamic_slice_in_dim(head.b, start, size).astype(head.h.dtype)
    gap = jnp.where(b[None] == -jnp.inf, -jnp.inf, matmul(head.h, w) + (b[None] - reference[:, None]))
    classes = jnp.asarray(start, jnp.int32) + jnp.arange(size, dtype=jnp.int32)
    return w, gap, head.labels[:, None] == classes[None]


def _partition(head: Head, chunk: int, smoothing: float) -> Partition:
    """The first pass: online sums over the classes but the label, scaled by the largest term so far."""
    k, dtype = head.w.shape[1], head.h.dtype
    known = (head.labels >= 0) & (head.labels < k)
    label = jnp.where(known, head.labels, 0)
    at_label = jnp.sum(head.h * head.w[:, label].astype(dtype).T, axis=1) + head.b[label].astype(dtype)
    own = at_label > -jnp.inf
    reference = jnp.where(own, at_label, 0)

    def step(carry: Any, start: Any, size: int) -> Any:
        largest, rest, gaps = carry
        _, gap, is_label = _gap(head, reference, start, size)
        others = jnp.where(is_label, -jnp.inf, gap)
        larger = jnp.maximum(largest, jax.lax.stop_gradient(jnp.max(others, axis=1)))
        rest = rest * jnp.exp(largest - larger) + jnp.sum(jnp.exp(others - larger[:, None]), axis=1)
        return larger, rest, gaps + jnp.sum(jnp.where(is_label, 0, gap), axis=1) if smoothing else gaps

    zeros = jnp.zeros(head.h.shape[0], dtype)
    largest, rest, gaps = _over_classes(step, (zeros, zeros, zeros), k, chunk)
    alone = jnp.log(jnp.where(rest == 0, 1, rest))  # where the label is masked, and its own e⁰ is not in the sum
    total = largest + jnp.where(own, jnp.log1p(jnp.where(own, rest + jnp.expm1(-largest), 0)), alone)
    losses = jnp.where(own, total - smoothing / k * gaps if smoothing else total, jnp.inf)
    others = rest * jnp.exp(largest - total)
    return Partition(reference, total, others, gaps, jnp.where(known, losses, jnp.nan))


def _second_pass(head: Head, parts: Partition, chunk: int, smoothing: float) -> tuple[Array, Array, Array]:
    """The second pass: logits once more, and with them dH, dV and db."""
    d, k = head.w.shape
    c = jnp.where((head.labels >= 0) & (head.labels < k), head.c, 0)[:, None]
    on_label = (smoothing - smoothing / k - parts.others)[:, None]

    def step(carry: Any, start: Any, size: int) -> Any:
        d_h, d_w, d_b = carry
        w, gap, is_label = _gap(head, parts.reference, start, size)
        g = c * jnp.where(is_label, on_label, jnp.exp(gap - parts.total[:, None]) - smoothing / k)
        d_w = jax.lax.dynamic_update_slice_in_dim(d_w, matmul(head.h.T, g).astype(d_w.dtype), start, axis=1)
        d_b = jax.lax.dynamic_update_slice_in_dim(d_b, jnp.sum(g, axis=0).astype(d_b.dtype), start, axis=0)
        return d_h + matmul(g, w.T), d_w, d_b

    first = jnp.zeros_like(head.h), jnp.zeros((d, k), head.w.dtype), jnp.zeros(k, head.b.dtype)
    return _over_classes(step, first, k, chunk)


def _weighed(c: PerExample, losses: PerExample) -> Float[Array, ""]:
    """Σ c_i ℓ_i, rows of weight 0 left out whatever they hold."""
    return jnp.sum(jnp.where(c == 0, 0, c * losses))


@partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def _mean(h: Any, w: Any, b: Any, c: Any, labels: Any, chunk: int, smoothing: float) -> Float[Array, ""]:
    return _weighed(c, _partition(Head(h, w, b, c, labels), chunk, smoothing).losses)


def _rule(chunk: int, smoothing: float, primals: Any, tangents: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """dL = ⟨dH, dh⟩ + ⟨dV, dw⟩ + ⟨db, db⟩ + Σ_i ℓ_i dc_i: linear in the tangents, so that JAX can transpose it."""
    head = Head(*primals)
    parts = _partition(head, chunk, smoothing)
    value, tangent = _weighed(head.c, parts.losses), jnp.zeros((), head.h.dtype)
    gradients = (*_second_pass(head, parts, chunk, smoothing), jnp.where(head.c == 0, 0, parts.losses))
    for gradient, change in zip(gradients, tangents[:4], strict=True):
        if not isinstance(change, SymbolicZero):
            tangent += jnp.sum(gradient.astype(tangent.dtype) * change.astype(tangent.dtype))
    return value, tangent


_mean.defjvp(_rule, symbolic_zeros=True)
