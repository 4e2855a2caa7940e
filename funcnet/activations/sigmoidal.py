"""Activations built from the logistic function σ(z) = 1 / (1 + e^{−z}): softplus, sigmoid, tanh, silu, gelu_tanh.

Each has its value, slope, curvature and third derivative in this order. They stand on three facts, all free of
cancellation however far σ saturates (1 − σ(z) is σ(−z), 1 − 2σ(z) is −tanh(z/2)):

    σ'(z) = σ(z) σ(−z),    σ''(z) = −σ'(z) tanh(z/2),    σ'''(z) = σ'(z) (1 − 6 σ'(z)).
"""

import math

import jax
import jax.numpy as jnp

from funcnet.activations.activation import Activation
from funcnet.precision import at_least_float32
from funcnet.types import Values

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715


@at_least_float32
def _sigmoid_slope(z: Values, h: Values) -> Values:
    """σ'(z) = σ(z) σ(−z).

    Derivation:
        h = 1/(1 + e^{−z}), so dh = e^{−z}/(1 + e^{−z})² dz = σ(z)·[e^{−z}/(1 + e^{−z})] dz, and the bracket is
        1/(e^z + 1) = σ(−z). The textbook's h (1 − h) is the same, yet 0 as soon as h rounds to 1.
    """
    return jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)


@at_least_float32
def _sigmoid_curvature(z: Values, h: Values) -> Values:
    """σ''(z) = −σ'(z) tanh(z/2).

    Derivation:
        d[σ(z) σ(−z)] = σ'(z) [σ(−z) − σ(z)] dz, and σ(z) − σ(−z) = (1 − e^{−z})/(1 + e^{−z}) = tanh(z/2).
    """
    return -_sigmoid_slope(z, h) * jnp.tanh(z / 2)


@at_least_float32
def _sigmoid_third(z: Values, h: Values) -> Values:
    """σ'''(z) = σ'(z) (1 − 6 σ'(z)).

    Derivation:
        With t = tanh(z/2), dt = ½ (1 − t²) dz and 1 − t² = 4 σ'(z): d(−σ' t) = [σ' t² − 2 σ'²] dz, and
        t² = 1 − 4 σ'.
    """
    slope = _sigmoid_slope(z, h)
    return slope * (1 - 6 * slope)


@at_least_float32
def _softplus_slope(z: Values, h: Values) -> Values:
    """φ'(z) = σ(z) for φ(z) = log(1 + e^z).

    Derivation:
        dφ = e^z/(1 + e^z) dz. The further derivatives are those of σ.
    """
    return jax.nn.sigmoid(z)


@at_least_float32
def _tanh_slope(z: Values, h: Values) -> Values:
    """φ'(z) = sech² z = 4 σ(2z) σ(−2z).

    Derivation:
        tanh z = 2 σ(2z) − 1, so dφ = 4 σ'(2z) dz. From the output it is 1 − h², which is 0 as soon as h rounds
        to ±1.
    """
    return 4 * _sigmoid_slope(2 * z, h)


@at_least_float32
def _tanh_curvature(z: Values, h: Values) -> Values:
    """φ''(z) = −2 h sech² z.

    Derivation:
        d(1 − h²) = −2 h dh.
    """
    return -2 * h * _tanh_slope(z, h)


@at_least_float32
def _tanh_third(z: Values, h: Values) -> Values:
    """φ'''(z) = sech² z (6 h² − 2).

    Derivation:
        d(−2 h s) = −2 (s·s + h·(−2 h s)) dz with s = sech² z = 1 − h²: s (−2 s + 4 h²) = s (6 h² − 2).
    """
    return _tanh_slope(z, h) * (6 * h * h - 2)


@at_least_float32
def _silu_slope(z: Values, h: Values) -> Values:
    """φ'(z) = σ(z) (1 + z σ(−z)) for φ(z) = z σ(z).

    Derivation:
        dφ = σ dz + z dσ, and dσ = σ(z) σ(−z) dz.
    """
    return jax.nn.sigmoid(z) * (1 + z * jax.nn.sigmoid(-z))


@at_least_float32
def _silu_curvature(z: Values, h: Values) -> Values:
    """φ''(z) = 2 σ'(z) + z σ''(z) = σ'(z) (2 − z tanh(z/2)).

    Derivation:
        d(σ + z σ') = (σ' + σ' + z σ'') dz, and σ'' = −σ' tanh(z/2).
    """
    return _sigmoid_slope(z, h) * (2 - z * jnp.tanh(z / 2))


