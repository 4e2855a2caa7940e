"""Correct gradients of elementwise functions and of losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gradient_cases import WIDE, Family, in_float32, integers, normal, uniform
from gradient_models import cross_entropy, half_squared, logistic
from jax.scipy.special import digamma, erf, gammaln

ROOT = 0.5**0.5
BELL = (2 * np.pi) ** -0.5


def _gelu_slope(x: Any) -> Any:
    return 0.5 * (1 + erf(x * ROOT)) + x * BELL * jnp.exp(-0.5 * x * x)


def _silu_slope(x: Any) -> Any:
    s = jax.nn.sigmoid(x)
    return s * (1 + x * (1 - s))


def _sech_squared(x: Any) -> Any:
    """The slope of tanh without cancellation."""
    e = jnp.exp(-2 * jnp.abs(x))
    return 4 * e / (1 + e) ** 2


NATIVE: dict[str, tuple[Any, Any, float, float]] = {
    "sin": (jnp.sin, jnp.cos, -3, 3),
    "exp": (jnp.exp, jnp.exp, -4, 4),
    "tanh": (jnp.tanh, lambda x: 1 - jnp.tanh(x) ** 2, -2, 2),
    "log1p": (jnp.log1p, lambda x: 1 / (1 + x), 0, 3),
    "square root": (jnp.sqrt, lambda x: 0.5 / jnp.sqrt(x), 0.25, 9),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / (x * x), 0.5, 4),
    "cube": (lambda x: x**3, lambda x: 3 * x * x, -3, 3),
    "softplus": (jax.nn.softplus, jax.nn.sigmoid, -8, 8),
    "log cosh": (lambda x: jnp.logaddexp(x, -x), jnp.tanh, -3, 3),
    "arctangent": (jnp.arctan, lambda x: 1 / (1 + x * x), -4, 4),
}
"""Value, slope, and the interval of x; computed in the dtype itself."""

LIFTED: dict[str, tuple[Any, Any, float, float]] = {
    "gelu": (lambda x: jax.nn.gelu(x, approximate=False), _gelu_slope, -3, 3),
    "silu": (jax.nn.silu, _silu_slope, -6, 6),
    "tanh, saturated": (jnp.tanh, _sech_squared, 5, 9),
    "power 2.5": (lambda x: x**2.5, lambda x: 2.5 * x**1.5, 0.5, 6),
    "logarithm of the logistic": (jax.nn.log_sigmoid, lambda x: jax.nn.sigmoid(-x), -9, 9),
    "logit": (lambda x: jnp.log(x) - jnp.log1p(-x), lambda x: 1 / (x * (1 - x)), 0.05, 0.95),
    "entropy": (lambda x: -x * jnp.log(x), lambda x: -1 - jnp.log(x), 0.01, 2),
    "expm1 over x": (lambda x: jnp.expm1(x) / x, lambda x: jnp.exp(x) / x - jnp.expm1(x) / x**2, 1, 3),
}
"""As above, with half precision computed in float32."""


def zoo() -> list[Family]:
    """Σ c ∘ f(x), the gradient being c ∘ f'(x)."""
    families = []
    for table, lift in ((NATIVE, lambda grad: grad), (LIFTED, in_float32)):
        for name, (value, slope, low, high) in table.items():
            families.append(
                Family(
                    name,
                    lambda x, c, value=value: jnp.sum(c * value(x)),
                    lift(lambda x, c, slope=slope: c * slope(x)),
                    lambda dtype, scale, ends=(low, high): (uniform(1, (12,), dtype, *ends), normal(2, (12,), dtype)),
                )
            )
    return families


def _vector(dtype: str, scale: float) -> tuple[Any, ...]:
    return (normal(3, (12,), dtype, scale),)


def over_scales() -> list[Family]:
    """Functions at many scales."""
    both = (1e-6, 1e-3, 1e3, 1e6)
    return [
        Family("Σ sin(x)", lambda x: jnp.sum(jnp.sin(x)), jnp.cos, _vector, scales=(1e-6, 1e-3, 30.0)),
        Family(
            "asinh",
            lambda x: jnp.sum(jnp.arcsinh(x)),
            lambda x: 1 / jnp.hypot(x, jnp.ones_like(x)),
            _vector,
            dtypes=WIDE,
            scales=both,
        ),
        Family(
            "½ Σ x²",
            lambda x: 0.5 * jnp.sum(x * x),
            lambda x: x,
            _vector,
            dtypes=("bfloat16", *WIDE),
            scales=both,
        ),
    ]


