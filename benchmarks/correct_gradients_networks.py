"""Correct gradients of networks and layers."""

from collections.abc import Callable
from typing import Any

import gradient_layers as layers
import jax
import jax.numpy as jnp
import numpy as np
from gradient_cases import ALL, WIDE, Family, Pair, in_float32, integers, normal, with_value
from gradient_models import (
    RELU,
    SIGMOID,
    SILU,
    SOFTPLUS,
    TANH,
    Hidden,
    affine_grad,
    affine_loss,
    as_dicts,
    cross_entropy,
    dropout_grad,
    dropout_loss,
    half_squared,
    logistic,
    logistic_grad,
    logistic_loss,
    mean_squared,
    mlp,
    parameters,
    softmax_grad,
    softmax_loss,
)


def regression(widths: tuple[int, ...]) -> Callable[[str, float], tuple[Any, ...]]:
    """Parameters, features and targets; the first layer undoes the scale of the features."""

    def args(dtype: str, scale: float) -> tuple[Any, ...]:
        (w, b), *rest = parameters(widths, "float32")
        params = ((w / scale, b), *rest)
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        return params, normal(2, (8, widths[0]), dtype, scale), normal(3, (8, widths[-1]), dtype)

    return args


def classes(widths: tuple[int, ...]) -> Callable[[str, float], tuple[Any, ...]]:
    """Parameters, features and integer labels."""
    return lambda dtype, scale: (*regression(widths)(dtype, scale)[:2], integers(4, widths[-1], (8,)))


def _dicts(args: Callable[[str, float], tuple[Any, ...]]) -> Callable[[str, float], tuple[Any, ...]]:
    def converted(dtype: str, scale: float) -> tuple[Any, ...]:
        params, *rest = args(dtype, scale)
        return [{"w": w, "b": b} for w, b in params], *rest

    return converted


def _lifted(pair: Pair) -> Pair:
    return Pair(in_float32(pair.fun), in_float32(pair.grad))


def depths() -> list[Family]:
    """Networks of 1 to 8 layers."""
    found = []
    for depth, hidden, native in ((1, TANH, True), (2, TANH, True), (3, SIGMOID, True), (4, SILU, False)):
        pair = mlp(hidden, half_squared) if native else _lifted(mlp(hidden, half_squared))
        found.append(Family(f"network of {depth} layers", *pair, regression((5, *[6] * (depth - 1), 3))))
    for depth, hidden in ((6, TANH), (8, SOFTPLUS), (8, TANH)):
        pair = mlp(hidden, mean_squared)
        name = f"network of {depth} layers, {'tanh' if hidden is TANH else 'softplus'}"
        found.append(Family(name, *_lifted(pair), regression((5, *[6] * (depth - 1), 3)), slow=True))
    return found


def networks() -> list[Family]:
    """Networks with other losses, parameters and styles."""
    sizes = (5, 6, 3)
    classifier = mlp(RELU, cross_entropy, l2=0.01)
    scales = (1e-6, 1e-3, 1e3, 1e6)
    small = _lifted(mlp(TANH, half_squared))
    return [
        Family("network, scales of the features", *small, regression(sizes), scales=scales),
        Family("relu classifier, l2", *classifier, classes(sizes)),
        Family("relu classifier, value too", classifier.fun, with_value(*classifier), classes((5, 6, 6, 3))),
        Family("classifier of dictionaries", *as_dicts(mlp(SIGMOID, cross_entropy)), _dicts(classes(sizes))),
        Family("sigmoid outputs, l1", *_lifted(mlp(TANH, logistic, l1=0.02)), _binary(sizes)),
        Family("network, mean over outputs", *mlp(TANH, mean_squared), regression(sizes), dtypes=WIDE),
        Family("network with dropout", dropout_loss, in_float32(dropout_grad), _dropped),
        Family("network with dropout, value too", dropout_loss, with_value(dropout_loss, dropout_grad), _raw_key),
        Family("network, by jax.grad", small.fun, jax.grad(small.fun), regression(sizes)),
        Family(
            "network, by jax.value_and_grad, compiled",
            classifier.fun,
            jax.jit(jax.value_and_grad(classifier.fun)),
            classes(sizes),
        ),
        Family(
            "network, parameters and features",
            small.fun,
            _both_gradients,
            regression(sizes),
            argnums=(0, 1),
            dtypes=WIDE,
        ),
    ]


def _both_gradients(params: Any, x: Any, y: Any) -> Any:
    """The gradients in the parameters and in the features, of tanh and half squared error."""
    grads = mlp(TANH, half_squared).grad(params, x, y)
    (w, b), (v, a) = params
    h = jnp.tanh(x @ w + b[None, :])
    e = (h @ v + a[None, :] - y) / y.shape[0]
    return grads, ((e @ v.T) * (1 - h * h)) @ w.T


def _binary(widths: tuple[int, ...]) -> Callable[[str, float], tuple[Any, ...]]:
    def args(dtype: str, scale: float) -> tuple[Any, ...]:
        return *regression(widths)(dtype, scale)[:2], integers(5, 2, (8, widths[-1])).astype(dtype)

    return args


def _dropped(dtype: str, scale: float) -> tuple[Any, ...]:
    return *regression((5, 6, 3))(dtype, scale), jax.random.key(3)


