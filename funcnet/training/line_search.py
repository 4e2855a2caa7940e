"""Steepest descent with an exact line search: the step that minimises the loss along the negative gradient."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from funcnet.types import Params

Scalar = Float[Array, ""]


class ExactLineSearchState(NamedTuple):
    """What an exact line search leaves for the next one.

    Attributes:
        learning_rate: The step α it took.
        value: L where it ended, so that a step on the same examples need not compute it again.
        grad: ∇L where it ended.
        slope_ratio: dφ/dα there as a share of that at α = 0.
        num_linesearch_steps: The number of times that value and gradient were computed.
    """

    learning_rate: Scalar
    value: Scalar
    grad: Params
    slope_ratio: Scalar
    num_linesearch_steps: Int[Array, ""]


class _Point(NamedTuple):
    """A step α along the ray, with φ(α), dφ/dα and ∇L there."""

    alpha: Scalar
    value: Scalar
    slope: Scalar
    grad: Params


class _Search(NamedTuple):
    """A bracket: at `low` φ falls, and is no higher than at 0; at `high`, once found, it rises or is higher than at 0.

    `low_slope` and `high_slope` are those that the secant is drawn through, halved where one end stays (Illinois).
    """

    low: _Point
    high: _Point
    low_slope: Scalar
    high_slope: Scalar
    bracketed: Bool[Array, ""]
    done: Bool[Array, ""]
    count: Int[Array, ""]


def exact_line_search(tolerance: float = 1e-6, max_steps: int = 100) -> optax.GradientTransformationExtraArgs:
    """Steepest descent w ← w − α∇L with the α that minimises φ(α) = L(w − α∇L).

    dφ/dα = −⟨∇L(w − α∇L), ∇L(w)⟩ is computed in closed form. α grows from the last step's by doubling until φ rises; in
    that bracket the root of dφ/dα is found by secants, kept inside by bisection. Of several minima along the ray it is
    one that a descent from 0 leads to.

    It ends where |dφ/dα| is at most `tolerance` of its start. Where no α can reach that (φ has a kink at its minimum,
    as with relu, or rounding is in the way) it ends when the bracket is a few units in the last place wide; where φ
    falls for ever, when α has doubled `max_steps` times. φ never ends higher than it began.

    Args:
        tolerance: The largest |dφ/dα| at the end, as a share of that at α = 0.
        max_steps: The largest number of values and gradients of L for one step.

    Returns:
        An Optax transformation whose `update` takes `value`, `grad` and, as `value_fn`, an `Objective`: what
        `funcnet.fit` and `funcnet.training.step` hand it.

    Derivation:
        With w(α) = w − α g, dφ = tr(∇L(w(α))ᵀ dw) = −tr(∇L(w(α))ᵀ g) dα.

    References:
        Cauchy 1847, Méthode générale pour la résolution des systèmes d'équations simultanées.
        Dowell, Jarratt 1971, A modified regula falsi method for computing the root of an equation.
    """

    def init(params: Any) -> ExactLineSearchState:
        dtype = params[0].w.dtype
        one, infinite = jnp.ones((), dtype), jnp.full((), jnp.inf, dtype)
        return ExactLineSearchState(one, infinite, jax.tree.map(jnp.zeros_like, params), one, jnp.zeros((), jnp.int32))

    def update(
        updates: Any, state: Any, params: Any = None, *, value: Any = None, value_fn: Any = None, **_: Any
    ) -> tuple[Params, ExactLineSearchState]:
        if params is None or value is None or not hasattr(value_fn, "value_and_grad"):
            raise TypeError("exact_line_search needs params, value, and a funcnet.training.Objective as value_fn")
        end, start, count = _minimise(value_fn, params, updates, value, state.learning_rate, tolerance, max_steps)
        ratio = jnp.where(start == 0, 0, jnp.abs(end.slope / jnp.where(start == 0, 1, start)))
        step = jax.tree.map(lambda g: -end.alpha * g, updates)
        alpha = jnp.where(end.alpha > 0, end.alpha, state.learning_rate)
        return step, ExactLineSearchState(alpha, end.value, end.grad, ratio, count)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType] (more keywords)


def inner(a: Params, b: Params) -> Scalar:
    """⟨a, b⟩ over all parameters."""
    product: Any = optax.tree.vdot(a, b)
    return product


def _minimise(
    objective: Any, params: Params, g: Params, value: Scalar, guess: Scalar, tolerance: float, max_steps: int
) -> tuple[_Point, Scalar, Int[Array, ""]]:
    """Where the search along params − α g ends, dφ/dα at α = 0, and the number of values and gradients computed."""
    dtype = guess.dtype
    norm = inner(g, g)

    def at(alpha: Scalar) -> _Point:
        there = jax.tree.map(lambda p, d: p - alpha * d, params, g)
        loss, grad = objective.value_and_grad(there)
        return _Point(alpha, loss, -inner(grad, g), grad)

    start = _Point(jnp.zeros((), dtype), value.astype(dtype), -norm, g)

    def advance(search: _Search) -> _Search:
        point = at(_next_alpha(search, guess))
        falls = (point.slope < 0) & (point.value <= start.value)  # False where either is NaN
        kept_low, kept_high = ~falls & search.bracketed, falls & search.bracketed
        low = jax.tree.map(lambda new, old: jnp.where(falls, new, old), point, search.low)
        high = jax.tree.map(lambda new, old: jnp.where(falls, old, new), point, search.high)
        flat = (jnp.abs(point.slope) <= tolerance * norm) & (point.value <= start.value)
        low, high = jax.tree.map(lambda new, old: jnp.where(flat, new, old), (point, point), (low, high))
        bracketed = search.bracketed | ~falls
        narrow = bracketed & (high.alpha - low.alpha <= 4 * jnp.finfo(dtype).eps * high.alpha)
        return _Search(
            low,
            high,
            jnp.where(kept_low, search.low_slope / 2, low.slope),
            jnp.where(kept_high, search.high_slope / 2, high.slope),
            bracketed,
            flat | narrow,
            search.count + 1,
        )

    nothing = (norm == 0) | ~jnp.isfinite(norm)
    empty = start._replace(alpha=jnp.full((), jnp.inf, dtype))
    begin = _Search(start, empty, start.slope, start.slope, jnp.zeros((), bool), nothing, jnp.zeros((), jnp.int32))
    end = jax.lax.while_loop(lambda s: ~s.done & (s.count < max_steps), advance, begin)
    return end.low, start.slope, end.count


def _next_alpha(search: _Search, guess: Scalar) -> Scalar:
    """Twice as far while φ only falls; in a bracket the secant's root, or every third time and in need the middle."""
    low, high, middle = search.low.alpha, search.high.alpha, (search.low.alpha + search.high.alpha) / 2
    secant = low - search.low_slope * (high - low) / (search.high_slope - search.low_slope)
    inside = (search.high_slope > 0) & (secant > low) & (secant < high) & (search.count % 3 != 2)
    grown = jnp.where(low > 0, 2 * low, guess)
    return jnp.where(search.bracketed, jnp.where(inside, secant, middle), grown)
