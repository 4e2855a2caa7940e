"""Multilayer perceptrons and regressions with their gradients by hand, which both catalogues build on."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gradient_cases import Pair

Head = Callable[[Any, Any], tuple[Any, Any]]


class Hidden(NamedTuple):
    """An activation: its value and its slope, both of z."""

    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]


def _silu_slope(z: Any) -> Any:
    s = jax.nn.sigmoid(z)
    return s * (1 + z * (1 - s))


TANH = Hidden(jnp.tanh, lambda z: 1 - jnp.tanh(z) ** 2)
RELU = Hidden(jax.nn.relu, lambda z: (z > 0).astype(z.dtype))
SIGMOID = Hidden(jax.nn.sigmoid, lambda z: jax.nn.sigmoid(z) * (1 - jax.nn.sigmoid(z)))
SOFTPLUS = Hidden(jax.nn.softplus, jax.nn.sigmoid)
SILU = Hidden(jax.nn.silu, _silu_slope)


def half_squared(outputs: Any, y: Any) -> tuple[Any, Any]:
    """½ Σ (outputs − y)² / n, and its gradient in the outputs."""
    e = outputs - y
    return 0.5 * jnp.sum(e * e) / y.shape[0], e / y.shape[0]


def mean_squared(outputs: Any, y: Any) -> tuple[Any, Any]:
    """The mean of (outputs − y)² over rows and outputs, and its gradient."""
    e = outputs - y
    return jnp.mean(e * e), 2 * e / y.size


def cross_entropy(outputs: Any, labels: Any) -> tuple[Any, Any]:
    """Softmax cross-entropy, averaged over rows, and p − y; the label's entry is minus the sum of the others."""
    n, k = outputs.shape
    y = jax.nn.one_hot(labels, k, dtype=outputs.dtype)
    others = jax.nn.softmax(outputs) * (1 - y)
    value = -jnp.sum(y * jax.nn.log_softmax(outputs)) / n
    return value, (others - y * jnp.sum(others, axis=1, keepdims=True)) / n


def logistic(outputs: Any, y: Any) -> tuple[Any, Any]:
    """Sigmoid cross-entropy of targets 0 and 1, averaged over rows, without cancellation in 1 − p."""
    value = jnp.sum(jax.nn.softplus(jnp.where(y > 0, -outputs, outputs))) / y.shape[0]
    gradient = jnp.where(y > 0, -jax.nn.sigmoid(-outputs), jax.nn.sigmoid(outputs))
    return value, gradient / y.shape[0]


def sweep(params: Any, x: Any, hidden: Hidden) -> tuple[list[Any], list[Any]]:
    """The input of each layer and its pre-activations; the last of these are the outputs."""
    inputs, zs = [x], []
    for layer, (w, b) in enumerate(params):
        zs.append(inputs[-1] @ w + b[None, :])
        if layer + 1 < len(params):
            inputs.append(hidden.value(zs[-1]))
    return inputs, zs


def back(params: Any, inputs: list[Any], zs: list[Any], delta: Any, hidden: Hidden) -> tuple[Any, ...]:
    """The gradients of (w, b) of each layer from that of the outputs."""
    grads: list[Any] = []
    for layer in reversed(range(len(params))):
        grads.append((inputs[layer].T @ delta, jnp.sum(delta, axis=0)))
        if layer:
            delta = (delta @ params[layer][0].T) * hidden.slope(zs[layer - 1])
    return tuple(reversed(grads))


def mlp(hidden: Hidden, head: Head, l2: float = 0.0, l1: float = 0.0) -> Pair:
    """A network with parameters ((w, b), …), with ½ · l2 · Σ w² + l1 · Σ |w|."""

    def fun(params: Any, x: Any, y: Any) -> Any:
        value = head(sweep(params, x, hidden)[1][-1], y)[0]
        squares = sum(jnp.sum(w * w) for w, _ in params)
        return value + 0.5 * l2 * squares + l1 * sum(jnp.sum(jnp.abs(w)) for w, _ in params)

    def grad(params: Any, x: Any, y: Any) -> Any:
        inputs, zs = sweep(params, x, hidden)
        grads = back(params, inputs, zs, head(zs[-1], y)[1], hidden)
        return tuple((g + l2 * w + l1 * jnp.sign(w), d) for (g, d), (w, _) in zip(grads, params, strict=True))

    return Pair(fun, grad)