def _raw_key(dtype: str, scale: float) -> tuple[Any, ...]:
    return *regression((5, 6, 3))(dtype, scale), jax.random.PRNGKey(4)


def zero_preactivations() -> Family:
    """A relu network in which some z are exactly 0."""

    def args(dtype: str, scale: float) -> tuple[Any, ...]:
        (w, b), rest = parameters((5, 6, 3))
        x = normal(2, (8, 5)).at[::3].set(0)
        params = ((w, b.at[::2].set(0)), rest)
        return *jax.tree.map(lambda leaf: leaf.astype(dtype), (params, x)), normal(3, (8, 3), dtype)

    return Family("relu network with z = 0", *mlp(RELU, half_squared), args)


def regressions() -> list[Family]:
    """Single layers."""

    def one_layer(dtype: str, scale: float) -> tuple[Any, ...]:
        ((w, b),), x, y = regression((5, 3))(dtype, scale)
        return {"w": w, "b": b}, x, y

    def softmax(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(1, (5, 4), dtype, 0.5 / scale), normal(2, (8, 5), dtype, scale), integers(3, 4, (8,))

    def vector(dtype: str, scale: float) -> tuple[Any, ...]:
        y = integers(3, 2, (8,)).astype(dtype)
        return normal(1, (5,), dtype, 0.5 / scale), jnp.asarray(0.3, dtype), normal(2, (8, 5), dtype, scale), y

    scales = (1e-6, 1e-3, 1.0, 1e3, 1e6)
    return [
        Family("affine layer", *_lifted(Pair(affine_loss, affine_grad)), one_layer, scales=scales),
        Family("softmax regression", softmax_loss, softmax_grad, softmax, scales=(1e-3, 1.0, 1e3)),
        Family("logistic regression", logistic_loss, logistic_grad, vector, argnums=(0, 1), scales=(1e-3, 1.0, 1e3)),
    ]


def others() -> list[Family]:
    """Convolution, attention, normalisation, recurrence."""
    lifted_conv = in_float32(layers.conv_grad)
    return [
        Family("convolution", layers.conv_loss, lifted_conv, layers.conv_args, argnums=(0, 1)),
        Family(
            "convolution, scales",
            layers.conv_loss,
            lambda *a: layers.conv_grad(*a)[0],
            layers.conv_args,
            dtypes=WIDE,
            scales=(1e-6, 1e6),
        ),
        Family("attention", layers.attention_loss, in_float32(layers.attention_grad), layers.attention_args),
        Family(
            "attention, scales",
            layers.attention_loss,
            layers.attention_grad,
            layers.attention_args,
            dtypes=WIDE,
            scales=(1e-3, 0.1, 3.0),
        ),
    ]


def sequences() -> list[Family]:
    """Normalisation and recurrence."""
    return [
        Family(
            "layernorm",
            layers.layernorm_loss,
            in_float32(layers.layernorm_grad),
            layers.layernorm_args,
            argnums=(0, 1, 2),
        ),
        Family(
            "layernorm, scales",
            layers.layernorm_loss,
            lambda *a: layers.layernorm_grad(*a)[0],
            layers.layernorm_args,
            dtypes=WIDE,
            scales=(1e-6, 1e-3, 1e3, 1e6),
        ),
        Family("recurrent network", layers.rnn_loss, layers.rnn_grad, layers.rnn_args, slow=True),
        Family(
            "recurrent network, scales",
            layers.rnn_loss,
            layers.rnn_grad,
            layers.rnn_args,
            dtypes=WIDE,
            scales=(1e-6, 1e6),
            slow=True,
        ),
    ]


def large() -> list[Family]:
    """Many rows, or many classes."""

    def rows(dtype: str, scale: float) -> tuple[Any, ...]:
        params = {"w": normal(1, (3, 2), dtype), "b": normal(2, (2,), dtype)}
        return params, normal(3, (20_000, 3), dtype), normal(4, (20_000, 2), dtype)

    def many(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(9, (3, 30_000), dtype, scale), jnp.asarray([0, 17, 29_999], np.int32)

    return [
        Family("affine layer, 20,000 rows", *_lifted(Pair(affine_loss, affine_grad)), rows, slow=True),
        Family(
            "softmax cross-entropy, 30,000 classes",
            lambda z, y: cross_entropy(z, y)[0],
            in_float32(lambda z, y: cross_entropy(z, y)[1]),
            many,
            dtypes=ALL,
            slow=True,
        ),
    ]


def hidden_names() -> dict[str, Hidden]:
    """The activations by name."""
    return {"tanh": TANH, "relu": RELU, "sigmoid": SIGMOID, "softplus": SOFTPLUS, "silu": SILU}


def activations() -> list[Family]:
    """Networks of three layers with each activation, computed in the dtype itself."""
    return [
        Family(f"three layers, {name}", *mlp(hidden, half_squared), regression((5, 6, 6, 3)))
        for name, hidden in hidden_names().items()
    ]


def families() -> list[Family]:
    """All of them."""
    several = (depths, networks, regressions, others, sequences, large, activations)
    return [zero_preactivations(), *(family for part in several for family in part())]
