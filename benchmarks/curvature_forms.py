"""The quantities of `curvature.py`: in closed form, and by compositions of JAX's transformations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from per_example_forms import CHUNK

import funcnet as fn

HVP, GGN_VP, DIAGONAL, SAMPLED = "Hessian product", "Gauss-Newton product", "Gauss-Newton diagonal", "sampled diagonal"
FACTORS, SAMPLED_FACTORS = "Kronecker factors", "sampled factors"
CLOSED: dict[str, Callable[..., Any]] = {
    HVP: fn.hvp,
    GGN_VP: fn.ggn_vp,
    DIAGONAL: lambda net, params, x, y, v: fn.ggn_diagonal(net, params, x, y),
    SAMPLED: lambda net, params, x, y, v: fn.ggn_diagonal(net, params, x, y, sample=jax.random.key(0)),
    FACTORS: lambda net, params, x, y, v: fn.kfac_factors(net, params, x, y),
    SAMPLED_FACTORS: lambda net, params, x, y, v: fn.kfac_factors(net, params, x, y, sample=jax.random.key(0)),
}
RANDOM = (SAMPLED, SAMPLED_FACTORS)
"""Those that differ from sample to sample."""


def plain_loss(net: fn.MLP, x: jax.Array, y: jax.Array) -> Callable[[fn.Params], jax.Array]:
    """The mean loss without funcnet's derivative rules, for JAX to differentiate."""
    return lambda params: jnp.mean(fn.per_example_losses(net, params, x, y))


def forward_over_reverse(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array, v: fn.Params) -> fn.Params:
    """The derivative of the gradient in the direction v."""
    return jax.jvp(jax.grad(plain_loss(net, x, y)), (params,), (v,))[1]


def linearized(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array, v: fn.Params) -> fn.Params:
    """The same by `jax.linearize`."""
    return jax.linearize(jax.grad(plain_loss(net, x, y)), params)[1](v)


def reverse_over_reverse(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array, v: fn.Params) -> fn.Params:
    """The gradient of the gradient's inner product with v."""
    return jax.vjp(jax.grad(plain_loss(net, x, y)), params)[1](v)[0]


def _outputs_hessian(net: fn.MLP, y: jax.Array) -> Callable[[jax.Array], Callable[[jax.Array], jax.Array]]:
    """Outputs ↦ (tangent ↦ the mean loss' Hessian in the outputs, times the tangent)."""
    return lambda z: jax.linearize(jax.grad(lambda z: jnp.mean(net.loss.value(z, y))), z)[1]


def jvp_and_vjp(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array, v: fn.Params) -> fn.Params:
    """J v by `jax.jvp`, Jᵀ by `jax.vjp`."""

    def outputs(params: fn.Params) -> jax.Array:
        return fn.apply(net, params, x)

    z, moved = jax.jvp(outputs, (params,), (v,))
    return jax.vjp(outputs, params)[1](_outputs_hessian(net, y)(z)(moved))[0]


def linearized_and_transposed(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array, v: fn.Params) -> fn.Params:
    """J v by `jax.linearize`, Jᵀ by `jax.linear_transpose`."""
    z, jacobian = jax.linearize(lambda params: fn.apply(net, params, x), params)
    return jax.linear_transpose(jacobian, params)(_outputs_hessian(net, y)(z)(jacobian(v)))[0]


def _square(net: fn.MLP, params: fn.Params, x: jax.Array, c: jax.Array) -> fn.Params:
    """(∂ (S z)_c / ∂params)² of one example, with H = Sᵀ S of the softmax: S = diag(√p) (I − 1 pᵀ)."""
    z, pull = jax.vjp(lambda params: fn.apply(net, params, x[None])[0], params)
    p = jax.nn.softmax(z)
    row = jnp.sqrt(p[c]) * ((jnp.arange(len(p)) == c).astype(p.dtype) - p)
    return jax.tree.map(jnp.square, pull(row)[0])


def _squares(net: fn.MLP, params: fn.Params, x: jax.Array, outputs: jax.Array) -> fn.Params:
    """Σ over examples and some outputs, all of them at once."""
    each = jax.vmap(lambda x: jax.vmap(lambda c: _square(net, params, x, c))(outputs))(x)
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=(0, 1)), each)


def diagonal(examples: int | None, outputs: int | None) -> Callable[..., fn.Params]:
    """The squares of every row of every example's Jacobian, for so many examples and outputs at a time, or all."""

    def run(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array, v: fn.Params) -> fn.Params:
        n, k = len(x), net.widths[-1]
        groups = jnp.arange(k).reshape(-1, outputs or k)

        def add(total: fn.Params, some: jax.Array) -> tuple[fn.Params, None]:
            def add_outputs(total: fn.Params, group: jax.Array) -> tuple[fn.Params, None]:
                return jax.tree.map(lambda t, leaf: t + leaf / n, total, _squares(net, params, some, group)), None

            return jax.lax.scan(add_outputs, total, groups)[0], None

        zero = jax.tree.map(jnp.zeros_like, params)
        return jax.lax.scan(add, zero, x.reshape(-1, examples or n, x.shape[1]))[0]

    return run


AUTODIFF: dict[str, dict[str, Callable[..., Any]]] = {
    HVP: {
        "forward over reverse": forward_over_reverse,
        "jax.linearize of reverse": linearized,
        "reverse over reverse": reverse_over_reverse,
    },
    GGN_VP: {"jvp and vjp": jvp_and_vjp, "linearize and transpose": linearized_and_transposed},
    DIAGONAL: {
        "Jacobian at once": diagonal(None, None),
        "one output at a time": diagonal(None, 1),
        f"{CHUNK} examples at a time": diagonal(CHUNK, None),
        f"one output of {CHUNK} examples at a time": diagonal(CHUNK, 1),
    },
}
"""Sampled quantities and Kronecker factors have no composition of JAX's own: what stands beside them are packages."""
