"""Gauss-Newton training: damped steps as an Optax transformation, with damping by Levenberg and Marquardt."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

from funcnet.boundary import Call, lift_params
from funcnet.curvature_products import ggn_product
from funcnet.damped_step import damped_step
from funcnet.gradients import Swept, both_sweeps
from funcnet.network import MLP
from funcnet.numbers import check_count, check_positive
from funcnet.precision import cast_like
from funcnet.training.checks import check_objective
from funcnet.training.line_search import inner
from funcnet.types import Params

Scalar = Float[Array, ""]


class GaussNewtonState(NamedTuple):
    """What a step leaves for the next one.

    Attributes:
        damping: λ for its first try.
        ratio: What the last try took off the loss, over what the quadratic model had promised: 0 where that is
            nothing, NaN where there was no step.
        tries: The number of systems that were solved for the step.
    """

    damping: Scalar
    ratio: Scalar
    tries: Int[Array, ""]


class _Try(NamedTuple):
    """A step that has been tried, and by how much λ grows if it fails."""

    state: GaussNewtonState
    step: Params
    accepted: Bool[Array, ""]
    futile: Bool[Array, ""]
    growth: Scalar


def gauss_newton(
    damping: float = 1e-2,
    *,
    exact_size: int = 2000,
    max_tries: int = 12,
    cg_steps: int = 200,
    cg_tolerance: float = 1e-4,
) -> optax.GradientTransformationExtraArgs:
    """Steps s with (GGN + λ I) s = −∇L, each at the λ that the last ones have earned.

    With ρ what a step takes off L, over what the model −∇Lᵀ s − ½ sᵀ GGN s promised: where ρ > 0 the step is taken and
    λ multiplied by max(1/3, 1 − (2ρ − 1)³); else it is not, λ is multiplied by 2, then by 4, 8, …, and it is tried
    again. Where less is promised than L's own rounding nothing is tried any more: the parameters stay, as they do where
    all tries fail, and the next step begins with a smaller λ (there: with the larger one). L never rises.

    λ is never below eps² ∇Lᵀ GGN ∇L / ‖∇L‖², what even a refined solution loses in the rounding of GGN. A loss without
    curvature, such as absolute_error, leaves only λ I: gradient descent. Kinks, as of relu, can stop it early.

    Args:
        damping: λ for the first try of all; later ones are in the state.
        exact_size: The step is exact, by `funcnet.gauss_newton_step`, where n · k or P is no larger; above it is found
            by conjugate gradients on `funcnet.ggn_vp`.
        max_tries: So many systems at most for one step; where none of them lowers L the parameters stay.
        cg_steps: The largest number of conjugate gradients' steps.
        cg_tolerance: They end where the residual is no larger, as a share of ‖∇L‖.

    Returns:
        An Optax transformation whose `update` takes `value` and, as `value_fn`, an `Objective`: what `funcnet.fit` and
        `funcnet.training.step` hand it. It compares losses: the examples must be the same in each step, all of them,
        and nothing be dropped. `funcnet.fit` makes sure of that.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range.

    References:
        Levenberg 1944, A method for the solution of certain non-linear problems in least squares.
        Marquardt 1963, An algorithm for least-squares estimation of nonlinear parameters.
        Madsen, Nielsen, Tingleff 2004, Methods for non-linear least squares problems.
    """
    check_positive("damping", damping)
    check_positive("cg_tolerance", cg_tolerance)
    for name, count in (("exact_size", exact_size), ("max_tries", max_tries), ("cg_steps", cg_steps)):
        check_count(name, count)
    limits = _Limits(exact_size, cg_steps, cg_tolerance)

    def init(params: Any) -> GaussNewtonState:
        dtype = lift_params(params)[0].w.dtype
        return GaussNewtonState(jnp.asarray(damping, dtype), jnp.ones((), dtype), jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, value_fn: Any = None, **_: Any
    ) -> tuple[Params, GaussNewtonState]:
        check_objective("gauss_newton", params, value_fn, value)
        model = _model(updates, params, value_fn)
        first = state._replace(damping=jnp.maximum(state.damping, model.least_damping()), tries=0 * state.tries)
        no, growth = jnp.zeros((), bool), jnp.full_like(first.damping, 2)
        end = jax.lax.while_loop(
            lambda last: ~(last.accepted | last.futile) & (last.state.tries < max_tries),
            lambda last: _attempt(last, model, limits, params, value, value_fn),
            _Try(first, jax.tree.map(jnp.zeros_like, model.grads), no, no, growth),
        )
        step = jax.tree.map(lambda s: jnp.where(end.accepted, s, 0), end.step)
        return cast_like(step, params), end.state

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType] (more keywords)


class _Limits(NamedTuple):
    """Settings of the solvers, as of `gauss_newton`."""

    exact_size: int
    cg_steps: int
    cg_tolerance: float


class _Model(NamedTuple):
    """The loss to second order: the arguments that `funcnet.ggn_vp` and the exact step ask for, and ∇L."""

    net: MLP
    call: Call
    swept: Swept
    grads: Params

    def product(self, v: Params) -> Params:
        """GGN v."""
        return ggn_product(self.net, self.call, self.swept.outputs, self.swept.saved, v)

    def least_damping(self) -> Scalar:
        """eps² times the curvature along ∇L; at any length of ∇L."""
        largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(self.grads)]))
        along = jax.tree.map(lambda leaf: leaf / jnp.where(largest > 0, largest, 1), self.grads)
        norm, limits = inner(along, along), jnp.finfo(largest.dtype)
        curvature = inner(along, self.product(along)) / jnp.where(norm > 0, norm, 1)
        return jnp.clip(limits.eps**2 * curvature, limits.tiny, 1 / limits.tiny)


def _model(updates: Any, params: Any, objective: Any) -> _Model:
    net, batch, key = objective
    weights = batch.weights / jnp.sum(batch.weights)
    call = Call(lift_params(params), batch.x, batch.y, weights.astype(batch.x.dtype))
    return _Model(net, call, both_sweeps(net, call, key), cast_like(updates, call.params))


def _solved(model: _Model, limits: _Limits, level: Scalar) -> Params:
    """The step at one λ: exact, or by conjugate gradients."""
    net, call, swept, grads = model
    rows, size = call.x.shape[0] * net.widths[-1], sum(leaf.size for leaf in jax.tree.leaves(grads))
    if min(rows, size) <= limits.exact_size:
        return damped_step(net, call, swept, grads, level, signed=False)

    def damped(v: Params) -> Params:
        return jax.tree.map(lambda p, u: p + level * u, model.product(v), v)

    downhill = jax.tree.map(jnp.negative, grads)
    return cg(damped, downhill, tol=limits.cg_tolerance, maxiter=limits.cg_steps)[0]


def _attempt(last: _Try, model: _Model, limits: _Limits, params: Any, value: Scalar, value_fn: Any) -> _Try:
    """A step at the λ that the last try left, whether it is to be taken, and the λ for the next one."""
    tried = last.state.damping
    step = _solved(model, limits, tried)
    promised = -inner(model.grads, step) - 0.5 * inner(step, model.product(step))
    there = jax.tree.map(lambda p, s: p + s.astype(p.dtype), params, step)
    gained = (value - value_fn(there)).astype(promised.dtype)
    ratio = jnp.where(promised == 0, 0, gained / jnp.where(promised == 0, 1, promised))
    futile = promised <= jnp.finfo(value.dtype).eps * jnp.abs(value).astype(promised.dtype)
    accepted = ~futile & (ratio > 0)  # False where it is NaN
    factor = jnp.where(accepted, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), last.growth)
    factor = jnp.where(futile, jnp.where(last.state.tries == 0, 1 / 3, 1), factor)
    tiny = jnp.finfo(tried.dtype).tiny
    level = jnp.clip(factor * tried, tiny, 1 / tiny)
    return _Try(GaussNewtonState(level, ratio, last.state.tries + 1), step, accepted, futile, 2 * last.growth)


def check_same_examples(net: MLP, opt_state: Any, batch_size: int | None, n: int) -> None:
    """Refuse what would give `gauss_newton`, whose state this may hold, another loss in each step.

    Raises:
        ValueError: If its steps are to see different examples, or other units dropped; or if its damping, which it
            reads when it begins, is to be set later.
    """

    def known(node: Any) -> bool:
        return isinstance(node, GaussNewtonState)

    if not any(map(known, jax.tree.leaves(opt_state, is_leaf=known))):
        return
    if batch_size is not None and batch_size < n:
        raise ValueError(
            f"batch_size must be None, all {n} examples, for gauss_newton, whose steps compare losses; got {batch_size}"
        )
    if net.dropout is not None and np.any(np.asarray(net.dropout) > 0):
        raise ValueError(f"dropout must be None for gauss_newton, whose steps compare losses; got {net.dropout}")
    if hasattr(opt_state, "hyperparams"):
        raise ValueError("gauss_newton has no hyperparameters to inject: it reads its damping once, when it begins")
