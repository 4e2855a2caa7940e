"""Wrong gradients of perceptrons and regressions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gradient_cases import Case, Pair, edited, integers, normal, scaled, with_value
from gradient_models import (
    RELU,
    SIGMOID,
    TANH,
    Hidden,
    affine_grad,
    affine_loss,
    cross_entropy,
    dropout_grad_with,
    dropout_loss,
    dropout_mask,
    half_squared,
    logistic_grad,
    logistic_loss,
    mean_squared,
    mlp,
    parameters,
    softmax_grad,
    softmax_loss,
)

ROWS = 8
SIZES = (5, 6, 3)
SQUARE = (5, 5, 5, 5, 5)
AFFINE = Pair(affine_loss, affine_grad)
SOFTMAX = Pair(softmax_loss, softmax_grad)
LOGISTIC = Pair(logistic_loss, logistic_grad)
REGRESSION = mlp(TANH, half_squared)
CLASSIFIER = mlp(RELU, cross_entropy)


def regression(sizes: tuple[int, ...] = SIZES, dtype: str = "float32") -> tuple[Any, ...]:
    """Parameters, features and targets."""
    return parameters(sizes, dtype), normal(2, (ROWS, sizes[0]), dtype), normal(3, (ROWS, sizes[-1]), dtype)


def classes(sizes: tuple[int, ...] = SIZES, dtype: str = "float32") -> tuple[Any, ...]:
    """Parameters, features and labels."""
    return *regression(sizes, dtype)[:2], integers(4, sizes[-1], (ROWS,))


def affine_args(dtype: str = "float32") -> tuple[Any, ...]:
    """{"w", "b"}, features and targets."""
    ((w, b),), x, y = regression((5, 3), dtype)
    return {"w": w, "b": b}, x, y


def softmax_args(dtype: str = "float32", sizes: tuple[int, int] = (5, 4)) -> tuple[Any, ...]:
    """Weights, features and labels."""
    return normal(1, sizes, dtype), normal(2, (ROWS, sizes[0]), dtype), integers(3, sizes[1], (ROWS,))


def logistic_args(dtype: str = "float32") -> tuple[Any, ...]:
    """Weights, bias, features and targets 0 and 1."""
    y = integers(3, 2, (ROWS,)).astype(dtype)
    return normal(1, (5,), dtype), jnp.asarray(0.3, dtype), normal(2, (ROWS, 5), dtype), y


def broken(
    name: str, pair: Pair, edit: Callable[..., Any], args: tuple[Any, ...], kind: str | None = None, argnums: Any = 0
) -> Case:
    """A correct gradient, edited."""
    return Case(name, pair.fun, edited(pair.grad, edit), args, argnums, kind=kind)


def layer(index: int, change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An edit of the (w, b) of one layer."""
    return lambda g, *args: (*g[:index], change(*g[index]), *g[index + 1 :])


def means() -> list[Case]:
    """Sums for means and means for sums, over rows and outputs."""
    found = []
    for k in (2, 3, 5):

        def head(outputs: Any, y: Any) -> Any:
            return (0.5 * jnp.mean(jnp.square(outputs - y)), None)

        name = f"network: loss averaged over {k} outputs, gradient not"
        found.append(Case(name, mlp(TANH, head).fun, REGRESSION.grad, regression((5, 6, k)), kind="missing mean"))
    both = mlp(TANH, lambda outputs, y: (0.5 * jnp.mean(jnp.square(outputs - y)), outputs - y))
    rows = float(ROWS)
    return [
        *found,
        Case("network: neither rows nor outputs averaged", *both, regression(), kind="missing mean"),
        broken("network: rows summed, not averaged", REGRESSION, scaled(rows), regression(), "missing mean"),
        broken("network: averaged over rows twice", REGRESSION, scaled(1 / rows), regression(), "missing mean"),
        broken("float16 classifier: rows summed", CLASSIFIER, scaled(rows), classes(dtype="float16"), "missing mean"),
        broken(
            "affine: bias averaged where it is summed",
            AFFINE,
            lambda g, *a: {**g, "b": g["b"] / rows},
            affine_args(),
            "missing mean",
        ),
        broken("softmax regression: rows summed", SOFTMAX, scaled(rows), softmax_args(), "missing mean"),
        broken(
            "logistic regression: rows summed in the bias",
            LOGISTIC,
            lambda g, *a: (g[0], rows * g[1]),
            logistic_args(),
            "missing mean",
            argnums=(0, 1),
        ),
    ]


def signs() -> list[Case]:
    """Signs and constant factors."""
    return [
        broken("network: the direction of descent", REGRESSION, scaled(-1.0), regression(), "sign"),
        broken("network: sign of the first layer", REGRESSION, layer(0, lambda w, b: (-w, -b)), regression(), "sign"),
        broken(
            "affine: bias subtracted on the way back", AFFINE, lambda g, *a: {**g, "b": -g["b"]}, affine_args(), "sign"
        ),
        broken(
            "logistic regression: gradient of the likelihood",
            LOGISTIC,
            scaled(-1.0),
            logistic_args(),
            "sign",
            argnums=(0, 1),
        ),
        broken("bfloat16 network: sign", REGRESSION, scaled(-1.0), regression(dtype="bfloat16"), "sign"),
    ]


