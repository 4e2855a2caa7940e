"""Gauss-Newton training: damped steps as an Optax transformation, with damping by Levenberg and Marquardt."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

from funcnet.boundary import Call, check_count, lift_params
from funcnet.curvature_products import ggn_product
from funcnet.gauss_newton import damped_step
from funcnet.gradients import Swept, both_sweeps
from funcnet.network import MLP
from funcnet.precision import cast_like
from funcnet.training.checks import check_positive
from funcnet.types import Params

Scalar = Float[Array, ""]


class GaussNewtonState(NamedTuple):
    """What a step leaves for the next one.

    Attributes:
        damping: λ for its first try.
        growth: By how much λ grows where a try fails; doubled by each failure in a row.
        ratio: What the last step took off the loss, over what the quadratic model had promised.
        tries: The number of systems that were solved for it.
    """

    damping: Scalar
    growth: Scalar
    ratio: Scalar
    tries: Int[Array, ""]


class _Try(NamedTuple):
    """A step that has been tried."""

    state: GaussNewtonState
    step: Params
    accepted: Bool[Array, ""]


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
    again. L never rises.

    Args:
        damping: λ for the first try.
        exact_size: The step is exact, by `funcnet.gauss_newton_step`, where n · k or P is no larger; above it is found
            by conjugate gradients on `funcnet.ggn_vp`.
        max_tries: So many systems at most for one step; where none of them lowers L the parameters stay.
        cg_steps: The largest number of conjugate gradients' steps.
        cg_tolerance: They end where the residual is no larger, as a share of ‖∇L‖.

    Returns:
        An Optax transformation whose `update` takes `value` and, as `value_fn`, an `Objective`: what `funcnet.fit` and
        `funcnet.training.step` hand it. It is made for all examples at once, `batch_size=None`.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is out of its range.

    References:
        Levenberg 1944, A method for the solution of certain non-linear problems in least squares.
        Marquardt 1963, An algorithm for least-squares estimation of nonlinear parameters.
        Madsen, Nielsen, Tingleff 2004, Methods for non-linear least squares problems.
    """
    first = check_positive("damping", damping)
    check_positive("cg_tolerance", cg_tolerance)
    for name, count in (("exact_size", exact_size), ("max_tries", max_tries), ("cg_steps", cg_steps)):
        check_count(name, count)
    limits = _Limits(exact_size, cg_steps, cg_tolerance)

    def init(params: Any) -> GaussNewtonState:
        one = jnp.ones((), lift_params(params)[0].w.dtype)
        return GaussNewtonState(first * one, 2 * one, one, jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Scalar, value_fn: Any, **_: Any
    ) -> tuple[Params, GaussNewtonState]:
        if params is None or not hasattr(value_fn, "batch"):
            raise TypeError("gauss_newton needs params, and a funcnet.training.Objective as value_fn")
        model = _model(updates, params, value_fn)
        begin = _Try(state._replace(tries=0 * state.tries), jax.tree.map(jnp.zeros_like, model.grads), jnp.array(False))
        end = jax.lax.while_loop(
            lambda last: ~last.accepted & (last.state.tries < max_tries),
            lambda last: _attempt(last, model, limits, params, value, value_fn),
            begin,
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
    step = _solved(model, limits, last.state.damping)
    promised = -_inner(model.grads, step) - 0.5 * _inner(step, model.product(step))
    there = jax.tree.map(lambda p, s: p + s.astype(p.dtype), params, step)
    ratio = (value - value_fn(there)).astype(promised.dtype) / promised
    accepted = (promised > 0) & (ratio > 0)  # False where either is NaN
    factor = jnp.where(accepted, jnp.maximum(1 / 3, 1 - (2 * ratio - 1) ** 3), last.state.growth)
    growth = jnp.where(accepted, 2.0, 2 * last.state.growth)
    level = jnp.maximum(factor * last.state.damping, jnp.finfo(factor.dtype).tiny)
    return _Try(GaussNewtonState(level, growth, ratio, last.state.tries + 1), step, accepted)


def _inner(a: Params, b: Params) -> Scalar:
    """⟨a, b⟩ over all parameters."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.sum(jnp.stack([jnp.sum(u * v) for u, v in pairs]))