def as_dicts(pair: Pair) -> Pair:
    """A network with parameters [{"w": w, "b": b}, …]."""

    def pairs(params: Any) -> Any:
        return tuple((layer["w"], layer["b"]) for layer in params)

    def grad(params: Any, *rest: Any) -> Any:
        return [{"w": w, "b": b} for w, b in pair.grad(pairs(params), *rest)]

    return Pair(lambda params, *rest: pair.fun(pairs(params), *rest), grad)


def parameters(widths: tuple[int, ...], dtype: str = "float32", scale: float = 1.0, seed: int = 1) -> tuple[Any, ...]:
    """Random weights and nonzero biases: ((w, b), …)."""
    random = np.random.default_rng(seed)
    return tuple(
        (
            jnp.asarray(scale * random.normal(0, 1 / np.sqrt(i), (i, o)), dtype),
            jnp.asarray(scale * random.normal(0, 0.3, o), dtype),
        )
        for i, o in pairwise(widths)
    )


def affine_loss(params: Any, x: Any, y: Any) -> Any:
    """½ Σ (x w + b − y)² / n of parameters {"w": w, "b": b}."""
    return half_squared(x @ params["w"] + params["b"][None, :], y)[0]


def affine_grad(params: Any, x: Any, y: Any) -> Any:
    """The gradient of `affine_loss`."""
    e = half_squared(x @ params["w"] + params["b"][None, :], y)[1]
    return {"b": jnp.sum(e, axis=0), "w": x.T @ e}


def softmax_loss(w: Any, x: Any, labels: Any) -> Any:
    """Softmax regression."""
    return cross_entropy(x @ w, labels)[0]


def softmax_grad(w: Any, x: Any, labels: Any) -> Any:
    """The gradient of `softmax_loss`."""
    return x.T @ cross_entropy(x @ w, labels)[1]


def logistic_loss(w: Any, b: Any, x: Any, y: Any) -> Any:
    """Logistic regression with a vector of weights and a scalar bias."""
    return logistic(x @ w + b, y)[0]


def logistic_grad(w: Any, b: Any, x: Any, y: Any) -> Any:
    """The gradients of `logistic_loss` in w and b."""
    e = logistic(x @ w + b, y)[1]
    return x.T @ e, jnp.sum(e)


def dropout_mask(key: Any, shape: tuple[int, ...], keep: float, dtype: Any) -> Any:
    """0 or 1 / keep; the draw is the same with and without x64."""
    return (jax.random.uniform(key, shape, "float32") < keep).astype(dtype) / keep


def dropout_loss(params: Any, x: Any, y: Any, key: Any) -> Any:
    """½ Σ (…)² / n of two layers with dropout between them."""
    (v, a), (w, b) = params
    h = jnp.tanh(x @ v + a[None, :])
    return half_squared((h * dropout_mask(key, h.shape, 0.75, h.dtype)) @ w + b[None, :], y)[0]


def dropout_grad_with(mask_back: Callable[[Any, tuple[int, ...], Any], Any]) -> Callable[..., Any]:
    """The gradient of `dropout_loss` with a mask of its own on the way back."""

    def grad(params: Any, x: Any, y: Any, key: Any) -> Any:
        (v, a), (w, b) = params
        h = jnp.tanh(x @ v + a[None, :])
        dropped = h * dropout_mask(key, h.shape, 0.75, h.dtype)
        e = half_squared(dropped @ w + b[None, :], y)[1]
        delta = (e @ w.T) * mask_back(key, h.shape, h.dtype) * (1 - h * h)
        return (x.T @ delta, jnp.sum(delta, axis=0)), (dropped.T @ e, jnp.sum(e, axis=0))

    return grad


dropout_grad = dropout_grad_with(lambda key, shape, dtype: dropout_mask(key, shape, 0.75, dtype))
