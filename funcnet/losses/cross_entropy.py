"""Losses on logits: sigmoid_cross_entropy, softmax_cross_entropy, label_smoothed.

Each has its value, gradient, Hessian action and Hessian factor in this order. Nothing is clipped and no epsilon is
added. Where one class takes nearly all the probability, 1 − p is summed from the other classes and never subtracted
from 1, so that value and derivatives are as accurate as the logits determine them, however far these saturate.

Logits of −∞ mask a class: its probability and every derivative in it are 0, unless it is the label: then the loss is ∞,
and its entry of the gradient −1. A row whose classes are all masked has a loss of ∞ and derivatives of 0.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from funcnet.losses.loss import Factor, Loss, Outputs, PerExample, RealTargets, diagonal, weighed
from funcnet.precision import at_least_float32

ClassTargets = Int[Array, " n"] | Bool[Array, " n"] | RealTargets


@at_least_float32
def _sigmoid_cross_entropy(outputs: Outputs, y: RealTargets) -> PerExample:
    """ℓ = −Σ y log σ(z) + (1 − y) log σ(−z) = Σ y softplus(−z) + (1 − y) softplus(z), y in [0, 1]."""
    return jnp.sum(weighed(y, jax.nn.softplus(-outputs)) + weighed(1 - y, jax.nn.softplus(outputs)), axis=1)


@at_least_float32
def _sigmoid_cross_entropy_gradient(outputs: Outputs, y: RealTargets) -> Outputs:
    """g = σ(z) − y = (1 − y) σ(z) − y σ(−z), the second form free of cancellation.

    Derivation:
        d softplus(z) = σ(z) dz and d softplus(−z) = −σ(−z) dz.
    """
    return (1 - y) * jax.nn.sigmoid(outputs) - y * jax.nn.sigmoid(-outputs)


@at_least_float32
def _sigmoid_cross_entropy_hessian_action(outputs: Outputs, y: RealTargets, v: Outputs) -> Outputs:
    """H v = σ(z) σ(−z) ∘ v.

    Derivation:
        dg = dσ(z) = σ(z) σ(−z) ∘ dz.
    """
    return jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs) * v


@at_least_float32
def _sigmoid_cross_entropy_hessian_factor(outputs: Outputs, y: RealTargets) -> Factor:
    """S = diag(√(σ(z) σ(−z))).

    Derivation:
        H = diag(σ(z) σ(−z)); the roots are taken apart, since the product underflows first.
    """
    return diagonal(jnp.sqrt(jax.nn.sigmoid(outputs)) * jnp.sqrt(jax.nn.sigmoid(-outputs)))


class _Softmax(NamedTuple):
    """Softmax of each row, without cancellation: with t the top class, all sums leave e^{z_t − z_t} = 1 out."""

    is_top: Bool[Array, "n k"]
    gap: Outputs  # z_t − z_j
    p: Outputs  # e^{−gap} / (1 + rest)
    q: Outputs  # 1 − p
    log_sum: Float[Array, "n 1"]  # log Σ_j e^{−gap_j} = log1p(rest)
    masked: Bool[Array, "n 1"]  # all logits −∞


def _one_hot(labels: Int[Array, " n"] | Bool[Array, " n"], k: int) -> Bool[Array, "n k"]:
    return labels.astype(jnp.int32)[:, None] == jnp.arange(k, dtype=jnp.int32)[None, :]


@jax.jit  # value and gradient both need it; so a program that has both traces and lowers it once
def _softmax(z: Outputs) -> _Softmax:
    is_top = _one_hot(jnp.argmax(z, axis=1), z.shape[1])
    top = jnp.sum(jnp.where(is_top, z, 0), axis=1, keepdims=True)
    gap = jnp.where(is_top, 0, jnp.where(z == -jnp.inf, jnp.inf, top - z))
    e = jnp.where(is_top, 0, jnp.exp(-gap))
    rest = jnp.sum(e, axis=1, keepdims=True)
    masked = top == -jnp.inf
    p_top = 1 / (1 + rest)
    p = jnp.where(masked, 0, jnp.where(is_top, 1, e) * p_top)
    q = jnp.where(is_top, rest * p_top, 1 - p)
    return _Softmax(is_top, gap, p, q, jnp.log1p(rest), masked)


def _total(y: RealTargets) -> Float[Array, "n 1"]:
    return jnp.sum(y, axis=1, keepdims=True)


@at_least_float32
def _softmax_cross_entropy(outputs: Outputs, y: ClassTargets) -> PerExample:
    """ℓ = −Σ_j y_j log p_j = Σ_j y_j (z_t − z_j) + (1ᵀy) log1p(Σ_{i≠t} e^{z_i − z_t}), t the top class.

    Integer labels stand for the unit vector y = e_label; a label outside 0 … k − 1 gives NaN.
    """
    s = _softmax(outputs)
    if y.ndim == 1:
        is_label = _one_hot(y, outputs.shape[1])
        value = jnp.sum(jnp.where(is_label, s.gap, 0), axis=1) + s.log_sum[:, 0]
        value = jnp.where(jnp.any(is_label, axis=1), value, jnp.nan)
    else:
        y = y.astype(outputs.dtype)
        value = jnp.sum(weighed(y, s.gap), axis=1) + (_total(y) * s.log_sum)[:, 0]
    return jnp.where(s.masked[:, 0], jnp.inf, value)


@at_least_float32
def _softmax_cross_entropy_gradient(outputs: Outputs, y: ClassTargets) -> Outputs:
    """g = (1ᵀy) p − y; entry j as p_j Σ_{i≠j} y_i − y_j Σ_{i≠j} p_i, free of cancellation.

    For an integer label that is p_j off the label and −(1 − p_j) on it.

    Derivation:
        ℓ = (1ᵀy) log 1ᵀe^z − yᵀz, so dℓ = (1ᵀy) (e^z)ᵀdz / 1ᵀe^z − yᵀdz = tr[((1ᵀy) p − y)ᵀ dz].
        Since 1ᵀp = 1, (1ᵀy) p_j − y_j = p_j (1ᵀy − y_j) − y_j (1 − p_j).
    """
    s = _softmax(outputs)
    if y.ndim == 1:
        is_label = _one_hot(y, outputs.shape[1])
        known = jnp.any(is_label, axis=1, keepdims=True)
        g = jnp.where(known, jnp.where(is_label, -s.q, s.p), 0)
    else:
        y = y.astype(outputs.dtype)
        is_top = _one_hot(jnp.argmax(y, axis=1), y.shape[1])
        others = jnp.where(is_top, _total(jnp.where(is_top, 0, y)), _total(y) - y)
        g = s.p * others - y * s.q
    return jnp.where(s.masked, 0, g)


def _total_or_one(outputs: Outputs, y: ClassTargets) -> Float[Array, "n 1"]:
    """1ᵀy, which is 1 for a label, and 0 for one outside 0 … k − 1."""
    if y.ndim == 1:
        return jnp.any(_one_hot(y, outputs.shape[1]), axis=1, keepdims=True).astype(outputs.dtype)
    return _total(y.astype(outputs.dtype))


@at_least_float32
def _softmax_cross_entropy_hessian_action(outputs: Outputs, y: ClassTargets, v: Outputs) -> Outputs:
    """H v = (1ᵀy) p ∘ (v − 1 pᵀv), with v taken relative to its entry in the top class.

    Derivation:
        p = e^z / 1ᵀe^z, so dp = p ∘ dz − p (pᵀdz) and dg = (1ᵀy) (diag(p) − p pᵀ) dz. A constant added to v changes
        nothing, since H 1 = 0; relative to the top class the large terms of v − 1 pᵀv are absent.
    """
    s = _softmax(outputs)
    u = v - jnp.sum(jnp.where(s.is_top, v, 0), axis=1, keepdims=True)
    return _total_or_one(outputs, y) * s.p * (u - jnp.sum(s.p * u, axis=1, keepdims=True))


@at_least_float32
def _softmax_cross_entropy_hessian_factor(outputs: Outputs, y: ClassTargets) -> Factor:
    """S = √(1ᵀy) diag(√p) (I − 1 pᵀ), for 1ᵀy ≥ 0.

    Derivation:
        SᵀS / 1ᵀy = (I − p 1ᵀ) diag(p) (I − 1 pᵀ) = diag(p) − p pᵀ − p pᵀ + p (1ᵀp) pᵀ = diag(p) − p pᵀ.
    """
    s = _softmax(outputs)
    rows = jnp.sqrt(_total_or_one(outputs, y)) * jnp.sqrt(s.p)
    return diagonal(rows * s.q) - rows[:, :, None] * _off_diagonal(s.p)


def _off_diagonal(p: Outputs) -> Factor:
    """1 pᵀ without its diagonal, for each example."""
    k = p.shape[1]
    return p[:, None, :] * (1 - jnp.eye(k, dtype=p.dtype))[None, :, :]


def _smoothed(outputs: Outputs, y: ClassTargets, epsilon: float) -> RealTargets:
    """(1 − ε) y + (ε/k) (1ᵀy) 1, with a label as its unit vector."""
    k = outputs.shape[1]
    y = (_one_hot(y, k) if y.ndim == 1 else y).astype(outputs.dtype)
    return (1 - epsilon) * y + epsilon / k * _total(y)


@at_least_float32
def _label_smoothed(outputs: Outputs, y: ClassTargets, epsilon: float) -> PerExample:
    """ℓ = −Σ_j y'_j log p_j with y' = (1 − ε) y + (ε/k) 1; a label outside 0 … k − 1 gives NaN."""
    value = _softmax_cross_entropy(outputs, _smoothed(outputs, y, epsilon))
    if y.ndim == 1:
        value = jnp.where(jnp.any(_one_hot(y, outputs.shape[1]), axis=1), value, jnp.nan)
    return value


@at_least_float32
def _label_smoothed_gradient(outputs: Outputs, y: ClassTargets, epsilon: float) -> Outputs:
    """g = (1ᵀy) p − y', the gradient of the softmax cross-entropy at y'.

    Derivation:
        ℓ is the softmax cross-entropy at y', and 1ᵀy' = (1 − ε) 1ᵀy + k (ε/k) 1ᵀy = 1ᵀy.
    """
    return _softmax_cross_entropy_gradient(outputs, _smoothed(outputs, y, epsilon))


@at_least_float32
def _label_smoothed_hessian_action(outputs: Outputs, y: ClassTargets, v: Outputs, epsilon: float) -> Outputs:
    """H v as of the softmax cross-entropy.

    Derivation:
        H = (1ᵀy') (diag(p) − p pᵀ) depends on y' through 1ᵀy' = 1ᵀy alone.
    """
    return _softmax_cross_entropy_hessian_action(outputs, y, v)


@at_least_float32
def _label_smoothed_hessian_factor(outputs: Outputs, y: ClassTargets, epsilon: float) -> Factor:
    """S as of the softmax cross-entropy.

    Derivation:
        The two have the same H.
    """
    return _softmax_cross_entropy_hessian_factor(outputs, y)


@at_least_float32
def _probabilities(outputs: Outputs) -> Outputs:
    """Softmax of each row; 0 where all its classes are masked."""
    return _softmax(outputs).p


sigmoid_cross_entropy: Loss = Loss(
    "sigmoid_cross_entropy",
    value=_sigmoid_cross_entropy,
    gradient=_sigmoid_cross_entropy_gradient,
    hessian_action=_sigmoid_cross_entropy_hessian_action,
    hessian_factor=_sigmoid_cross_entropy_hessian_factor,
    target_range=(0.0, 1.0),
    logits=True,
    inverse_link=at_least_float32(jax.nn.sigmoid),
)

softmax_cross_entropy: Loss = Loss(
    "softmax_cross_entropy",
    value=_softmax_cross_entropy,
    gradient=_softmax_cross_entropy_gradient,
    hessian_action=_softmax_cross_entropy_hessian_action,
    hessian_factor=_softmax_cross_entropy_hessian_factor,
    targets="classes",
    target_range=(0.0, math.inf),
    logits=True,
    inverse_link=_probabilities,
)


def label_smoothed(epsilon: float = 0.1) -> Loss:
    """The softmax cross-entropy against (1 − ε) y + (ε/k) 1: a share ε of each label spread over all k classes.

    Args:
        epsilon: ε in [0, 1).

    Raises:
        ValueError: If epsilon is outside [0, 1).

    References:
        Szegedy et al. 2016, Rethinking the Inception Architecture for Computer Vision.
    """
    epsilon = float(epsilon)
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon must be in [0, 1); got {epsilon}")
    return Loss(
        "label_smoothed",
        value=partial(_label_smoothed, epsilon=epsilon),
        gradient=partial(_label_smoothed_gradient, epsilon=epsilon),
        hessian_action=partial(_label_smoothed_hessian_action, epsilon=epsilon),
        hessian_factor=partial(_label_smoothed_hessian_factor, epsilon=epsilon),
        constants=(epsilon,),
        targets="classes",
        target_range=(0.0, math.inf),
        logits=True,
        inverse_link=_probabilities,
    )
