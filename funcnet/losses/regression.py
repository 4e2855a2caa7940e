"""Losses on real targets in the shape of the outputs: half_squared_error, absolute_error, huber, poisson.

Each has its value, gradient, Hessian action and Hessian factor in this order. With r = ŷ − y and ŷ the outputs, all
of them are sums over outputs, so each Hessian is diagonal.
"""

import math
from functools import partial

import jax.numpy as jnp

from funcnet.losses.loss import Factor, Loss, Outputs, PerExample, RealTargets, diagonal, weighed
from funcnet.precision import at_least_float32


@at_least_float32
def _half_squared_error(outputs: Outputs, y: RealTargets) -> PerExample:
    """ℓ = ½ ‖r‖²."""
    return 0.5 * jnp.sum(jnp.square(outputs - y), axis=1)


@at_least_float32
def _half_squared_error_gradient(outputs: Outputs, y: RealTargets) -> Outputs:
    """g = r.

    Derivation:
        ℓ = ½ rᵀr, so dℓ = rᵀ dr = rᵀ dŷ.
    """
    return outputs - y


@at_least_float32
def _half_squared_error_hessian_action(outputs: Outputs, y: RealTargets, v: Outputs) -> Outputs:
    """H v = v.

    Derivation:
        dg = dŷ, so H = I.
    """
    return v


@at_least_float32
def _half_squared_error_hessian_factor(outputs: Outputs, y: RealTargets) -> Factor:
    """S = I.

    Derivation:
        IᵀI = I = H.
    """
    return diagonal(jnp.ones_like(outputs))


@at_least_float32
def _absolute_error(outputs: Outputs, y: RealTargets) -> PerExample:
    """ℓ = Σ |r|."""
    return jnp.sum(jnp.abs(outputs - y), axis=1)


@at_least_float32
def _absolute_error_gradient(outputs: Outputs, y: RealTargets) -> Outputs:
    """g = sign(r), which is 0 at the kink r = 0.

    Derivation:
        d|r| = sign(r) dr for r ≠ 0.
    """
    return jnp.sign(outputs - y)


@at_least_float32
def _absolute_error_hessian_action(outputs: Outputs, y: RealTargets, v: Outputs) -> Outputs:
    """H v = 0.

    Derivation:
        sign(r) is constant between kinks, so dg = 0.
    """
    return jnp.zeros_like(v)


@at_least_float32
def _absolute_error_hessian_factor(outputs: Outputs, y: RealTargets) -> Factor:
    """S = 0.

    Derivation:
        H = 0.
    """
    return diagonal(jnp.zeros_like(outputs))


@at_least_float32
def _huber(outputs: Outputs, y: RealTargets, delta: float) -> PerExample:
    """ℓ = Σ ½ r² where |r| ≤ δ, else δ (|r| − ½ δ)."""
    r = jnp.abs(outputs - y)
    inner = jnp.where(r <= delta, r, delta)  # so that the square cannot overflow where it is not taken
    return jnp.sum(jnp.where(r <= delta, 0.5 * inner * inner, delta * (r - 0.5 * delta)), axis=1)


@at_least_float32
def _huber_gradient(outputs: Outputs, y: RealTargets, delta: float) -> Outputs:
    """g = r clipped to [−δ, δ].

    Derivation:
        d(½ r²) = r dr inside, d(δ |r|) = δ sign(r) dr outside; the two agree at |r| = δ.
    """
    return jnp.clip(outputs - y, -delta, delta)


def _huber_is_quadratic(outputs: Outputs, y: RealTargets, delta: float) -> Outputs:
    return (jnp.abs(outputs - y) <= delta).astype(outputs.dtype)


@at_least_float32
def _huber_hessian_action(outputs: Outputs, y: RealTargets, v: Outputs, delta: float) -> Outputs:
    """H v = v where |r| ≤ δ, else 0.

    Derivation:
        dg = dr inside, where g = r, and dg = 0 outside, where g = ±δ; |r| = δ is counted inside.
    """
    return _huber_is_quadratic(outputs, y, delta) * v


@at_least_float32
def _huber_hessian_factor(outputs: Outputs, y: RealTargets, delta: float) -> Factor:
    """S = diag(1 where |r| ≤ δ, else 0).

    Derivation:
        H is diagonal with entries 0 and 1, so HᵀH = H.
    """
    return diagonal(_huber_is_quadratic(outputs, y, delta))


@at_least_float32
def _poisson(outputs: Outputs, y: RealTargets) -> PerExample:
    """ℓ = Σ e^z − y z with z the outputs: −log of the Poisson probability at rate e^z, without log y!."""
    return jnp.sum(jnp.exp(outputs) - weighed(y, outputs), axis=1)


@at_least_float32
def _poisson_gradient(outputs: Outputs, y: RealTargets) -> Outputs:
    """g = e^z − y.

    Derivation:
        d(e^z − y z) = (e^z − y) dz.
    """
    return jnp.exp(outputs) - y


@at_least_float32
def _poisson_hessian_action(outputs: Outputs, y: RealTargets, v: Outputs) -> Outputs:
    """H v = e^z ∘ v.

    Derivation:
        dg = e^z ∘ dz.
    """
    return jnp.exp(outputs) * v


@at_least_float32
def _poisson_hessian_factor(outputs: Outputs, y: RealTargets) -> Factor:
    """S = diag(e^{z/2}).

    Derivation:
        H = diag(e^z), and (e^{z/2})² = e^z.
    """
    return diagonal(jnp.exp(0.5 * outputs))


half_squared_error: Loss = Loss(
    "half_squared_error",
    value=_half_squared_error,
    gradient=_half_squared_error_gradient,
    hessian_action=_half_squared_error_hessian_action,
    hessian_factor=_half_squared_error_hessian_factor,
)

absolute_error: Loss = Loss(
    "absolute_error",
    value=_absolute_error,
    gradient=_absolute_error_gradient,
    hessian_action=_absolute_error_hessian_action,
    hessian_factor=_absolute_error_hessian_factor,
)

poisson: Loss = Loss(
    "poisson",
    value=_poisson,
    gradient=_poisson_gradient,
    hessian_action=_poisson_hessian_action,
    hessian_factor=_poisson_hessian_factor,
    target_range=(0.0, math.inf),
    inverse_link=at_least_float32(jnp.exp),
)


def huber(delta: float = 1.0) -> Loss:
    """The squared error of small residuals and the absolute error of large ones.

    ℓ = Σ ½ r² where |r| ≤ δ, else δ (|r| − ½ δ).

    Args:
        delta: δ > 0, in the units of the targets.

    Raises:
        ValueError: If delta is not a positive finite number.

    References:
        Huber 1964, Robust Estimation of a Location Parameter.
    """
    delta = float(delta)
    if not 0 < delta < float("inf"):
        raise ValueError(f"delta must be a positive finite number; got {delta}")
    return Loss(
        "huber",
        value=partial(_huber, delta=delta),
        gradient=partial(_huber_gradient, delta=delta),
        hessian_action=partial(_huber_hessian_action, delta=delta),
        hessian_factor=partial(_huber_hessian_factor, delta=delta),
        constants=(delta,),
    )
