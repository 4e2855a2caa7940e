"""How quantities of second order, and derivatives in the inputs, are put before the checker.

Each is the gradient of a function of first-order quantities that are proven themselves: of the gradient, of the
Jacobian of the outputs in the parameters (written out by backward sweeps of single outputs), or of that in the inputs.
"""

from typing import Any

import jax
import jax.numpy as jnp

from funcnet import contractions, curvature_blocks, curvature_products, damped_step, sweeps
from funcnet.boundary import enter
from funcnet.checking import GradientReport, check_gradient
from funcnet.gradients import apply, value_and_grad
from funcnet.input_derivatives import input_jacobian, laplacian
from funcnet.laplacian_gradient import laplacian_vjp
from funcnet.types import Layer, Params
from funcnet.verification.problems import NETWORK, Form, N, Problem, Setting, numbers, problem

K = 3


def _direction(p: Problem, s: Setting, seed: int = 50) -> Params:
    return jax.tree.map(lambda leaf: numbers(seed, leaf.shape, s.dtype), p.params)


def _inner(left: Any, right: Any) -> Any:
    """⟨left, right⟩ over all leaves."""
    return sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def _swept(p: Problem, params: Params) -> tuple[Any, Any, Any]:
    """The call, the outputs, and the forward sweep."""
    call = enter(p.net, params, p.x, p.y, p.kwargs.get("weights"), p.kwargs.get("key"))
    return call, *sweeps.forward(p.net, call.params, call.x, p.kwargs.get("key"))


def _jacobian(p: Problem, params: Params) -> Params:
    """∂outputs/∂params, with axes for examples and outputs in front of each leaf."""
    call, _, saved = _swept(p, params)

    def one(unit: Any) -> Params:
        return sweeps.backward(p.net, call.params, saved, unit, contractions.gradient).contracted

    units = jnp.eye(N * K, dtype=call.x.dtype).reshape(N, K, N, K)
    return jax.vmap(jax.vmap(one))(units)


def _bent(p: Problem, params: Params, rows: Any) -> Any:
    """½ Σ c_i rows_iᵀ H_i rows_i."""
    call, outputs, _ = _swept(p, params)
    acted = p.net.loss.hessian_action(outputs, call.y, rows.astype(outputs.dtype))
    return 0.5 * jnp.sum(call.c[:, None] * rows * acted)


def _times(jacobian: Params, t: Params) -> Any:
    """The Jacobian times a direction, (n, k)."""
    leaves = zip(jax.tree.leaves(jacobian), jax.tree.leaves(t), strict=True)
    return sum(jnp.sum(j * v[None, None], axis=tuple(range(2, j.ndim))) for j, v in leaves)


def _weights_squared(p: Problem, t: Params) -> Any:
    """½ l2 ‖t‖² over the weights."""
    if p.net.l2 is None:
        return 0.0
    return 0.5 * p.net.l2 * sum(jnp.sum(jnp.square(layer.w)) for layer in t)


def _hvp(s: Setting) -> GradientReport:
    """⟨∇L, t⟩ has the gradient H t in the parameters."""
    p = problem(s)
    t = _direction(p, s)

    def slope(params: Params) -> Any:
        return _inner(value_and_grad(p.net, params, p.x, p.y, **p.kwargs)[1], t)

    def grad(params: Params) -> Any:
        moved = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), t, params)
        return curvature_products.hvp(p.net, params, p.x, p.y, moved, **p.kwargs)

    return check_gradient(slope, grad, p.params, raises=False)


def _ggn_vp(s: Setting) -> GradientReport:
    """½ Σ c_i (J_i t)ᵀ H_i (J_i t) + ½ l2 ‖t‖² has the gradient GGN · t in t."""
    p = problem(s)

    def total(t: Params, params: Params) -> Any:
        return _bent(p, params, _times(_jacobian(p, params), t)) + _weights_squared(p, t)

    def grad(t: Params, params: Params) -> Any:
        return curvature_products.ggn_vp(p.net, params, p.x, p.y, t, **p.kwargs)

    return check_gradient(total, grad, _direction(p, s), p.params, raises=False)


def _ggn_diagonal(s: Setting) -> GradientReport:
    """½ Σ_p t_p² GGN_pp has the gradient t_p GGN_pp in t."""
    p = problem(s)

    def total(t: Params, params: Params) -> Any:
        def along(column: Any, v: Any) -> Any:
            return _bent(p, params, column * v)

        columns = zip(jax.tree.leaves(_jacobian(p, params)), jax.tree.leaves(t), strict=True)
        each = [jnp.sum(jax.vmap(along)(jnp.moveaxis(j.reshape(N, K, -1), 2, 0), v.ravel())) for j, v in columns]
        return sum(each) + _weights_squared(p, t)

    def grad(t: Params, params: Params) -> Any:
        diagonal = curvature_blocks.ggn_diagonal(p.net, params, p.x, p.y, **p.kwargs)
        return jax.tree.map(jnp.multiply, t, diagonal)

    return check_gradient(total, grad, _direction(p, s), p.params, raises=False)


