"""Parts of the Gauss-Newton matrix of `funcnet.ggn_vp`: its diagonal, and its layers' blocks as Kronecker products.

Both come from the rows of S_i, with S_iᵀ S_i = H_i, each of them a cotangent of the outputs; with a random key from one
random combination of these, whose expectation they are.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet.boundary import Call, enter
from funcnet.contractions import gradient
from funcnet.network import MLP, check_key
from funcnet.precision import cast_like, matmul, transpose
from funcnet.row_chunks import summed_in_chunks
from funcnet.sweeps import Rows, Saved, backward, forward
from funcnet.types import Features, KeyArray, Layer, Params, Targets, Weights


def factor_of(net: MLP, call: Call, outputs: Rows) -> Float[Array, "n c k"]:
    """S_i with S_iᵀ S_i = H_i, of each example."""
    factor = net.loss.hessian_factor(outputs, call.y)
    n, k = outputs.shape
    if factor.ndim != 3 or (factor.shape[0], factor.shape[2]) != (n, k):
        expected = f"({n}, rows, {k})"
        raise ValueError(
            f"hessian_factor(outputs, y) of loss {net.loss.name!r} must have shape {expected}; got {factor.shape}"
        )
    return factor


def _cotangents(net: MLP, call: Call, outputs: Rows, sample: KeyArray | None) -> Float[Array, "c n k"]:
    """The rows S_{i,c} of the factors; with a key, their one sum S_iᵀ ε_i with random signs.

    Derivation:
        E (S_iᵀ ε)(S_iᵀ ε)ᵀ = S_iᵀ E[ε εᵀ] S_i = S_iᵀ S_i, for entries of ε that are ±1 and independent.
    """
    factor = factor_of(net, call, outputs)
    if sample is None:
        return jnp.swapaxes(factor, 0, 1)
    signs = jax.random.rademacher(sample, factor.shape[:2], factor.dtype)
    return jnp.sum(signs[:, :, None] * factor, axis=1)[None]


def _summed(net: MLP, params: Params, saved: Saved, cotangents: Any, contract: Callable[[Rows, Rows], Any]) -> Any:
    """For each layer the sum, over cotangents of the outputs, of contract(A_{l−1}, Δ_l), one after the other."""

    def one(chunk: Float[Array, "1 n k"]) -> Any:
        return backward(net, params, saved, chunk[0], contract).contracted

    return summed_in_chunks(one, cotangents, 1)


def ggn_diagonal(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    sample: KeyArray | None = None,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Params:
    """The diagonal of the generalized Gauss-Newton matrix of `ggn_vp`, tree like params: exact, or estimated.

        W_l: (A_{l−1} ∘ A_{l−1})ᵀ diag(c) Σ_j (Δ_l^j ∘ Δ_l^j) + l2,    b_l: 1ᵀ diag(c) Σ_j (Δ_l^j ∘ Δ_l^j)

    where Δ_l^j are the cotangents that row j of each S_i, as cotangent of the outputs, becomes at layer l. S_iᵀ S_i is
    H_i, the Hessian of ℓ_i in the outputs (`Loss.hessian_factor`), and c_i = w_i / Σ w. In networks of piecewise linear
    activations it is the diagonal of the Hessian as well, away from kinks.

    Derivation:
        c_i J_iᵀ H_i J_i = c_i Σ_j (S_{i,j} J_i)ᵀ (S_{i,j} J_i), and S_{i,j} J_i is a_{l−1,i} (δ_{l,i}^j)ᵀ for W_l and
        δ_{l,i}^j for b_l: the entries squared are a_p² δ_q². The weights stay outside of S: roots of negative ones do
        not exist.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs. An example whose label is outside
            0 … k − 1 does not count.
        sample: A random key: then one backward sweep, of S_iᵀ ε_i with random signs ε_i in the place of the rows of
            S_i, gives an unbiased estimate.
        weights: One weight for each example; may be negative.
        key: The dropout key.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Becker, LeCun 1989, Improving the convergence of back-propagation learning with second order methods.
        Dangel, Kunstner, Hennig 2020, BackPACK: packing more into backprop.
    """
    check_key(sample, "sample")
    call = enter(net, params, x, y, weights, key)
    outputs, saved = forward(net, call.params, call.x, key)
    cotangents = _cotangents(net, call, outputs, sample)
    squares = _summed(net, call.params, saved, cotangents, lambda _, delta: jnp.square(delta))
    pairs = zip(saved.inputs, squares, strict=True)
    diagonal = tuple(gradient(jnp.square(a), call.c[:, None] * total, net.operand_dtype) for a, total in pairs)
    if net.l2 is not None:
        diagonal = tuple(Layer(layer.w + jnp.asarray(net.l2, layer.w.dtype), layer.b) for layer in diagonal)
    return cast_like(diagonal, params)


class KroneckerFactors(NamedTuple):
    """A layer's part of the Gauss-Newton matrix as a Kronecker product, A ⊗ G: V ↦ A V G for weights in × out.

    Attributes:
        a: A = Σ_i c_i a_{l−1,i} a_{l−1,i}ᵀ, of the layer's inputs.
        g: G = Σ_i c_i Σ_j δ_{l,i}^j (δ_{l,i}^j)ᵀ, of the back-propagated rows of S_i.
    """

    a: Float[Array, "i i"]
    g: Float[Array, "o o"]


def kfac_factors(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    sample: KeyArray | None = None,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> tuple[KroneckerFactors, ...]:
    """(A, G) of each layer, whose Kronecker product stands for the layer's block of the Gauss-Newton matrix; no l2.

        A_l = A_{l−1}ᵀ diag(c) A_{l−1},    G_l = Σ_j (Δ_l^j)ᵀ diag(c) Δ_l^j

    where Δ_l^j are the cotangents that row j of each S_i, as cotangent of the outputs, becomes at layer l. S_iᵀ S_i is
    H_i, the Hessian of ℓ_i in the outputs (`Loss.hessian_factor`), and c_i = w_i / Σ w. The bias' block is G_l itself.

    Derivation:
        The block of W_l is Σ_i c_i Σ_j (a aᵀ) ⊗ (δ^j δ^jᵀ); with a and δ taken as independent under the weights c, the
        mean of the products becomes the product of the means. For one example it is exact.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs. An example whose label is outside
            0 … k − 1 does not count.
        sample: A random key: then G is estimated without bias by one backward sweep, of S_iᵀ ε_i with random signs.
        weights: One weight for each example; may be negative.
        key: The dropout key.

    Returns:
        For each layer a pair with `a`, in × in, and `g`, out × out. The block of `w.ravel()` is `jnp.kron(a, g)`, that
        of `b` is `g`.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Martens, Grosse 2015, Optimizing neural networks with Kronecker-factored approximate curvature.
        Botev, Ritter, Barber 2017, Practical Gauss-Newton optimisation for deep learning.
    """
    check_key(sample, "sample")
    call = enter(net, params, x, y, weights, key)
    outputs, saved = forward(net, call.params, call.x, key)
    factors = kronecker_factors(net, call, outputs, saved, sample)
    return tuple(KroneckerFactors(*(m.astype(params[0].w.dtype) for m in pair)) for pair in factors)


def kronecker_factors(
    net: MLP, call: Call, outputs: Rows, saved: Saved, sample: KeyArray | None, with_bias: bool = False
) -> tuple[KroneckerFactors, ...]:
    """`kfac_factors` of what the forward sweep left, in the work dtype; with the bias, A has a row for its input of 1.

    Derivation:
        As of `kfac_factors`.
    """

    def moment(rows: Rows) -> Float[Array, "w w"]:
        return matmul(transpose(rows, net.operand_dtype), call.c[:, None] * rows, net.operand_dtype)

    cotangents = _cotangents(net, call, outputs, sample)
    of_deltas = _summed(net, call.params, saved, cotangents, lambda _, delta: moment(delta))
    inputs = saved.inputs
    if with_bias:
        inputs = tuple(jnp.concatenate([a, jnp.ones_like(a[:, :1])], axis=1) for a in inputs)
    return tuple(KroneckerFactors(moment(a), g) for a, g in zip(inputs, of_deltas, strict=True))
