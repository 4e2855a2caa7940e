"""Wrong gradients by structure, shape and dtype: sums that are missing, transposes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gradient_cases import Case, has_float64, normal
from gradient_models import (
    affine_loss,
)
from planted_faults_networks import (
    AFFINE,
    LOGISTIC,
    REGRESSION,
    ROWS,
    SOFTMAX,
    SQUARE,
    affine_args,
    broken,
    layer,
    logistic_args,
    regression,
    softmax_args,
)


def shapes() -> list[Case]:
    """Structure, shape and dtype, sums that are missing, transposes."""

    def cast(dtype: Any) -> Any:
        return lambda g, *a: jax.tree.map(lambda leaf: leaf.astype(dtype), g)

    def flat(g: Any, *a: Any) -> Any:
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)])

    found = [
        broken("network: a list for a tuple", REGRESSION, lambda g, *a: list(g), regression(), "structure"),
        broken("network: one flat vector", REGRESSION, flat, regression(), "structure"),
        broken("affine: no gradient of the bias", AFFINE, lambda g, *a: {"w": g["w"]}, affine_args(), "structure"),
        broken("network: None for a bias", REGRESSION, layer(0, lambda w, b: (w, None)), regression(), "structure"),
        broken(
            "logistic regression: one gradient for two arguments",
            LOGISTIC,
            lambda g, *a: g[0],
            logistic_args(),
            "structure",
            argnums=(0, 1),
        ),
        broken("softmax regression: flattened", SOFTMAX, lambda g, *a: g.ravel(), softmax_args(), "shape"),
        broken(
            "logistic regression: bias of shape (1,)",
            LOGISTIC,
            lambda g, *a: (g[0], g[1][None]),
            logistic_args(),
            "shape",
            argnums=(0, 1),
        ),
        broken("float16 network: float32 gradient", REGRESSION, cast("float32"), regression(dtype="float16"), "dtype"),
        broken("bfloat16 affine: float32 gradient", AFFINE, cast("float32"), affine_args("bfloat16"), "dtype"),
        broken("softmax regression: bfloat16 gradient", SOFTMAX, cast("bfloat16"), softmax_args(), "dtype"),
    ]
    if has_float64():
        found.append(broken("network: float64 gradient", REGRESSION, cast("float64"), regression(), "dtype"))
    return found


def _affine_bias(reduce: Callable[[Any], Any]) -> Callable[..., Any]:
    """The gradient of the affine layer with a sum over rows of its own."""

    def grad(params: Any, x: Any, y: Any) -> Any:
        e = (x @ params["w"] + params["b"][None, :] - y) / x.shape[0]
        return {"b": reduce(e), "w": x.T @ e}

    return grad


def _over_time(params: Any, x: Any, y: Any) -> Any:

    def flat(a: Any) -> Any:
        return a.reshape(-1, a.shape[-1])

    return affine_loss(params, flat(x), flat(y))


def _over_time_grad(params: Any, x: Any, y: Any) -> Any:
    """The bias is summed over examples, not over time."""
    e = (jnp.einsum("nti,io->nto", x, params["w"]) + params["b"][None, None, :] - y) / (x.shape[0] * x.shape[1])
    return {"b": jnp.sum(e, axis=0), "w": jnp.einsum("nti,nto->io", x, e)}


def sums() -> list[Case]:
    """Sums that are missing, transposes."""
    params, _, _ = affine_args()
    times = (params, normal(5, (4, 6, 5)), normal(6, (4, 6, 3)))
    return [
        Case(
            "affine: bias not summed over rows",
            affine_loss,
            _affine_bias(lambda e: e),
            affine_args(),
            kind="not summed",
        ),
        Case(
            "affine: bias kept as a row",
            affine_loss,
            _affine_bias(lambda e: jnp.sum(e, axis=0, keepdims=True)),
            affine_args(),
            kind="shape",
        ),
        Case(
            "affine over time: bias summed over examples alone", _over_time, _over_time_grad, times, kind="not summed"
        ),
        broken(
            "logistic regression: bias not summed",
            LOGISTIC,
            lambda g, w, b, x, y: (g[0], (jax.nn.sigmoid(x @ w + b) - y) / ROWS),
            logistic_args(),
            "not summed",
            argnums=(0, 1),
        ),
    ]


def transposes() -> list[Case]:
    """Transposes."""
    return [
        broken("affine: weights out × in", AFFINE, lambda g, *a: {**g, "w": g["w"].T}, affine_args(), "transposed"),
        broken(
            "network: a square layer transposed",
            REGRESSION,
            layer(1, lambda w, b: (w.T, b)),
            regression(SQUARE),
            "transposed",
        ),
        broken(
            "softmax regression: square weights transposed",
            SOFTMAX,
            lambda g, *a: g.T,
            softmax_args(sizes=(5, 5)),
            "transposed",
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    return [case for part in (shapes, sums, transposes) for case in part()]
