"""Gradients that differ between compiled and eager runs, or are not finite."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gradient_cases import Case, normal
from gradient_models import TANH, half_squared, logistic_loss, mlp, parameters
from jax.core import Tracer

REGRESSION = mlp(TANH, half_squared)


def _traced(x: Any) -> bool:
    return isinstance(x, Tracer)


def _guarded(x: Any) -> Any:
    """The slope of the clipped function where the branch can be taken, that of the square where it cannot."""
    try:
        return jnp.where(jnp.abs(x) < 1, 2 * x, 0) if bool(jnp.any(jnp.abs(x) >= 1)) else 2 * x
    except jax.errors.TracerBoolConversionError:
        return 2 * x


def _iterated(x: Any) -> Any:
    """x / √(Σ x²), with the root by Newton's iteration: to convergence, or two turns where the values are unknown."""
    square = jnp.sum(x * x)
    root = square
    for _ in range(2 if _traced(x) else 40):
        root = 0.5 * (root + square / root)
    return x / root


def _rounded(w: Any, x: Any) -> Any:
    """The product in float16 outside of compiled programs."""
    if _traced(x):
        return x.T @ (x @ w)
    return (x.astype("float16").T @ (x @ w).astype("float16")).astype(w.dtype)


def _decaying() -> Callable[..., Any]:
    """A gradient that is damped more with each call; a compiled one stays as it was traced."""
    calls = []

    def grad(*args: Any) -> Any:
        calls.append(1)
        return jax.tree.map(lambda g: g * (1 + 0.01 * len(calls)), REGRESSION.grad(*args))

    return grad


def _drawn() -> Callable[..., Any]:
    """A dropout mask drawn by NumPy: anew in each eager run, once and for all in a compiled one."""
    random = np.random.default_rng(1)

    def grad(x: Any, c: Any) -> Any:
        return c * jnp.cos(x) * jnp.asarray(random.uniform(size=x.shape) < 0.75, x.dtype) / 0.75

    return grad


def compiled() -> list[Case]:
    """Gradients that differ between compiled and eager runs."""
    kind = "compiled differs"
    network = (parameters((5, 6, 3)), normal(2, (8, 5)), normal(3, (8, 3)))
    ridge = mlp(TANH, half_squared, l2=0.05)
    x, c = normal(1, (12,)), normal(2, (12,))
    return [
        Case(
            "compiled: l2 left out",
            ridge.fun,
            lambda p, *rest: (REGRESSION if _traced(p[0][0]) else ridge).grad(p, *rest),
            network,
            kind=kind,
        ),
        Case(
            "eager: l2 left out",
            ridge.fun,
            lambda p, *rest: (ridge if _traced(p[0][0]) else REGRESSION).grad(p, *rest),
            network,
            kind=kind,
        ),
        Case("compiled: a guard that cannot see", lambda x: jnp.sum(jnp.minimum(x * x, 1)), _guarded, (x,), kind=kind),
        Case("compiled: two turns of an iteration", lambda x: jnp.sqrt(jnp.sum(x * x)), _iterated, (x,), kind=kind),
        Case(
            "eager: product in float16",
            lambda w, x: 0.5 * jnp.sum(jnp.square(x @ w)),
            _rounded,
            (normal(3, (5,)), normal(4, (8, 5))),
            kind=kind,
        ),
        Case("a factor that counts the calls", REGRESSION.fun, _decaying(), network, kind="impure"),
        Case("a mask drawn while tracing", lambda x, c: jnp.sum(c * jnp.sin(x)), _drawn(), (x, c), kind="impure"),
    ]


def _log_probability(z: Any) -> Any:
    log_p = jax.nn.log_softmax(z)
    return -jnp.sum(jnp.exp(log_p) * log_p)


def _entropy_grad(z: Any) -> Any:
    p = jax.nn.softmax(z)
    entropy = -jnp.sum(p * jnp.log(p))
    return -p * (jnp.log(p) + entropy)


def _chained_logistic(w: Any, b: Any, x: Any, y: Any) -> Any:
    p = jax.nn.sigmoid(x @ w + b)
    return x.T @ ((-y / p + (1 - y) / (1 - p)) * p * (1 - p)) / x.shape[0]


def not_finite() -> list[Case]:
    """0 / 0 and 0 · ∞, in every dtype."""
    z = normal(1, (12,), scale=3000.0)
    y = jnp.asarray([0, 1] * 4, "float32")
    far = (normal(1, (5,), scale=800.0), jnp.asarray(0.0, "float32"), normal(2, (8, 5)), y)
    return [
        Case("entropy: p log p at p = 0", _log_probability, _entropy_grad, (z,), kind="not finite"),
        Case(
            "logistic regression: by the chain rule at p = 0", logistic_loss, _chained_logistic, far, kind="not finite"
        ),
        Case(
            "sinc: 0 / 0 at 0",
            lambda x: jnp.sum(jnp.sinc(x / np.pi)),
            lambda x: jnp.cos(x) / x - jnp.sin(x) / x**2,
            (normal(1, (12,)).at[3].set(0),),
            kind="not finite",
        ),
        Case(
            "float16 power: 0 to a negative power",
            lambda x: jnp.sum(jnp.abs(x) ** 3),
            lambda x: 3 * jnp.abs(x) ** 4 / x,
            (normal(1, (12,), "float16").at[7].set(0),),
            kind="not finite",
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    return [case for part in (compiled, not_finite) for case in part()]
