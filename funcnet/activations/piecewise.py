"""Activations made of pieces: straight lines and exponentials. Kinks take the value that `jax.nn` gives them.

Each has its value, slope, curvature and third derivative in this order. Derivatives on a straight piece are 0 or
constant; at a kink they are those of the piece that holds the point.
"""

from functools import partial

import jax
import jax.numpy as jnp

from funcnet.activations.activation import Activation, Scheme, zero
from funcnet.precision import at_least_float32
from funcnet.types import Values

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _identity(z: Values) -> Values:
    """φ(z) = z."""
    return jnp.asarray(z)


def _identity_slope(z: Values, h: Values) -> Values:
    """φ'(z) = 1.

    Derivation:
        dφ = dz.
    """
    return jnp.ones_like(z)


def _relu_slope(z: Values, h: Values) -> Values:
    """φ'(z) = 1 for z > 0, which is where h > 0, else 0, also at the kink.

    Derivation:
        φ(z) = max(z, 0), so dφ = dz where z > 0 and dφ = 0 where z < 0.
    """
    return (z > 0).astype(h.dtype)


@at_least_float32
def _leaky_relu(z: Values, negative_slope: float) -> Values:
    """φ(z) = z for z ≥ 0, else s z."""
    return jnp.where(z >= 0, z, negative_slope * z)


@at_least_float32
def _leaky_relu_slope(z: Values, h: Values, negative_slope: float) -> Values:
    """φ'(z) = 1 for z ≥ 0, else s.

    Derivation:
        dφ = dz for z > 0 and dφ = s dz for z < 0; 0 belongs to the piece z ≥ 0.
    """
    return jnp.where(z >= 0, jnp.ones_like(z), jnp.full_like(z, negative_slope))


def _negative_part(z: Values) -> Values:
    """The part of z below 0: what the exponential piece sees, so that it cannot overflow on the other side."""
    return jnp.where(z > 0, jnp.zeros_like(z), z)


@at_least_float32
def _elu(z: Values, alpha: float, scale: float) -> Values:
    """φ(z) = s z for z > 0, else s α (e^z − 1)."""
    return scale * jnp.where(z > 0, z, alpha * jnp.expm1(_negative_part(z)))


@at_least_float32
def _elu_slope(z: Values, h: Values, alpha: float, scale: float) -> Values:
    """φ'(z) = s for z > 0, else s α e^z.

    Derivation:
        d(e^z − 1) = e^z dz. From the output it would be h + s α, which cancels where h saturates at −s α;
        e^z from z does not.
    """
    return jnp.where(z > 0, jnp.full_like(z, scale), scale * alpha * jnp.exp(_negative_part(z)))


@at_least_float32
def _elu_curvature(z: Values, h: Values, alpha: float, scale: float) -> Values:
    """φ''(z) = φ'''(z) = 0 for z > 0, else s α e^z.

    Derivation:
        d(s α e^z) = s α e^z dz, again and again; d(s) = 0.
    """
    return jnp.where(z > 0, jnp.zeros_like(z), scale * alpha * jnp.exp(_negative_part(z)))


def _exponential_linear(name: str, alpha: float, scale: float, initializer: Scheme) -> Activation:
    constants = {"alpha": alpha, "scale": scale}
    return Activation(
        name=name,
        value=partial(_elu, **constants),
        slope=partial(_elu_slope, **constants),
        curvature=partial(_elu_curvature, **constants),
        third=partial(_elu_curvature, **constants),
        constants=(alpha, scale),
        initializer=initializer,
    )


identity: Activation = Activation("identity", value=_identity, slope=_identity_slope, curvature=zero, third=zero)

relu: Activation = Activation(
    "relu", value=jax.nn.relu, slope=_relu_slope, curvature=zero, third=zero, initializer="he"
)

leaky_relu: Activation = Activation(
    "leaky_relu",
    value=partial(_leaky_relu, negative_slope=0.01),
    slope=partial(_leaky_relu_slope, negative_slope=0.01),
    curvature=zero,
    third=zero,
    constants=(0.01,),
    initializer="he",
)

elu: Activation = _exponential_linear("elu", alpha=1.0, scale=1.0, initializer="he")

selu: Activation = _exponential_linear("selu", alpha=SELU_ALPHA, scale=SELU_SCALE, initializer="lecun")
