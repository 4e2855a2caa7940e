"""Gradients whose formula is right and whose arithmetic is bad."""

from collections.abc import Callable
from typing import Any

import gradient_layers as layers
import jax
import jax.numpy as jnp
from gradient_cases import Case, in_float32, normal, uniform
from gradient_models import TANH, cross_entropy, half_squared, logistic_loss, mlp, parameters, softmax_loss
from jax import lax

REGRESSION = mlp(TANH, half_squared)
KIND = "arithmetic"


def _one_by_one(terms: Any) -> Any:
    """The sum of the rows, each added to the one before in the dtype itself."""
    return lax.scan(lambda total, row: (total + row, None), jnp.zeros_like(terms[0]), terms)[0]


def _counted(terms: Any) -> Any:
    """The same by a loop that counts."""
    return lax.fori_loop(0, len(terms), lambda i, total: total + terms[i], jnp.zeros_like(terms[0]))


@in_float32
def _shift(b: Any, x: Any) -> Any:
    return 0.5 * jnp.mean(jnp.square(x + b[None, :]))


@in_float32
def _scale(a: Any, x: Any) -> Any:
    return jnp.mean(a * jnp.abs(x))


def _mean(b: Any, x: Any) -> Any:
    """The gradient of `_shift` in b, when the mean of the rows is taken one by one."""
    return _one_by_one((x + b[None, :]) / x.size)


def _length(x: Any) -> Any:
    return jnp.sqrt(jnp.sum(x * x))


def sums() -> list[Case]:
    """Sums that lose their small terms, or leave the range of half precision."""
    b = jnp.asarray([1.0, 0.5, -1.25])
    half, brain = ((b.astype(dtype), 0.3 * normal(1, (4096, 3), dtype)) for dtype in ("float16", "bfloat16"))
    return [
        Case("float16: 4,096 rows added one by one", _shift, _mean, half, kind=KIND),
        Case("bfloat16: 4,096 rows added one by one", _shift, _mean, brain, kind=KIND),
        Case(
            "bfloat16: 6,000 terms counted through",
            _scale,
            lambda a, x: _counted(jnp.abs(x) / x.size),
            (jnp.asarray(0.4, "bfloat16"), normal(2, (6000,), "bfloat16")),
            kind=KIND,
        ),
        Case(
            "float16: 6,000 terms summed, then divided",
            _scale,
            lambda a, x: _counted(jnp.abs(x)) / jnp.asarray(x.size, x.dtype),
            (jnp.asarray(0.4, "float16"), normal(2, (6000,), "float16")),
            kind=KIND,
        ),
    ]


def ranges() -> list[Case]:
    """What leaves the range of float16."""
    return [
        Case(
            "float16: a number of terms beyond its range",
            _scale,
            lambda a, x: jnp.sum(jnp.abs(x)) / jnp.sum(jnp.ones_like(x)),
            (jnp.asarray(0.4, "float16"), 0.1 * normal(2, (70_000,), "float16")),
            kind=KIND,
        ),
        Case(
            "float16: squares of a norm overflow",
            _length,
            lambda x: x / _length(x),
            (normal(3, (12,), "float16", 400.0),),
            kind=KIND,
        ),
        Case(
            "float16: squares of a norm underflow",
            _length,
            lambda x: x / _length(x),
            (normal(3, (12,), "float16", 3e-4),),
            kind=KIND,
        ),
    ]


def _naive_softmax(z: Any) -> Any:
    e = jnp.exp(z)
    return e / jnp.sum(e, axis=1, keepdims=True)


def _logsumexp(z: Any) -> Any:
    return jnp.sum(jax.nn.logsumexp(z, axis=1))


def _naive_logistic(w: Any, b: Any, x: Any, y: Any) -> Any:
    return x.T @ (jax.nn.sigmoid(x @ w + b) - y) / x.shape[0]


def _naive_cross_entropy(w: Any, x: Any, labels: Any) -> Any:
    y = jax.nn.one_hot(labels, w.shape[1], dtype=w.dtype)
    return x.T @ (jax.nn.softmax(x @ w) - y) / x.shape[0]


def saturation() -> list[Case]:
    """Exponentials that overflow and differences that cancel."""
    logits = normal(4, (5, 8), scale=30.0)
    x = jnp.abs(normal(5, (8, 5))) + 1
    sure = (jnp.ones(5, "float32"), jnp.asarray(4.0, "float32"), x, jnp.ones(8, "float32"))
    return [
        Case("float32: exp of large logits", _logsumexp, _naive_softmax, (logits + 60,), kind="not finite"),
        Case(
            "float16: exp of logits above 11",
            _logsumexp,
            _naive_softmax,
            (uniform(6, (5, 8), "float16", 8, 14),),
            kind="not finite",
        ),
        Case(
            "float32: cross-entropy with large logits",
            lambda z, y: cross_entropy(z, y)[0],
            lambda z, y: (_naive_softmax(z) - jax.nn.one_hot(y, 8, dtype=z.dtype)) / 5,
            (logits + 60, jnp.arange(5)),
            kind="not finite",
        ),
        Case("float32: logistic p − y cancels", logistic_loss, _naive_logistic, sure, kind=KIND),
    ]