def over_wide_scales() -> list[Family]:
    """More functions at many scales."""
    both = (1e-6, 1e-3, 1e3, 1e6)
    return [
        Family(
            "soft absolute value",
            in_float32(lambda x: jnp.sum(jnp.sqrt(1 + x * x))),
            in_float32(lambda x: x / jnp.sqrt(1 + x * x)),
            _vector,
            scales=both,
        ),
        Family(
            "quotient x/(1+|x|)",
            in_float32(lambda x: jnp.sum(x / (1 + jnp.abs(x)))),
            in_float32(lambda x: (1 + jnp.abs(x)) ** -2),
            _vector,
            scales=both,
        ),
        Family(
            "log gamma",
            lambda x: jnp.sum(gammaln(x)),
            digamma,
            lambda dtype, scale: (uniform(4, (12,), dtype, 0.5 * scale, 5 * scale),),
            dtypes=WIDE,
            scales=(1.0, 1e3, 1e6),
        ),
    ]


def _poisson(z: Any, y: Any) -> Any:
    return jnp.mean(jnp.exp(z) - y * z)


def _huber(z: Any, y: Any) -> Any:
    e = jnp.abs(z - y)
    return jnp.mean(jnp.where(e <= 0.75, 0.5 * e * e, 0.75 * (e - 0.375)))


def _quantile(z: Any, y: Any) -> Any:
    return jnp.mean(jnp.maximum(0.7 * (y - z), -0.3 * (y - z)))


def _hinge(z: Any, y: Any) -> Any:
    return jnp.mean(jax.nn.relu(1 - jnp.where(y > 0, 1, -1) * z))


def _outputs(dtype: str, scale: float) -> tuple[Any, ...]:
    return normal(5, (9, 4), dtype, scale), normal(6, (9, 4), dtype, scale)


def _counts(dtype: str, scale: float) -> tuple[Any, ...]:
    return normal(5, (9, 4), dtype), integers(7, 5, (9, 4)).astype(dtype)


def _signs(dtype: str, scale: float) -> tuple[Any, ...]:
    return normal(5, (9, 4), dtype, scale), integers(8, 2, (9, 4)).astype(dtype)


def losses() -> list[Family]:
    """Losses as functions of the outputs; half precision natively unless it overflows."""
    return [
        Family("Poisson loss", _poisson, lambda z, y: (jnp.exp(z) - y) / z.size, _counts),
        Family(
            "Huber loss",
            _huber,
            lambda z, y: jnp.clip(z - y, -0.75, 0.75) / z.size,
            _outputs,
            scales=(1e-6, 1.0, 1e3, 1e6),
        ),
        Family("quantile loss", _quantile, lambda z, y: jnp.where(z > y, 0.3, -0.7).astype(z.dtype) / z.size, _outputs),
        Family(
            "hinge loss",
            _hinge,
            lambda z, y: jnp.where(jnp.where(y > 0, z, -z) < 1, jnp.where(y > 0, -1, 1), 0).astype(z.dtype) / z.size,
            _signs,
        ),
    ]


def likelihoods() -> list[Family]:
    """Losses with a value, and where they saturate."""
    return [
        Family(
            "squared error, value too",
            in_float32(lambda z, y: half_squared(z, y)[0]),
            in_float32(half_squared),
            _outputs,
            scales=(1e-6, 1.0, 100.0, 1e6),
        ),
        Family(
            "logistic loss, value too",
            lambda z, y: logistic(z, y)[0],
            in_float32(logistic),
            _signs,
            scales=(1e-3, 1.0, 10.0),
        ),
        Family(
            "logistic loss, all saturated",
            lambda z, y: logistic(z, y)[0],
            in_float32(lambda z, y: logistic(z, y)[1]),
            lambda dtype, scale: (uniform(1, (9, 4), dtype, scale, scale + 3), jnp.ones((9, 4), dtype)),
            scales=(6.0, 20.0, 60.0),
            dtypes=WIDE,
        ),
        *_cross_entropies(),
    ]


def _cross_entropies() -> list[Family]:
    """Softmax cross-entropies of integer labels, also where logits saturate."""

    def logits(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(9, (9, 4), dtype, scale), integers(10, 4, (9,))

    def saturated(dtype: str, scale: float) -> tuple[Any, ...]:
        labels = integers(10, 4, (9,))
        return (normal(9, (9, 4), "float32") + scale * jax.nn.one_hot(labels, 4)).astype(dtype), labels

    def fun(z: Any, y: Any) -> Any:
        return cross_entropy(z, y)[0]

    return [
        Family(
            "softmax cross-entropy",
            fun,
            in_float32(lambda z, y: cross_entropy(z, y)[1]),
            logits,
            scales=(1e-3, 1.0, 10.0, 1e3),
        ),
        Family(
            "softmax cross-entropy, saturated",
            fun,
            in_float32(lambda z, y: cross_entropy(z, y)[1]),
            saturated,
            dtypes=WIDE,
            scales=(12.0, 25.0, 50.0),
        ),
    ]


def families() -> list[Family]:
    """All of them."""
    return [*zoo(), *over_scales(), *over_wide_scales(), *losses(), *likelihoods()]
