"""The R-operator: what both sweeps become where the parameters move in a direction, R{f} = d/dt f(params + t V).

The direction has the form of the parameters: V_l beside W_l, v_l beside b_l. Masks of dropout do not move, nor do the
features, so that R{A_0} = 0, which is left out of every product.
"""

from typing import NamedTuple

from funcnet.contractions import gradient
from funcnet.network import MLP
from funcnet.precision import matmul, transpose
from funcnet.sweeps import Rows, Saved
from funcnet.types import Layer, Params


class Tangents(NamedTuple):
    """What the forward sweep's derivative leaves.

    Attributes:
        inputs: R{A_0} … R{A_{L−1}}; None for R{A_0} = 0.
        z: R{Z_1} … R{Z_L}.
    """

    inputs: tuple[Rows | None, ...]
    z: tuple[Rows, ...]


def forward_tangents(net: MLP, params: Params, saved: Saved, direction: Params) -> tuple[Rows, Tangents]:
    """R{A_L}, and what the backward sweep's derivative needs.

        R{Z_l} = R{A_{l−1}} W_l + A_{l−1} V_l + 1 v_lᵀ,    R{A_l} = M_l ∘ φ_l'(Z_l) ∘ R{Z_l}

    Derivation:
        dZ_l = dA_{l−1} W_l + A_{l−1} dW_l + 1 db_lᵀ and dA_l = M_l ∘ φ_l'(Z_l) ∘ dZ_l, with dW_l = V_l dt and
        db_l = v_l dt.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    masks, r_a, inputs, z = saved.masks or (), None, [], []
    for i, (layer, moved) in enumerate(zip(params, direction, strict=True)):
        r_z = matmul(saved.inputs[i], moved.w, net.operand_dtype) + moved.b[None]
        if r_a is not None:
            r_z = r_z + matmul(r_a, layer.w, net.operand_dtype)
        inputs.append(r_a)
        z.append(r_z)
        r_h = net.activations[i].slope(saved.z[i], saved.hidden[i]) * r_z
        r_a = masks[i] * r_h if i < len(masks) else r_h
    assert r_a is not None  # a network has layers
    return r_a, Tangents(tuple(inputs), tuple(z))


def backward_tangents(
    net: MLP,
    params: Params,
    saved: Saved,
    direction: Params,
    tangents: Tangents,
    d_outputs: Rows,
    r_d_outputs: Rows,
) -> Params:
    """R{dW_l}, R{db_l} from the cotangent of the outputs and its own derivative.

        R{Δ_l} = φ_l' ∘ R{dH_l} + φ_l'' ∘ R{Z_l} ∘ dH_l,    R{dH_{l−1}} = M_{l−1} ∘ (R{Δ_l} W_lᵀ + Δ_l V_lᵀ),
        R{dW_l} = R{A_{l−1}}ᵀ Δ_l + A_{l−1}ᵀ R{Δ_l},    R{db_l} = R{Δ_l}ᵀ 1

    beside Δ_l = φ_l' ∘ dH_l and dH_{l−1} = M_{l−1} ∘ (Δ_l W_lᵀ) of the backward sweep.

    Derivation:
        Each line is the differential of one of the backward sweep's by the product rule: dΔ_l = dφ_l'(Z_l) ∘ dH_l +
        φ_l' ∘ d(dH_l) with dφ_l'(Z_l) = φ_l''(Z_l) ∘ dZ_l; d(Δ_l W_lᵀ) = dΔ_l W_lᵀ + Δ_l dW_lᵀ; d(A_{l−1}ᵀ Δ_l) =
        dA_{l−1}ᵀ Δ_l + A_{l−1}ᵀ dΔ_l.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian.
    """
    masks, operand_dtype = saved.masks or (), net.operand_dtype
    d_h, r_d_h, found = d_outputs, r_d_outputs, []
    for i in reversed(range(len(params))):
        rule, where = net.activations[i], (saved.z[i], saved.hidden[i])
        slope = rule.slope(*where)
        delta, r_delta = slope * d_h, slope * r_d_h
        if not rule.is_piecewise_linear:
            r_delta = r_delta + rule.curvature(*where) * tangents.z[i] * d_h
        moved, r_input = gradient(saved.inputs[i], r_delta, operand_dtype), tangents.inputs[i]
        if r_input is not None:
            moved = Layer(moved.w + gradient(r_input, delta, operand_dtype).w, moved.b)
        found.append(moved)
        if i > 0:
            weights, turned = (transpose(w, operand_dtype) for w in (params[i].w, direction[i].w))
            d_h, r_d_h = (
                matmul(delta, weights, operand_dtype),
                matmul(r_delta, weights, operand_dtype) + matmul(delta, turned, operand_dtype),
            )
            if masks:
                d_h, r_d_h = masks[i - 1] * d_h, masks[i - 1] * r_d_h
    return tuple(reversed(found))