def _kfac_factors(s: Setting) -> GradientReport:
    """½ Σ c_i (a_iᵀ v)² and ½ Σ c_i (J_b u)ᵀ H_i (J_b u) have the gradients A v and G u, for each layer."""
    p = problem(s)

    def total(t: tuple[Any, ...], params: Params) -> Any:
        call, _, saved = _swept(p, params)
        jacobian, value = _jacobian(p, params), 0.0
        for (v, u), a, layer in zip(t, saved.inputs, jacobian, strict=True):
            value += 0.5 * jnp.sum(call.c * jnp.square(jnp.sum(a * v[None], axis=1)))
            value += _bent(p, params, jnp.sum(layer.b * u[None, None], axis=2))
        return value

    def grad(t: tuple[Any, ...], params: Params) -> Any:
        factors = curvature_blocks.kfac_factors(p.net, params, p.x, p.y, **p.kwargs)
        return tuple((factor.a @ v, factor.g @ u) for factor, (v, u) in zip(factors, t, strict=True))

    t = tuple(
        (numbers(51, (a,), s.dtype), numbers(52, (b,), s.dtype)) for a, b in (layer.w.shape for layer in p.params)
    )
    return check_gradient(total, grad, t, p.params, raises=False)


def _gauss_newton_step(s: Setting) -> GradientReport:
    """−⟨∇L, t⟩ has the gradient −∇L = (GGN + damping · I) s in t."""
    p = problem(s)
    kwargs = p.kwargs | ({"weights": jnp.abs(p.kwargs["weights"])} if "weights" in p.kwargs else {})

    def total(t: Params, params: Params) -> Any:
        return -_inner(value_and_grad(p.net, params, p.x, p.y, **kwargs)[1], t)

    def grad(_: Params, params: Params) -> Any:
        step = damped_step.gauss_newton_step(p.net, params, p.x, p.y, 1.0, **kwargs)
        product = curvature_products.ggn_vp(p.net, params, p.x, p.y, step, **kwargs)
        return tuple(Layer(*(a + b for a, b in zip(*pair, strict=True))) for pair in zip(product, step, strict=True))

    return check_gradient(total, grad, _direction(p, s), p.params, raises=False)


def _key(p: Problem) -> dict[str, Any]:
    return {"key": p.kwargs.get("key")}


def _input_jacobian(s: Setting) -> GradientReport:
    """Σ v ∘ outputs has the gradient Σ_c v_c ∂outputs_c/∂x in x."""
    p = problem(s)
    v = numbers(53, (N, K), s.dtype)

    def total(x: Any, params: Params) -> Any:
        return jnp.sum(v.astype(params[0].w.dtype) * apply(p.net, params, x, **_key(p)))

    def grad(x: Any, params: Params) -> Any:
        return jnp.einsum("nkd,nk->nd", input_jacobian(p.net, params, x, **_key(p)), v).reshape(x.shape)

    return check_gradient(total, grad, p.x, p.params, raises=False)


def _laplacian(s: Setting) -> GradientReport:
    """Σ_j Σ_c v_ic ∂outputs_c/∂x_j at x_i + t_i e_j has the gradient Σ_c v_ic laplacian_ic in t, at 0."""
    p = problem(s)
    v, rows = numbers(54, (N, K), s.dtype), p.x.reshape(N, -1)
    units = jnp.eye(rows.shape[1])

    def total(t: Any, params: Params) -> Any:
        dtype = params[0].w.dtype
        value = jnp.zeros((), dtype)
        for j, unit in enumerate(units):
            moved = rows.astype(dtype) + t.astype(dtype)[:, None] * unit.astype(dtype)[None]
            value += jnp.sum(v.astype(dtype) * input_jacobian(p.net, params, moved, **_key(p))[:, :, j])
        return value

    def grad(t: Any, params: Params) -> Any:
        chunk_size = 3 if s.turn % 2 else None
        return jnp.sum(v * laplacian(p.net, params, rows, chunk_size=chunk_size, **_key(p)), axis=1)

    return check_gradient(total, grad, jnp.zeros(N, s.dtype), p.params, raises=False)


def _laplacian_vjp(s: Setting) -> GradientReport:
    """Σ v ∘ laplacian has the gradient that pullback(v) gives in the parameters."""
    p = problem(s)
    v = numbers(55, (N, K), s.dtype)

    def total(params: Params) -> Any:
        return jnp.sum(v.astype(params[0].w.dtype) * laplacian(p.net, params, p.x, **_key(p)))

    def grad(params: Params) -> Any:
        return laplacian_vjp(p.net, params, p.x, chunk_size=3 if s.turn % 2 else None, **_key(p))[1](v)

    return check_gradient(total, grad, p.params, raises=False)


INPUTS = ("activation", "dtype", "option")
SECOND_FORMS = {
    "hvp": Form(("hvp", "forward_tangents", "backward_tangents"), NETWORK, _hvp),
    "ggn_vp": Form(("ggn_vp", "ggn_product", "transposed_jacobian_product"), NETWORK, _ggn_vp),
    "ggn_diagonal": Form(("ggn_diagonal",), NETWORK, _ggn_diagonal),
    "kfac_factors": Form(("kfac_factors", "kronecker_factors"), NETWORK, _kfac_factors),
    "gauss_newton_step": Form(("gauss_newton_step", "damped_step"), NETWORK, _gauss_newton_step),
    "input_jacobian": Form(("input_jacobian",), INPUTS, _input_jacobian),
    "laplacian": Form(("laplacian", "direction_sweep", "second_order"), INPUTS, _laplacian),
    "laplacian_vjp": Form(("laplacian_vjp",), INPUTS, _laplacian_vjp),
}
