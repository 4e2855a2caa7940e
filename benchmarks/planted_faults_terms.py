"""Wrong gradients of networks by a term or by a layer: penalties, and layers off by one."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from gradient_cases import Case
from gradient_models import (
    RELU,
    SIGMOID,
    TANH,
    as_dicts,
    cross_entropy,
    half_squared,
    mlp,
    sweep,
)
from planted_faults_networks import REGRESSION, ROWS, SQUARE, broken, classes, regression


def penalties() -> list[Case]:
    """Penalties that are forgotten, or on the wrong parameters, or of the wrong size."""
    l2 = 0.05
    plain, ridge = REGRESSION, mlp(TANH, half_squared, l2=l2)
    lasso, elastic = mlp(TANH, half_squared, l1=0.02), mlp(RELU, cross_entropy, l2=l2, l1=0.02)
    kind = "missing term"

    def on_biases(g: Any, p: Any, *a: Any) -> Any:
        return tuple((w, d + l2 * b) for (w, d), (_, b) in zip(g, p, strict=True))

    divided = mlp(TANH, half_squared, l2=l2 / ROWS).grad
    ridges, plains = as_dicts(mlp(SIGMOID, cross_entropy, l2=0.1)), as_dicts(mlp(SIGMOID, cross_entropy))
    params, *rest = classes()
    dictionaries = ([{"w": w, "b": b} for w, b in params], *rest)
    return [
        Case("network: l2 forgotten", ridge.fun, plain.grad, regression(), kind=kind),
        broken("network: l2 on biases too", ridge, on_biases, regression(), kind),
        Case("network: l2 divided by rows", ridge.fun, divided, regression(), kind=kind),
        Case(
            "network: l2 without its half", ridge.fun, mlp(TANH, half_squared, l2=2 * l2).grad, regression(), kind=kind
        ),
        Case("network: decay that is not in the loss", plain.fun, ridge.grad, regression((5, 6, 6, 3)), kind=kind),
        Case("network: l1 forgotten", lasso.fun, plain.grad, regression(), kind=kind),
        Case(
            "classifier: l1 of an elastic net forgotten",
            elastic.fun,
            mlp(RELU, cross_entropy, l2=l2).grad,
            classes(),
            kind=kind,
        ),
        Case("classifier of dictionaries: l2 forgotten", ridges.fun, plains.grad, dictionaries, kind=kind),
    ]


def twisted(carry: int = 0, slope: int = 0, inputs: int = 0) -> Callable[..., Any]:
    """The gradient of `REGRESSION` with the weights, the slope or the input of a layer further on or back."""

    def grad(params: Any, x: Any, y: Any) -> Any:
        activations, zs = sweep(params, x, TANH)
        delta, last, grads = (zs[-1] - y) / y.shape[0], len(params) - 1, []
        for index in reversed(range(len(params))):
            a = activations[min(index + inputs, last)]
            grads.insert(0, (a.T @ delta, jnp.sum(delta, axis=0)))
            delta = (delta @ params[index + carry][0].T) * TANH.slope(zs[max(index - 1 + slope, 0)])
        return tuple(grads)

    return grad


def layers() -> list[Case]:
    """Layers off by one."""
    args, kind = regression(SQUARE), "wrong layer"

    def biases(g: Any, *a: Any) -> Any:
        return tuple((w, b) for (w, _), (_, b) in zip(g, (*g[1:], g[0]), strict=True))

    return [
        broken(
            "network: each layer with the gradient of the next", REGRESSION, lambda g, *a: (*g[1:], g[0]), args, kind
        ),
        broken("network: gradients from the last layer to the first", REGRESSION, lambda g, *a: g[::-1], args, kind),
        broken("network: biases of the next layer", REGRESSION, biases, args, kind),
        Case(
            "network: carried back through the weights before",
            REGRESSION.fun,
            twisted(carry=-1),
            args,
            kind="layer step",
        ),
        Case("network: slope of the layer after", REGRESSION.fun, twisted(slope=1), args, kind="layer step"),
        Case("network: input of the layer after", REGRESSION.fun, twisted(inputs=1), args, kind="layer input"),
        Case(
            "three layers: slope of the layer after",
            REGRESSION.fun,
            twisted(slope=1),
            regression(SQUARE[:4]),
            kind="layer step",
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    return [case for part in (penalties, layers) for case in part()]
