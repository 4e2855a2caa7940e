"""gelu, z Φ(z), with Φ and ϕ the distribution function and density of the standard normal distribution."""

import math

import jax
import jax.numpy as jnp

from funcnet.activations.activation import Activation
from funcnet.precision import at_least_float32
from funcnet.types import Values


def _distribution(z: Values) -> Values:
    """Φ(z) = ½ erfc(−z/√2)."""
    return 0.5 * jax.lax.erfc(-z * math.sqrt(0.5))


def _density(z: Values) -> Values:
    """ϕ(z) = e^{−z²/2}/√(2π), with the square split so that its rounding is not magnified by the exponential.

    With c = z rounded to a multiple of 1/16, c² is exact wherever ϕ is not yet 0, and z² = c² + (z − c)(z + c).
    """
    c = jnp.round(jnp.clip(z, -64, 64) * 16) / 16
    return jnp.exp(-0.5 * c * c) * jnp.exp(-0.5 * (z - c) * (z + c)) * (1 / math.sqrt(2 * math.pi))


@at_least_float32
def _gelu(z: Values) -> Values:
    """φ(z) = z Φ(z)."""
    return z * _distribution(z)


@at_least_float32
def _gelu_slope(z: Values, h: Values) -> Values:
    """φ'(z) = Φ(z) + z ϕ(z).

    Derivation:
        dφ = Φ dz + z dΦ, and dΦ = ϕ dz by the definition of a distribution function.
    """
    return _distribution(z) + z * _density(z)


@at_least_float32
def _gelu_curvature(z: Values, h: Values) -> Values:
    """φ''(z) = (2 − z²) ϕ(z).

    Derivation:
        dϕ = −z ϕ dz, so d(Φ + z ϕ) = (ϕ + ϕ − z² ϕ) dz.
    """
    return (2 - z * z) * _density(z)


@at_least_float32
def _gelu_third(z: Values, h: Values) -> Values:
    """φ'''(z) = (z³ − 4 z) ϕ(z).

    Derivation:
        d[(2 − z²) ϕ] = (−2 z − (2 − z²) z) ϕ dz.
    """
    return z * (z * z - 4) * _density(z)


gelu: Activation = Activation(
    "gelu",
    value=_gelu,
    slope=_gelu_slope,
    curvature=_gelu_curvature,
    third=_gelu_third,
    initializer="he",
)
