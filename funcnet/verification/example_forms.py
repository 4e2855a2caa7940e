"""How the quantities of single examples are put before the checker.

Each is the gradient of a function of the examples' gradients, which are written out one by one: by `weighted_grad_sum`
of unit coefficients, itself proven as the gradient of Σ c_i ℓ_i.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from funcnet import contractions, kernels, per_example, sweeps
from funcnet.checking import GradientReport, check_gradient, in_float64
from funcnet.gradients import per_example_losses
from funcnet.types import Params
from funcnet.verification.problems import NETWORK, Form, N, Problem, Setting, numbers, problem


def _key(p: Problem) -> dict[str, Any]:
    return {"key": p.kwargs.get("key")}


def _coefficients(p: Problem, s: Setting) -> Any:
    return p.kwargs.get("weights", numbers(30, (N,), s.dtype))


def _each(p: Problem, params: Params) -> Params:
    """∇ℓ_i of each example, along a first axis of every leaf."""

    def one(unit: Any) -> Params:
        return per_example.weighted_grad_sum(p.net, params, p.x, p.y, unit, **_key(p))

    return jax.vmap(one)(jnp.eye(N, dtype=params[0].w.dtype))


def _inner(left: Any, right: Any) -> Any:
    """⟨left, right⟩ over all leaves."""
    return sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def _norms(p: Problem, params: Params) -> Any:
    return jnp.sqrt(jax.vmap(lambda tree: _inner(tree, tree))(_each(p, params)))


def _weighted_grad_sum(s: Setting) -> GradientReport:
    p = problem(s)
    c = _coefficients(p, s)

    def total(params: Params) -> Any:
        each = per_example_losses(p.net, params, p.x, p.y, **_key(p))
        return jnp.sum(c.astype(each.dtype) * each)

    def grad(params: Params) -> Any:
        return per_example.weighted_grad_sum(p.net, params, p.x, p.y, c, **_key(p))

    return check_gradient(total, grad, p.params, raises=False)


def _clipped_grad_sum(s: Setting) -> GradientReport:
    """At a norm that clips some examples and not others; 1/2 is exact in every dtype."""
    p = problem(s)
    norms = in_float64(lambda params: _norms(p, params))(p.params)
    ordered = jnp.sort(norms)
    max_norm = float(ordered[N // 2 - 1] + ordered[N // 2]) / 2
    factors = jnp.minimum(1, max_norm / jnp.where(norms == 0, 1, norms))
    factors = factors * jnp.asarray(p.kwargs.get("weights", jnp.ones(N)), factors.dtype)

    def total(params: Params) -> Any:
        each = per_example_losses(p.net, params, p.x, p.y, **_key(p))
        return jnp.sum(factors.astype(each.dtype) * each)

    def grad(params: Params) -> Any:
        return per_example.clipped_grad_sum(p.net, params, p.x, p.y, max_norm, **p.kwargs)

    return check_gradient(total, grad, p.params, raises=False)


def _grad_norms(s: Setting) -> GradientReport:
    """½ Σ t_i² ‖∇ℓ_i‖² has the gradient t_i ‖∇ℓ_i‖² in t."""
    p = problem(s)

    def total(t: Any, params: Params) -> Any:
        return 0.5 * jnp.sum(jnp.square(t * _norms(p, params)))

    def grad(t: Any, params: Params) -> Any:
        return t * jnp.square(per_example.per_example_grad_norms(p.net, params, p.x, p.y, **_key(p)))

    return check_gradient(total, grad, numbers(31, (N,), s.dtype), p.params, raises=False)


def _second_moment(s: Setting) -> GradientReport:
    """½ Σ_i ‖t ∘ ∇ℓ_i‖² has the gradient t ∘ Σ_i (∇ℓ_i)² in t."""
    p = problem(s)

    def total(t: Params, params: Params) -> Any:
        scaled = jax.tree.map(lambda a, each: a[None] * each, t, _each(p, params))
        return 0.5 * _inner(scaled, scaled)

    def grad(t: Params, params: Params) -> Any:
        moment = per_example.grad_second_moment(p.net, params, p.x, p.y, **_key(p))
        return jax.tree.map(jnp.multiply, t, moment)

    t = jax.tree.map(lambda leaf: numbers(32, leaf.shape, s.dtype), p.params)
    return check_gradient(total, grad, t, p.params, raises=False)


def _gram(s: Setting) -> GradientReport:
    """½ ‖Σ c_i ∇ℓ_i‖² has the gradient K c in c, with K the Gram matrix."""
    p = problem(s)

    def total(c: Any, params: Params) -> Any:
        mixed = jax.tree.map(lambda each: jnp.tensordot(c, each, 1), _each(p, params))
        return 0.5 * _inner(mixed, mixed)

    def grad(c: Any, params: Params) -> Any:
        return kernels.grad_gram(p.net, params, p.x, p.y, chunk_size=3 if s.turn % 2 else None, **_key(p)) @ c

    return check_gradient(total, grad, numbers(33, (N,), s.dtype), p.params, raises=False)


def _ntk(s: Setting) -> GradientReport:
    """⟨J₁ᵀ u, J₂ᵀ v⟩ has the gradient K v in u, with J the Jacobians of the outputs in the parameters."""
    p = problem(s)
    x1, x2 = p.x.reshape(N, -1), p.x.reshape(N, -1)[:4]
    v = numbers(35, (4, 3), s.dtype)

    def back(params: Params, x: Any, cotangent: Any) -> Params:
        _, saved = sweeps.forward(p.net, params, x.astype(params[0].w.dtype), p.kwargs.get("key"))
        return sweeps.backward(p.net, params, saved, cotangent, contractions.gradient).contracted

    def total(u: Any, params: Params, v: Any) -> Any:
        return _inner(back(params, x1, u), back(params, x2, v))

    def grad(u: Any, params: Params, v: Any) -> Any:
        kernel = kernels.empirical_ntk(p.net, params, x1, x2, chunk_size=2 if s.turn % 2 else None, **_key(p))
        return jnp.einsum("ijce,je->ic", kernel, v)

    return check_gradient(total, grad, numbers(34, (N, 3), s.dtype), p.params, v, raises=False)


def _noise_scale(s: Setting) -> GradientReport:
    """½ t² tr Σ / ‖G‖² has the gradient t tr Σ / ‖G‖² in t; of examples alike enough for a signal, and not too much."""
    p = problem(s)

    def moments(params: Params, x: Any, y: Any) -> tuple[Any, Any]:
        """‖ḡ‖² and the mean of ‖∇ℓ_i‖²."""
        each = _each(p._replace(x=x, y=y), params)
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)
        return _inner(mean, mean), _inner(each, each) / N

    def candidate(alike: int, spread: float) -> tuple[float, Any, Any]:
        """How far from 0.3 the share of noise is, and the data."""
        x = p.x[:1] + p.x * jnp.asarray(spread, p.x.dtype)
        y = jnp.concatenate([jnp.broadcast_to(p.y[:1], (alike, *p.y.shape[1:])), p.y[alike:]])
        of_mean, m = map(float, in_float64(moments)(p.params, x, y))
        return abs(math.log(max(m - of_mean, 1e-30) / (0.3 * of_mean))), x, y

    choices = itertools.starmap(candidate, itertools.product((N, N - 1, N - 2), (1.0, 0.25, 0.0625)))
    _, x, y = min(choices, key=lambda choice: choice[0])

    def total(t: Any, params: Params) -> Any:
        of_mean, m = moments(params, x, y)
        return 0.5 * t * t * (N * (m - of_mean) / (N * of_mean - m))

    def grad(t: Any, params: Params) -> Any:
        return t * per_example.gradient_noise_scale(p.net, params, x, y, **_key(p))

    return check_gradient(total, grad, jnp.asarray(1.5, s.dtype), p.params, raises=False)


EXAMPLE_FORMS = {
    "weighted_grad_sum": Form(
        ("weighted_grad_sum", "weighted_gradient", "sweep_examples"), NETWORK, _weighted_grad_sum
    ),
    "clipped_grad_sum": Form(("clipped_grad_sum",), NETWORK, _clipped_grad_sum),
    "per_example_grad_norms": Form(("per_example_grad_norms", "norms"), NETWORK, _grad_norms),
    "grad_second_moment": Form(("grad_second_moment", "second_moment"), NETWORK, _second_moment),
    "grad_gram": Form(("grad_gram", "gram"), NETWORK, _gram),
    "empirical_ntk": Form(("empirical_ntk", "kernel"), ("activation", "dtype", "option"), _ntk),
    "gradient_noise_scale": Form(("gradient_noise_scale",), NETWORK, _noise_scale),
}