@at_least_float32
def _silu_third(z: Values, h: Values) -> Values:
    """φ'''(z) = 3 σ''(z) + z σ'''(z).

    Derivation:
        d(2 σ' + z σ'') = (2 σ'' + σ'' + z σ''') dz.
    """
    return 3 * _sigmoid_curvature(z, h) + z * _sigmoid_third(z, h)


def _gelu_argument(z: Values) -> tuple[Values, Values, Values]:
    """v(z) = 2 √(2/π) (z + 0.044715 z³), v'(z) and v''(z); v''' is the constant of v'' / z."""
    c = 2 * SQRT_2_OVER_PI
    v = c * (z + GELU_CUBIC * z * z * z)
    return v, c * (1 + 3 * GELU_CUBIC * z * z), 6 * c * GELU_CUBIC * z


@at_least_float32
def _gelu_tanh(z: Values) -> Values:
    """φ(z) = z σ(v(z)): ½ z (1 + tanh(v/2)) without the cancellation of 1 + tanh where v is very negative."""
    return z * jax.nn.sigmoid(_gelu_argument(z)[0])


@at_least_float32
def _gelu_tanh_slope(z: Values, h: Values) -> Values:
    """φ'(z) = σ(v) + z σ'(v) v' = σ(v) (1 + z σ(−v) v').

    Derivation:
        dφ = σ(v) dz + z σ'(v) dv and dv = v' dz.
    """
    v, v1, _ = _gelu_argument(z)
    return jax.nn.sigmoid(v) * (1 + z * jax.nn.sigmoid(-v) * v1)


@at_least_float32
def _gelu_tanh_curvature(z: Values, h: Values) -> Values:
    """φ''(z) = 2 s' + z s'' with s = σ(v(z)): s' = σ'(v) v', s'' = σ''(v) v'² + σ'(v) v''.

    Derivation:
        d(s + z s') = (s' + s' + z s'') dz. ds = σ'(v) v' dz, and ds' = v' dσ'(v) + σ'(v) dv' with
        dσ'(v) = σ''(v) v' dz.
    """
    v, v1, v2 = _gelu_argument(z)
    first = _sigmoid_slope(v, h) * v1
    second = _sigmoid_curvature(v, h) * v1 * v1 + _sigmoid_slope(v, h) * v2
    return 2 * first + z * second


@at_least_float32
def _gelu_tanh_third(z: Values, h: Values) -> Values:
    """φ'''(z) = 3 s'' + z s''' with s''' = σ'''(v) v'³ + 3 σ''(v) v' v'' + σ'(v) v'''.

    Derivation:
        d(2 s' + z s'') = (3 s'' + z s''') dz. d(σ''(v) v'²) = (σ'''(v) v'³ + 2 σ''(v) v' v'') dz and
        d(σ'(v) v'') = (σ''(v) v' v'' + σ'(v) v''') dz.
    """
    v, v1, v2 = _gelu_argument(z)
    v3 = 12 * SQRT_2_OVER_PI * GELU_CUBIC
    slope, curvature = _sigmoid_slope(v, h), _sigmoid_curvature(v, h)
    second = curvature * v1 * v1 + slope * v2
    third = _sigmoid_third(v, h) * v1 * v1 * v1 + 3 * curvature * v1 * v2 + slope * v3
    return 3 * second + z * third


sigmoid: Activation = Activation(
    "sigmoid",
    value=at_least_float32(jax.nn.sigmoid),
    slope=_sigmoid_slope,
    curvature=_sigmoid_curvature,
    third=_sigmoid_third,
)

softplus: Activation = Activation(
    "softplus",
    value=at_least_float32(jax.nn.softplus),
    slope=_softplus_slope,
    curvature=_sigmoid_slope,
    third=_sigmoid_curvature,
)

tanh: Activation = Activation(
    "tanh", value=at_least_float32(jnp.tanh), slope=_tanh_slope, curvature=_tanh_curvature, third=_tanh_third
)

silu: Activation = Activation(
    "silu",
    value=at_least_float32(jax.nn.silu),
    slope=_silu_slope,
    curvature=_silu_curvature,
    third=_silu_third,
    initializer="he",
)

gelu_tanh: Activation = Activation(
    "gelu_tanh",
    value=_gelu_tanh,
    slope=_gelu_tanh_slope,
    curvature=_gelu_tanh_curvature,
    third=_gelu_tanh_third,
    initializer="he",
)