def slopes() -> list[Case]:
    """Slopes and losses whose differences cancel."""

    def tanh(x: Any) -> Any:
        return jnp.sum(jnp.tanh(x))

    def slope(x: Any) -> Any:
        return 1 - jnp.tanh(x) ** 2

    x = jnp.abs(normal(5, (8, 5))) + 1
    w = jnp.zeros((5, 4), "float32").at[:, 2].set(1.4)
    labels = jnp.full(8, 2, "int32")
    return [
        Case("float32: softmax p − y cancels", softmax_loss, _naive_cross_entropy, (w, x, labels), kind=KIND),
        Case("float32: 1 − tanh² cancels", tanh, slope, (uniform(7, (12,), "float32", 6, 8),), kind=KIND),
        Case("float16: 1 − tanh² cancels", tanh, slope, (uniform(7, (12,), "float16", 3.5, 5),), kind=KIND),
        Case(
            "bfloat16: s (1 − s) cancels",
            lambda x: jnp.sum(jax.nn.sigmoid(x)),
            lambda x: jax.nn.sigmoid(x) * (1 - jax.nn.sigmoid(x)),
            (uniform(7, (12,), "bfloat16", 6, 9),),
            kind=KIND,
        ),
    ]


def _distances(x: Any, y: Any) -> Any:
    return jnp.sum(jnp.sqrt(jnp.sum(jnp.square(x[:, None] - y[None]), axis=2)))


def _expanded(x: Any, y: Any) -> Any:
    """Squared distances as ‖x‖² + ‖y‖² − 2 xᵀy."""
    d = x[:, None] - y[None]
    squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :] - 2 * x @ y.T
    return jnp.sum(d / jnp.sqrt(jnp.abs(squares))[:, :, None], axis=1)


def _two_moments(x: Any, gain: Any, bias: Any, c: Any) -> Any:
    """Layernorm with the variance as the mean of squares less the square of the mean."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(x * x, axis=-1, keepdims=True) - mean * mean
    inverse = lax.rsqrt(jnp.maximum(variance, 0) + layers.EPSILON)
    unit, d = (x - mean) * inverse, c * gain[None, :]
    along = jnp.mean(d * unit, axis=-1, keepdims=True)
    return inverse * (d - jnp.mean(d, axis=-1, keepdims=True) - unit * along)


def cancellation() -> list[Case]:
    """Other differences that cancel."""
    small = (jnp.abs(normal(8, (12,), scale=1e-5)) + 1e-6,)
    x, *rest = layers.layernorm_args("float32")
    points = normal(9, (6, 3)) + 300, normal(10, (4, 3)) + 300
    return [
        Case(
            "float32: log(1 + x) of small x",
            lambda x: 0.5 * jnp.sum(jnp.log1p(x) ** 2),
            lambda x: jnp.log(1 + x) / (1 + x),
            small,
            kind=KIND,
        ),
        Case(
            "float32: exp(x) − 1 of small x",
            lambda x: 0.5 * jnp.sum(jnp.expm1(x) ** 2),
            lambda x: (jnp.exp(x) - 1) * jnp.exp(x),
            small,
            kind=KIND,
        ),
        Case(
            "float32: variance as a difference of squares",
            layers.layernorm_loss,
            _two_moments,
            (x + 2000, *rest),
            kind=KIND,
        ),
        Case("float32: distances as differences of squares", _distances, _expanded, points, kind=KIND),
    ]


def _only_in(dtype: str, grad: Callable[..., Any], edit: Callable[[Any], Any]) -> Callable[..., Any]:
    """A gradient that is edited in one dtype."""

    def run(*args: Any) -> Any:
        grads = grad(*args)
        return edit(grads) if jax.tree.leaves(grads)[0].dtype == dtype else grads

    return run


def _one_bias(grads: Any) -> Any:
    (w, b), *rest = grads
    return (w, b.at[jnp.argmax(jnp.abs(b))].multiply(1.0005)), *rest


def _one_entry(grad: Any) -> Any:
    return grad.at[5].add((4 * jnp.finfo(grad.dtype).eps * jnp.max(jnp.abs(grad))).astype(grad.dtype))


def one_dtype() -> list[Case]:
    """Faults in one dtype alone."""
    network = (parameters((5, 6, 6, 3)), normal(2, (8, 5)), normal(3, (8, 3)))
    wave, slope = (lambda x: jnp.sum(jnp.sin(x))), jnp.cos
    return [
        Case(
            "float32 alone: 0.05 % in one bias",
            REGRESSION.fun,
            _only_in("float32", REGRESSION.grad, _one_bias),
            network,
            kind=KIND,
        ),
        Case(
            "float16 alone: 4 eps in one entry",
            wave,
            _only_in("float16", slope, _one_entry),
            (normal(1, (12,), "float16"),),
            kind=KIND,
        ),
        Case(
            "float16 alone: 4 eps in all entries",
            wave,
            _only_in("float16", slope, lambda g: g * jnp.asarray(1 + 2.0**-8, g.dtype)),
            (normal(2, (12,), "float16"),),
            kind=KIND,
        ),
    ]


def constants() -> list[Case]:
    """Constants that are rounded in float16 alone."""
    constant = 41.5 * 2.0**-24
    return [
        Case(
            "float16 alone: a constant rounded to a subnormal",
            in_float32(lambda x: 0.5 * jnp.sum((constant * x) * x)),
            lambda x: jnp.asarray(constant, x.dtype) * x,
            (normal(1, (12,), "float16", 1e4),),
            kind=KIND,
        ),
        Case(
            "float16 alone: an epsilon that rounds to 0",
            lambda x: jnp.sum(jnp.sqrt(x * x + 1e-8)),
            lambda x: x / jnp.sqrt(x * x + jnp.asarray(1e-8, x.dtype)),
            (normal(1, (12,), "float16").at[::5].set(2e-4),),
            kind=KIND,
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    parts = (sums, ranges, saturation, slopes, cancellation, one_dtype, constants)
    return [case for part in parts for case in part()]
