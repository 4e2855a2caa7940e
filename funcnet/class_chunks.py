"""A linear layer and its softmax cross-entropy, a chunk of classes at a time: the passes over the classes.

Logits are never stored: the first pass leaves a few numbers of each example, the second computes the logits once more
and with them the gradients. `funcnet.linear_cross_entropy` and `funcnet.value_and_grad` stand on it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from funcnet.precision import matmul, transpose
from funcnet.types import AnyArray

Carry = TypeVar("Carry")
PerExample = Float[Array, " n"]


class How(NamedTuple):
    """What is known before the passes are compiled.

    Attributes:
        chunk: So many classes at a time.
        smoothing: ε of the target (1 − ε) e_y + ε / k.
        operand_dtype: What operands of matrix products are rounded to; None leaves them.
    """

    chunk: int
    smoothing: float = 0.0
    operand_dtype: str | None = None


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


def _over_classes(step: Callable[[Carry, Any, int], Carry], carry: Carry, k: int, chunk: int) -> Carry:
    """Run `step(carry, start, size)` for every chunk of classes, of which the last may be smaller."""
    whole = k // chunk
    carry, _ = jax.lax.scan(lambda c, start: (step(c, start, chunk), None), carry, chunk * jnp.arange(whole))
    return carry if k % chunk == 0 else step(carry, whole * chunk, k % chunk)


def _gap(
    head: Head, reference: PerExample, start: Any, size: int, operand_dtype: str | None
) -> tuple[Float[Array, "d m"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """The columns of V of a chunk, the logits less the reference, and which of them are the labels'."""
    w = jax.lax.dynamic_slice_in_dim(head.w, start, size, axis=1).astype(head.h.dtype)
    b = jax.lax.dynamic_slice_in_dim(head.b, start, size).astype(head.h.dtype)
    z = matmul(head.h, w, operand_dtype) + (b[None] - reference[:, None])
    classes = jnp.asarray(start, jnp.int32) + jnp.arange(size, dtype=jnp.int32)
    return w, jnp.where(b[None] == -jnp.inf, -jnp.inf, z), head.labels[:, None] == classes[None]


def _is_known(head: Head) -> Bool[Array, " n"]:
    """Whether a label is one of the classes."""
    return (head.labels >= 0) & (head.labels < head.w.shape[1])


def _label_logits(head: Head, operand_dtype: str | None) -> PerExample:
    """z_y; that of class 0 where the label is unknown."""
    label, dtype = jnp.where(_is_known(head), head.labels, 0), head.h.dtype
    h, columns = head.h, head.w[:, label].astype(dtype).T
    if operand_dtype is not None:
        h, columns = h.astype(operand_dtype).astype(dtype), columns.astype(operand_dtype).astype(dtype)
    return jnp.sum(h * columns, axis=1) + head.b[label].astype(dtype)


def first_pass(head: Head, how: How) -> Partition:
    """Online sums over the classes but the label, scaled by the largest term so far."""
    k, dtype = head.w.shape[1], head.h.dtype
    at_label = _label_logits(head, how.operand_dtype)
    own = at_label > -jnp.inf
    reference = jnp.where(own, at_label, 0)

    def step(carry: Any, start: Any, size: int) -> Any:
        largest, rest, gaps = carry
        _, gap, is_label = _gap(head, reference, start, size, how.operand_dtype)
        others = jnp.where(is_label, -jnp.inf, gap)
        larger = jnp.maximum(largest, jax.lax.stop_gradient(jnp.max(others, axis=1)))
        rest = rest * jnp.exp(largest - larger) + jnp.sum(jnp.exp(others - larger[:, None]), axis=1)
        return larger, rest, gaps + jnp.sum(jnp.where(is_label, 0, gap), axis=1) if how.smoothing else gaps

    zeros = jnp.zeros(head.h.shape[0], dtype)
    largest, rest, gaps = _over_classes(step, (zeros, zeros, zeros), k, how.chunk)
    alone = jnp.log(jnp.where(rest == 0, 1, rest))  # where the label is masked, and its own e⁰ is not in the sum
    total = largest + jnp.where(own, jnp.log1p(jnp.where(own, rest + jnp.expm1(-largest), 0)), alone)
    losses = jnp.where(own, total - how.smoothing / k * gaps if how.smoothing else total, jnp.inf)
    others = rest * jnp.exp(largest - total)
    return Partition(reference, total, others, gaps, jnp.where(_is_known(head), losses, jnp.nan))


def second_pass(head: Head, parts: Partition, how: How) -> tuple[Array, Array, Array]:
    """Logits once more, and with them the gradients (dH, dV, db) of Σ c_i ℓ_i.

        G = diag(c) (P − Q),    dH = Σ_chunks G Vᵀ,    dV = Hᵀ G,    db = Gᵀ 1

    with P the probabilities and Q = (1 − ε) e_yᵀ + ε / k the targets. The entry of the label is −Σ_{j≠y} p_j +
    ε (1 − 1/k), so that it does not cancel where the label is sure.

    Derivation:
        dℓ_i = (p_i − q_i)ᵀ dz_i (as for `softmax_cross_entropy`), so Σ c_i dℓ_i = tr(Gᵀ dZ). With
        dZ = dH V + H dV + 1 dbᵀ: tr((G Vᵀ)ᵀ dH), tr((Hᵀ G)ᵀ dV) and (Gᵀ 1)ᵀ db. Sums over classes and columns of dV
        fall apart into chunks.

    References:
        Wijmans et al. 2024, Cut your losses in large-vocabulary language models.
    """
    (d, k), rounded = head.w.shape, how.operand_dtype
    c = jnp.where(_is_known(head), head.c, 0)[:, None]
    on_label = (how.smoothing - how.smoothing / k - parts.others)[:, None]
    h_transposed = transpose(head.h, rounded)

    def step(carry: Any, start: Any, size: int) -> Any:
        d_h, d_w, d_b = carry
        w, gap, is_label = _gap(head, parts.reference, start, size, rounded)
        g = c * jnp.where(is_label, on_label, jnp.exp(gap - parts.total[:, None]) - how.smoothing / k)
        columns = matmul(h_transposed, g, rounded).astype(d_w.dtype)
        d_w = jax.lax.dynamic_update_slice_in_dim(d_w, columns, start, axis=1)
        d_b = jax.lax.dynamic_update_slice_in_dim(d_b, jnp.sum(g, axis=0).astype(d_b.dtype), start, axis=0)
        return d_h + matmul(g, transpose(w, rounded), rounded), d_w, d_b

    first = jnp.zeros_like(head.h), jnp.zeros((d, k), head.w.dtype), jnp.zeros(k, head.b.dtype)
    return _over_classes(step, first, k, how.chunk)