def factors() -> list[Case]:
    """Constant factors."""

    def hot(w: Any, x: Any, y: Any) -> Any:
        return softmax_loss(w / 2.5, x, y)

    def in_bits(w: Any, x: Any, y: Any) -> Any:
        return softmax_loss(w, x, y) / jnp.log(2.0).astype(w.dtype)

    return [
        broken(
            "network: derivative of the square without its 2",
            mlp(TANH, mean_squared),
            scaled(0.5),
            regression(),
            "constant ratio",
        ),
        broken(
            "network: half the square as if whole", REGRESSION, scaled(2.0), regression((5, 6, 6, 3)), "constant ratio"
        ),
        broken(
            "network: last bias twice", REGRESSION, layer(1, lambda w, b: (w, 2 * b)), regression(), "constant ratio"
        ),
        Case(
            "softmax regression: temperature forgotten",
            hot,
            lambda w, x, y: softmax_grad(w / 2.5, x, y),
            softmax_args(),
            kind="constant ratio",
        ),
        Case(
            "softmax regression: bits in the loss, nats in the gradient",
            in_bits,
            softmax_grad,
            softmax_args(),
            kind="constant ratio",
        ),
    ]


def values() -> list[Case]:
    """Right gradients with values of something else."""
    ridge = mlp(TANH, half_squared, l2=0.05)

    def stepped(p: Any, x: Any, y: Any) -> Any:
        return REGRESSION.fun(jax.tree.map(lambda leaf: 0.9 * leaf, p), x, y)

    def whole(*args: Any) -> Any:
        return ROWS * CLASSIFIER.fun(*args)

    def first(w: Any, x: Any, y: Any) -> Any:
        return softmax_loss(w, x[:1], y[:1])

    def twice(*args: Any) -> Any:
        return 2 * affine_loss(*args)

    cases = [
        ("network: value without l2", ridge, REGRESSION.fun, regression()),
        ("classifier: value summed over rows", CLASSIFIER, whole, classes()),
        ("network: value at other parameters", REGRESSION, stepped, regression()),
        ("softmax regression: value of the first row", SOFTMAX, first, softmax_args()),
        ("float16 affine: value without its half", AFFINE, twice, affine_args("float16")),
    ]
    return [Case(name, pair.fun, with_value(value, pair.grad), args, kind="value") for name, pair, value, args in cases]


def slopes() -> list[Case]:
    """Slopes, masks and paths that are wrong in their own way."""
    one = Hidden(RELU.value, jnp.ones_like)
    less = Hidden(TANH.value, lambda z: 1 - jnp.tanh(z))
    cut = Hidden(TANH.value, lambda z: jnp.where(jnp.abs(z) < 0.8, TANH.slope(z), 0))
    bare = Hidden(SIGMOID.value, SIGMOID.value)
    dropped = (*regression(), jax.random.key(3))
    without = dropout_grad_with(lambda key, shape, dtype: jnp.ones(shape, dtype))
    other = dropout_grad_with(lambda key, *rest: dropout_mask(jax.random.fold_in(key, 1), rest[0], 0.75, rest[1]))
    unscaled = dropout_grad_with(lambda key, shape, dtype: 0.75 * dropout_mask(key, shape, 0.75, dtype))
    return [
        Case("relu: slope 1 everywhere", CLASSIFIER.fun, mlp(one, cross_entropy).grad, classes(), kind="layer step"),
        Case("tanh: slope 1 − h", REGRESSION.fun, mlp(less, half_squared).grad, regression(), kind="layer step"),
        Case(
            "tanh: slope 0 where it saturates",
            REGRESSION.fun,
            mlp(cut, half_squared).grad,
            regression(),
            kind="layer step",
        ),
        Case(
            "sigmoid: slope s",
            mlp(SIGMOID, half_squared).fun,
            mlp(bare, half_squared).grad,
            regression(),
            kind="layer step",
        ),
        Case("dropout: no mask on the way back", dropout_loss, without, dropped, kind="layer step"),
        Case("dropout: another mask on the way back", dropout_loss, other, dropped, kind="layer step"),
        Case("dropout: not rescaled on the way back", dropout_loss, unscaled, dropped, kind="constant ratio"),
        broken(
            "network: first layer detached", REGRESSION, layer(0, lambda w, b: (0 * w, 0 * b)), regression(), "zero"
        ),
    ]


def _one_bias(g: Any, *args: Any) -> Any:
    (w, b), *rest = g
    return (w, b.at[jnp.argmax(jnp.abs(b))].multiply(1.0005)), *rest


def entries() -> list[Case]:
    """Single entries, labels, clipping, rows left out."""

    def clipped(g: Any, *a: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.clip(leaf, -0.1, 0.1), g)

    wide = (normal(1, (100, 100), scale=0.1), normal(2, (ROWS, 100)), integers(3, 100, (ROWS,)))

    def shifted(w: Any, x: Any, y: Any) -> Any:
        return softmax_grad(w, x, (y + 1) % w.shape[1])

    def half(p: Any, x: Any, y: Any) -> Any:
        return REGRESSION.grad(p, x[:4], y[:4])

    return [
        broken("network: 0.05 % in one bias", REGRESSION, _one_bias, regression((5, 6, 6, 3))),
        broken("softmax regression: one entry of 10,000", SOFTMAX, lambda g, *a: g.at[57, 31].multiply(2), wide),
        broken("network: gradient clipped, loss not", REGRESSION, clipped, regression()),
        broken(
            "affine: weights and bias of a column exchanged",
            AFFINE,
            lambda g, *a: {"w": g["w"].at[0].set(g["b"]), "b": g["w"][0]},
            affine_args(),
        ),
        Case("softmax regression: labels off by one", softmax_loss, shifted, softmax_args()),
        Case("network: the first half of the batch", REGRESSION.fun, half, regression()),
        Case(
            "network: state of the last step",
            REGRESSION.fun,
            lambda p, x, y: REGRESSION.grad(jax.tree.map(lambda leaf: 0.9 * leaf, p), x, y),
            regression(),
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    parts = (means, signs, factors, values, slopes, entries)
    return [case for part in parts for case in part()]
