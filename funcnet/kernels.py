"""Inner products of gradients: of the losses of pairs of examples, and of their outputs (the empirical NTK)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet import contractions
from funcnet.affine import flatten
from funcnet.boundary import check_features, check_network, lift_params
from funcnet.network import MLP, check_key
from funcnet.numbers import check_count
from funcnet.per_example import sweep_examples
from funcnet.row_chunks import in_chunks
from funcnet.sweeps import Saved, backward, forward
from funcnet.types import Features, KeyArray, Params, Targets


def grad_gram(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    key: KeyArray | None = None,
    chunk_size: int | None = None,
) -> Float[Array, "n n"]:
    """⟨∇ℓ_i, ∇ℓ_j⟩ of each pair of examples: Σ_l (A_{l−1} A_{l−1}ᵀ + 1) ∘ (Δ_l Δ_lᵀ).

    Derivation:
        ⟨a_i δ_iᵀ, a_j δ_jᵀ⟩ = tr(δ_i a_iᵀ a_j δ_jᵀ) = (a_iᵀ a_j) (δ_iᵀ δ_j), and the bias' share is δ_iᵀ δ_j.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs.
        key: The dropout key.
        chunk_size: So many rows of the result are computed at a time; by default all. Memory beside the n × n result is
            then bounded by chunk_size × n.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.
    """
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    swept = sweep_examples(net, params, x, y, None, key)
    both = swept.saved.inputs, swept.deltas

    def rows(left: Any) -> Float[Array, "m n"]:
        return contractions.gram(left, both, net.operand_dtype)

    return in_chunks(rows, both, chunk_size).astype(params[0].w.dtype)


def empirical_ntk(
    net: MLP,
    params: Params,
    x1: Features,
    x2: Features,
    *,
    key: KeyArray | None = None,
    chunk_size: int | None = None,
) -> Float[Array, "n m k k"]:
    """The empirical neural tangent kernel: [i, j, c, e] = ⟨∂outputs_c(x1_i)/∂params, ∂outputs_e(x2_j)/∂params⟩.

        Σ_l (a_{l−1,i}ᵀ a'_{l−1,j} + 1) (δ_{l,i,c}ᵀ δ'_{l,j,e})

    where δ_{l,i,c} is the cotangent of z_{l,i} for output c alone.

    Derivation:
        The sweep runs once for each unit vector e_c as cotangent of the outputs, which leaves the rows of the output
        Jacobian as a_{l−1,i} δ_{l,i,c}ᵀ; their inner products factor as those of `grad_gram` do.

    Args:
        net: The network; its loss plays no part.
        params: Its parameters.
        x1: n examples.
        x2: m examples.
        key: The dropout key, of both.
        chunk_size: So many examples of x1 are swept back at a time; by default all.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Jacot, Gabriel, Hongler 2018, Neural tangent kernel.
        Novak, Sohl-Dickstein, Schoenholz 2022, Fast finite width neural tangent kernel.
    """
    check_network(net, params)
    for name, x in (("x1", x1), ("x2", x2)):
        check_features(net, x, name)
    check_key(key)
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    lifted, k = lift_params(params), net.widths[-1]

    def saved(x: Features) -> Saved:
        return forward(net, lifted, jnp.asarray(flatten(x), lifted[0].w.dtype), key)[1]

    def jacobian(saved: Saved) -> tuple[Any, Any]:
        """The inputs of the layers, and Δ_l (n, k, width) with a row for each output of each example."""
        n = saved.z[-1].shape[0]
        units = jnp.broadcast_to(jnp.eye(k, dtype=saved.z[-1].dtype)[:, None], (k, n, k))
        return saved.inputs, jax.vmap(lambda unit: backward(net, lifted, saved, unit).deltas, out_axes=1)(units)

    right = jacobian(saved(x2))

    def rows(left: Saved) -> Float[Array, "n m k k"]:
        return contractions.kernel(jacobian(left), right, net.operand_dtype)

    return in_chunks(rows, saved(x1), chunk_size).astype(params[0].w.dtype)
