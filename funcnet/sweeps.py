"""The forward sweep and the backward sweep of an MLP. They know no loss: the cotangent of the outputs comes in.

A sweep computes in the work dtype: float32 for float16 and bfloat16 parameters, else the parameters' own. It covers the
layers that `params` has: all, or only the first of them, and then A_l of the last of these stands for the outputs.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from funcnet.affine import affine_map
from funcnet.network import MLP
from funcnet.precision import matmul, transpose
from funcnet.rules import check_shape
from funcnet.types import KeyArray, Params

Rows = Float[Array, "n _"]


class Saved(NamedTuple):
    """What the forward sweep leaves for every other sweep and contraction.

    Attributes:
        inputs: A_0 … A_{L−1}, the input of each layer.
        z: Z_1 … Z_L, the pre-activations.
        hidden: φ_1(Z_1) … φ_L(Z_L), before dropout.
        masks: M_1 … M_{L−1} with A_l = M_l ∘ φ_l(Z_l), or None without dropout.
    """

    inputs: tuple[Rows, ...]
    z: tuple[Rows, ...]
    hidden: tuple[Rows, ...]
    masks: tuple[Rows, ...] | None


class Cotangents(NamedTuple):
    """What the backward sweep leaves.

    Attributes:
        deltas: Δ_1 … Δ_L, those of the pre-activations Z_l.
        hidden: Those of φ_1(Z_1) … φ_L(Z_L), before dropout.
        contracted: contract(A_{l−1}, Δ_l) of each layer; empty without one.
    """

    deltas: tuple[Rows, ...]
    hidden: tuple[Rows, ...]
    contracted: tuple[Any, ...]


def dropout_masks(net: MLP, key: KeyArray | None, n: int, dtype: DTypeLike) -> tuple[Rows, ...] | None:
    """Inverted dropout: 0 with probability p = `net.dropout`, else 1 / (1 − p), for every hidden unit of every example.

    One draw serves all layers, side by side. It is in float32 whatever the dtype, so that the same key drops the same
    units in every precision; row i does not depend on the number of rows.
    """
    if net.dropout is None or key is None or net.n_layers == 1:
        return None
    keep = 1 - jnp.asarray(net.dropout, jnp.float32)
    ends = list(itertools.accumulate(net.widths[1:-1]))
    kept = jax.random.bernoulli(key, keep, (n, ends[-1]))
    masks = jnp.where(kept, 1 / keep.astype(dtype), jnp.zeros((), dtype))
    return tuple(masks[:, start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))


def forward(net: MLP, params: Params, x: Float[Array, "n d"], key: KeyArray | None) -> tuple[Rows, Saved]:
    """The outputs A_L, and what the other sweeps need.

    Z_l = A_{l−1} W_l + 1 b_lᵀ,    A_l = M_l ∘ φ_l(Z_l)
    """
    return masked_forward(net, params, x, dropout_masks(net, key, x.shape[0], x.dtype))


def masked_forward(
    net: MLP, params: Params, x: Float[Array, "n d"], masks: tuple[Rows, ...] | None
) -> tuple[Rows, Saved]:
    """`forward` with masks that are drawn already."""
    activations = net.activations[: len(params)]
    inputs, pre_activations, hidden = [x], [], []
    for i, (layer, activation) in enumerate(zip(params, activations, strict=True)):
        z = affine_map(inputs[-1], layer.w, layer.b, net.operand_dtype)
        h = activation.value(z)
        check_shape(f"value(z) of activation {activation.name!r}", h, z.shape)
        pre_activations.append(z)
        hidden.append(h)
        inputs.append(h if masks is None or i == net.n_layers - 1 else masks[i] * h)
    outputs = inputs.pop()
    return outputs, Saved(tuple(inputs), tuple(pre_activations), tuple(hidden), masks)


def backward(
    net: MLP,
    params: Params,
    saved: Saved,
    d_outputs: Rows,
    contract: Callable[[Rows, Rows], Any] | None = None,
) -> Cotangents:
    """The cotangents of the pre-activations, and what `contract` makes of each, from the cotangent of the outputs.

        dH_L = d_outputs,    Δ_l = φ_l'(Z_l) ∘ dH_l,    dH_{l−1} = M_{l−1} ∘ (Δ_l W_lᵀ)

    The last layer is contracted before the sweep goes on: XLA then holds less at a time, and takes no longer.

    Derivation:
        dℓ = tr(dH_lᵀ dφ(Z_l)) = tr(dH_lᵀ (φ'(Z_l) ∘ dZ_l)) = tr((dH_l ∘ φ'(Z_l))ᵀ dZ_l), which is Δ_l. Through the
        layer's input alone, dZ_l = dA_{l−1} W_l, so dℓ = tr(Δ_lᵀ dA_{l−1} W_l) = tr((Δ_l W_lᵀ)ᵀ dA_{l−1}), and
        dA_{l−1} = M_{l−1} ∘ dφ(Z_{l−1}).

    References:
        Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors.
    """
    last, masks = len(params) - 1, saved.masks or ()
    deltas, d_hidden, contracted = [], [masks[last] * d_outputs if 0 <= last < len(masks) else d_outputs], []
    for i in reversed(range(len(params))):
        slope = net.activations[i].slope(saved.z[i], saved.hidden[i])
        check_shape(f"slope(z, h) of activation {net.activations[i].name!r}", slope, saved.z[i].shape)
        delta = slope * d_hidden[-1]
        if contract is not None:
            contracted.append(contract(saved.inputs[i], delta))
            if 0 < i == last:
                contracted[0], delta = jax.lax.optimization_barrier((contracted[0], delta))
        deltas.append(delta)
        if i > 0:
            d_input = matmul(delta, transpose(params[i].w, net.operand_dtype), net.operand_dtype)
            d_hidden.append(masks[i - 1] * d_input if masks else d_input)
    return Cotangents(tuple(reversed(deltas)), tuple(reversed(d_hidden)), tuple(reversed(contracted)))
