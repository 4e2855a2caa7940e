"""The loss' second derivative in the parameters, times a direction: Hessian and Gauss-Newton products.

Both belong to L = Σ wᵢ ℓᵢ / Σ wᵢ + ½ · l2 · Σ ‖W‖². The generalized Gauss-Newton matrix is Σ_i c_i J_iᵀ H_i J_i (+ l2
on W), with J_i the Jacobian of the outputs of `funcnet.apply` in the parameters and H_i the Hessian of ℓ_i in the
outputs: the Hessian of L without the curvature of the network. At kinks curvatures are 0, as they are to
`jax.hessian`. An example whose label is outside 0 … k − 1 does not count, as in the gradient.
"""

from funcnet.boundary import Call, check_tangent, enter, lift_params
from funcnet.contractions import gradient
from funcnet.gradients import with_penalty
from funcnet.network import MLP
from funcnet.precision import cast_like
from funcnet.rules import check_shape
from funcnet.sweeps import Rows, Saved, backward, forward
from funcnet.tangents import backward_tangents, forward_tangents
from funcnet.types import Features, KeyArray, Layer, Params, Targets, Weights


def hvp(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    tangent: Params,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Params:
    """The Hessian of `funcnet.loss` in the parameters, times a tangent: tree like params.

        R{dW_l} = R{A_{l−1}}ᵀ Δ_l + A_{l−1}ᵀ R{Δ_l} + l2 · V_l,    R{db_l} = R{Δ_l}ᵀ 1

    from the two sweeps and their own derivatives in the direction (V, v), where the outputs' cotangent c g moves by
    c H R{A_L}.

    Derivation:
        Hess · (V, v) = d/dt ∇L(params + t (V, v)) at t = 0: the differential of every line of the two sweeps, in
        `funcnet.tangents`. In between, dg_i = H_i da_{L,i}. The penalty's gradient l2 · W_l moves by l2 · V_l.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs. An example whose label is outside
            0 … k − 1 does not count.
        tangent: The direction: tree, shapes and dtype of params.
        weights: One weight for each example; may be negative.
        key: The dropout key; the same key drops the same units as in `loss`.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> params, tangent = (fn.init(jax.random.key(i), net) for i in (0, 1))
    >>> product = jax.jit(fn.hvp)(net, params, jnp.ones((5, 3)), jnp.array([0, 1, 1, 0, 1]), tangent)
    >>> product[0].w.shape
    (3, 4)
    """
    call, direction = _enter(net, params, x, y, tangent, weights, key)
    outputs, saved = forward(net, call.params, call.x, key)
    r_outputs, tangents = forward_tangents(net, call.params, saved, direction)
    g, r_g = net.loss.gradient(outputs, call.y), net.loss.hessian_action(outputs, call.y, r_outputs)
    check_shape(f"hessian_action(outputs, y, v) of loss {net.loss.name!r}", r_g, outputs.shape)
    c = call.c[:, None]
    moved = backward_tangents(net, call.params, saved, direction, tangents, c * g, c * r_g)
    return cast_like(with_penalty(net, direction, moved), params)


def ggn_vp(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    tangent: Params,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Params:
    """The generalized Gauss-Newton matrix of `funcnet.loss`, linearised at `funcnet.apply`, times a tangent.

        Σ_i c_i J_iᵀ H_i J_i (V, v) + l2 · (V, 0)

    Derivation:
        With the outputs linear in the parameters, da_{L,i} = J_i d params, and d²L = Σ_i c_i da_{L,i}ᵀ H_i da_{L,i} =
        tr(d paramsᵀ Σ_i c_i J_iᵀ H_i J_i d params). J_i times a direction is R{A_L} of the forward sweep; J_iᵀ times a
        cotangent is the backward sweep.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs. An example whose label is outside
            0 … k − 1 does not count.
        tangent: The direction: tree, shapes and dtype of params.
        weights: One weight for each example; may be negative.
        key: The dropout key.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Schraudolph 2002, Fast curvature matrix-vector products for second-order gradient descent.
    """
    call, direction = _enter(net, params, x, y, tangent, weights, key)
    outputs, saved = forward(net, call.params, call.x, key)
    return cast_like(ggn_product(net, call, outputs, saved, direction), params)


def ggn_product(net: MLP, call: Call, outputs: Rows, saved: Saved, direction: Params) -> Params:
    """`ggn_vp` of what the forward sweep left, in the work dtype.

    Derivation:
        As of `ggn_vp`.
    """
    r_outputs, _ = forward_tangents(net, call.params, saved, direction)
    r_g = net.loss.hessian_action(outputs, call.y, r_outputs)
    check_shape(f"hessian_action(outputs, y, v) of loss {net.loss.name!r}", r_g, outputs.shape)
    return with_penalty(net, direction, transposed_jacobian_product(net, call.params, saved, call.c[:, None] * r_g))


def transposed_jacobian_product(net: MLP, params: Params, saved: Saved, d_outputs: Rows) -> Params:
    """Σ_i J_iᵀ d_outputs_i.

    Derivation:
        The backward sweep for any cotangent: tr(d_outputsᵀ dA_L) = Σ_i d_outputs_iᵀ J_i d params.
    """

    def contract(a: Rows, delta: Rows) -> Layer:
        return gradient(a, delta, net.operand_dtype)

    return backward(net, params, saved, d_outputs, contract).contracted


def _enter(
    net: MLP, params: Params, x: Features, y: Targets, tangent: Params, weights: Weights | None, key: KeyArray | None
) -> tuple[Call, Params]:
    """The checked arguments, and the tangent in the dtype they are computed in."""
    call = enter(net, params, x, y, weights, key)
    check_tangent(params, tangent)
    return call, lift_params(tangent)
