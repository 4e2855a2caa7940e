"""`funcnet.loss` for those who differentiate it themselves: JAX then runs the closed form instead of its own tape."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from funcnet.boundary import check_call, enter
from funcnet.gradients import loss, parameter_gradient, row_gradient, squared_weights
from funcnet.network import MLP
from funcnet.precision import is_floating
from funcnet.types import Features, KeyArray, Params, Targets, Weights


def closed_form_loss(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Float[Array, ""]:
    """`funcnet.loss`, differentiated by the closed form of `funcnet.value_and_grad` in forward and reverse mode.

        dL = ⟨∂L/∂params, d params⟩ + ⟨∂L/∂x, dx⟩ + Σ_i (ℓ_i − Σ_j c_j ℓ_j) dw_i / Σ w + ½ ‖W‖² d l2

    Made for code that calls `jax.grad` or `jax.value_and_grad` itself, such as the line searches of Optax. The rule is
    linear in the tangents, so JAX transposes it for reverse mode and differentiates it again for Hessians.

    Derivation:
        For params and x as in `value_and_grad`. With D = Σ_j w_j ℓ_j / Σ w, dD = Σ_i (ℓ_i − D) dw_i / Σ w by the
        quotient rule.

    Raises:
        TypeError: If an argument is not of its kind, or on differentiation in y or in `net.dropout`, for which there
            is no rule here (`funcnet.loss` can be differentiated in y).
        ValueError: If the shapes do not fit; the message names the argument.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.half_squared_error)
    >>> params = fn.init(jax.random.key(0), net)
    >>> grads = jax.grad(fn.closed_form_loss, argnums=1)(net, params, jnp.ones((5, 3)), jnp.ones((5, 2)))
    >>> grads[0].w.shape
    (3, 4)
    """
    check_call(net, params, x, y, weights, key)
    return _closed_form_loss(net, params, x, y, weights, key)


@jax.custom_jvp
def _closed_form_loss(
    net: MLP, params: Params, x: Features, y: Targets, weights: Weights | None, key: KeyArray | None
) -> Float[Array, ""]:
    return loss(net, params, x, y, weights=weights, key=key)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


def _inner(gradient: Any, tangent: Any) -> Float[Array, ""]:
    """⟨gradient, tangent⟩ over all leaves, those with a tangent of 0 left out."""
    total = jnp.zeros((), jax.tree.leaves(gradient)[0].dtype)
    for g, t in zip(jax.tree.leaves(gradient), jax.tree.leaves(tangent, is_leaf=_is_zero), strict=True):
        if not _is_zero(t):
            total += jnp.sum(g * t.reshape(g.shape).astype(g.dtype))
    return total


def _rule(primals: Any, tangents: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
    net, params, x, y, weights, key = primals
    d_net, d_params, d_x, d_y, d_weights, _ = tangents
    for name, argument, tangent in (("y", y, d_y), ("net.dropout", net.dropout, d_net.dropout)):
        if tangent is not None and not _is_zero(tangent) and is_floating(argument):
            raise TypeError(f"closed_form_loss has no rule for its derivative in {name}; differentiate funcnet.loss")
    call = enter(net, params, x, y, weights, key)
    swept, grads = parameter_gradient(net, call, key)
    tangent = _inner(grads, d_params)
    if not _is_zero(d_x):
        tangent += _inner(row_gradient(net, call, swept), d_x)
    if weights is not None and not _is_zero(d_weights):
        total = jnp.sum(weights.astype(call.c.dtype))
        relative = swept.losses - jnp.sum(call.c * swept.losses)
        tangent += _inner(jnp.where(total == 0, 0, relative / jnp.where(total == 0, 1, total)), d_weights)
    if net.l2 is not None:
        tangent += _inner(0.5 * squared_weights(call.params), d_net.l2)
    dtype = params[0].w.dtype
    return swept.value.astype(dtype), tangent.astype(dtype)


_closed_form_loss.defjvp(_rule, symbolic_zeros=True)
