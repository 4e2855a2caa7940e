"""Correct gradients of reductions, norms, and functions that move entries about."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gradient_cases import HALF, WIDE, Family, in_float32, normal, uniform, with_value

WIDE_SCALES = (1e-6, 1e-3, 1e3, 1e6)
INDEX = (3, 1, 1, 7, 3, 3, 0)


def _pair(dtype: str, scale: float) -> tuple[Any, ...]:
    return normal(1, (12,), dtype, scale), normal(2, (12,), dtype)


def _one(dtype: str, scale: float) -> tuple[Any, ...]:
    return (normal(1, (12,), dtype, scale),)


def _sort_grad(x: Any, c: Any) -> Any:
    return jnp.zeros_like(x).at[jnp.argsort(x)].set(c)


def _top(x: Any, c: Any) -> Any:
    return jnp.sum(c[:4] * jax.lax.top_k(x, 4)[0])


def _top_grad(x: Any, c: Any) -> Any:
    return jnp.zeros_like(x).at[jax.lax.top_k(x, 4)[1]].set(c[:4])


def _median_grad(x: Any) -> Any:
    order = jnp.argsort(x)
    return jnp.zeros_like(x).at[order[5:7]].set(0.5)


def _power(x: Any, c: Any) -> Any:
    f = jnp.fft.fft(x)
    return jnp.sum(c * (f.real**2 + f.imag**2))


def power_grad(x: Any, c: Any) -> Any:
    """The gradient of Σ c ∘ |fft(x)|² in x."""
    f = jnp.fft.fft(x)
    return 2 * x.size * jnp.fft.ifft(jax.lax.complex(c * f.real, c * f.imag)).real


def moved() -> list[Family]:
    """Sorting, gathering, scattering, shifting, running sums."""
    index = jnp.asarray(INDEX)

    def table(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(3, (10, 4), dtype, scale), normal(4, (7, 4), dtype), index

    def rows(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(4, (7, 4), dtype, scale), normal(3, (10, 4), dtype), index

    return [
        Family("sort", lambda x, c: jnp.sum(c * jnp.sort(x)), _sort_grad, _pair, scales=(1e-3, 1.0, 1e3)),
        Family("largest four", _top, _top_grad, _pair),
        Family("median", jnp.median, _median_grad, _one, dtypes=WIDE),
        Family(
            "gather",
            lambda t, c, i: jnp.sum(c * jnp.square(t[i])),
            lambda t, c, i: jnp.zeros_like(t).at[i].add(2 * c * t[i]),
            table,
        ),
        Family("scatter-add", lambda v, c, i: jnp.sum(c * jnp.zeros_like(c).at[i].add(v)), lambda v, c, i: c[i], rows),
        Family(
            "segment sums, squared",
            lambda v, c, i: jnp.sum(c * jax.ops.segment_sum(v, i, 10) ** 2),
            lambda v, c, i: (2 * c * jax.ops.segment_sum(v, i, 10))[i],
            rows,
        ),
    ]


def shifted() -> list[Family]:
    """Running sums, shifts, spectra, branches."""
    return [
        Family("running sum", lambda x, c: jnp.sum(c * jnp.cumsum(x)), lambda x, c: jnp.cumsum(c[::-1])[::-1], _pair),
        Family(
            "roll and reverse",
            lambda x, c: jnp.sum(c * jnp.sin(jnp.roll(x, 3)[::-1])),
            lambda x, c: jnp.roll(c[::-1], -3) * jnp.cos(x),
            _pair,
        ),
        Family(
            "differences",
            lambda x, c: 0.5 * jnp.sum(jnp.square(jnp.diff(x))),
            lambda x, c: jnp.pad(jnp.diff(x), (1, 0)) - jnp.pad(jnp.diff(x), (0, 1)),
            _pair,
        ),
        Family("power spectrum", _power, power_grad, _pair, dtypes=WIDE, scales=(1e-3, 1.0, 1e3)),
        Family(
            "clip",
            lambda x, c: jnp.sum(c * jnp.clip(x, -0.5, 0.8)),
            lambda x, c: jnp.where((x > -0.5) & (x < 0.8), c, 0),
            _pair,
        ),
        Family(
            "where",
            lambda x, c: jnp.sum(jnp.where(c > 0, jnp.exp(-x), x * x)),
            lambda x, c: jnp.where(c > 0, -jnp.exp(-x), 2 * x),
            _pair,
        ),
    ]


def _norm_grad(x: Any) -> Any:
    top = jnp.max(jnp.abs(x))
    unit = x / top
    return unit / jnp.sqrt(jnp.sum(unit * unit))


def _norm(x: Any) -> Any:
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    return top * jnp.sqrt(jnp.sum(jnp.square(x / top)))


def _first_of_max(x: Any) -> Any:
    return jax.nn.one_hot(jnp.argmax(x), x.size, dtype=x.dtype)


def _cosine(x: Any, y: Any) -> Any:
    return jnp.sum(x * y) / jnp.sqrt(jnp.sum(x * x) * jnp.sum(y * y))


def _cosine_grads(x: Any, y: Any) -> Any:
    a, b = jnp.sqrt(jnp.sum(x * x)), jnp.sqrt(jnp.sum(y * y))
    u, v = x / a, y / b
    cosine = jnp.sum(u * v)
    return (v - cosine * u) / a, (u - cosine * v) / b


def _deviation_grad(x: Any) -> Any:
    e = x - jnp.mean(x)
    return e / (x.size * jnp.std(x))


def _product_grad(x: Any) -> Any:
    before = jnp.cumprod(jnp.concatenate([jnp.ones_like(x[:1]), x[:-1]]))
    after = jnp.cumprod(jnp.concatenate([jnp.ones_like(x[:1]), x[:0:-1]]))[::-1]
    return before * after


def reductions() -> list[Family]:
    """Norms, logsumexp, moments, products."""

    def positive(dtype: str, scale: float) -> tuple[Any, ...]:
        return (uniform(5, (12,), dtype, 0.5, 1.6),)

    def logsumexp(x: Any) -> Any:
        return jnp.sum(jax.nn.logsumexp(x.reshape(3, 4), axis=1))

    def softmax(x: Any) -> Any:
        return jax.nn.softmax(x.reshape(3, 4), axis=1).reshape(12)

    return [
        Family("norm", _norm, _norm_grad, _one, scales=(1e-6, 1e-3, 1.0, 1e3, 1e6)),
        Family("sum of absolute values", lambda x: jnp.sum(jnp.abs(x)), jnp.sign, _one, scales=WIDE_SCALES),
        Family(
            "4-norm",
            in_float32(lambda x: jnp.sum(x**4) ** 0.25),
            in_float32(lambda x: x**3 * jnp.sum(x**4) ** -0.75),
            _one,
            scales=(1e-3, 1.0, 1e3),
        ),
        Family("maximum", jnp.max, _first_of_max, _one, scales=WIDE_SCALES),
        Family("logsumexp", logsumexp, softmax, _one, scales=(1e-3, 1.0, 30.0, 1e3)),
        Family("logsumexp, value too", logsumexp, with_value(logsumexp, softmax), _one, dtypes=("float16", "float32")),
        Family("product", jnp.prod, _product_grad, positive),
        Family("standard deviation", jnp.std, _deviation_grad, _one, scales=(1e-3, 1.0, 1e3), dtypes=WIDE),
        Family("standard deviation", in_float32(jnp.std), in_float32(_deviation_grad), _one, dtypes=HALF),
        Family("variance", in_float32(jnp.var), in_float32(lambda x: 2 * (x - jnp.mean(x)) / x.size), _one),
        Family("cosine similarity", _cosine, in_float32(_cosine_grads), _pair, argnums=(0, 1)),
    ]


def _apart(x: Any, y: Any) -> Any:
    return x[:, None, :] - y[None, :, :]


def _distances(x: Any, y: Any, c: Any) -> Any:
    d = _apart(x, y)
    return jnp.sum(c * jnp.sqrt(jnp.sum(d * d, axis=2)))


def _distances_grad(x: Any, y: Any, c: Any) -> Any:
    d = _apart(x, y)
    pull = (c / jnp.sqrt(jnp.sum(d * d, axis=2)))[:, :, None] * d
    return jnp.sum(pull, axis=1), -jnp.sum(pull, axis=0)


def _kernel(x: Any, y: Any, c: Any) -> Any:
    d = _apart(x, y)
    return jnp.sum(c * jnp.exp(-0.5 * jnp.sum(d * d, axis=2)))


def _kernel_grad(x: Any, y: Any, c: Any) -> Any:
    d = _apart(x, y)
    return -jnp.sum((c * jnp.exp(-0.5 * jnp.sum(d * d, axis=2)))[:, :, None] * d, axis=1)


def _points(dtype: str, scale: float) -> tuple[Any, ...]:
    return normal(6, (6, 3), dtype, scale), normal(7, (4, 3), dtype, scale), normal(8, (6, 4), dtype)


def _trees(dtype: str, scale: float) -> tuple[Any, ...]:
    return ({"a": [normal(1, (3,), dtype), normal(2, (2, 2), dtype)], "b": (jnp.asarray(0.7, dtype),)},)


def _tree(tree: Any) -> Any:
    (first, second), (last,) = tree["a"], tree["b"]
    return last * jnp.sum(first**2) + jnp.sum(jnp.sin(second)) * last**2


def _tree_grad(tree: Any) -> Any:
    (first, second), (last,) = tree["a"], tree["b"]
    scalar = jnp.sum(first**2) + 2 * last * jnp.sum(jnp.sin(second))
    return {"a": [2 * last * first, last**2 * jnp.cos(second)], "b": (scalar,)}


def several() -> list[Family]:
    """Functions of several arrays, and of trees."""

    def trilinear(x: Any, y: Any, c: Any) -> Any:
        return jnp.einsum("id,jd,ij->", x, y, c)

    def grads(x: Any, y: Any, c: Any) -> Any:
        return (c @ y, c.T @ x, x @ y.T)

    return [
        Family(
            "distances",
            in_float32(_distances),
            in_float32(_distances_grad),
            _points,
            argnums=(0, 1),
            scales=(1e-6, 1e-3, 1.0, 1e3, 1e6),
        ),
        Family("Gaussian kernel", _kernel, in_float32(_kernel_grad), _points, scales=(1e-3, 1.0)),
        Family("trilinear form", trilinear, grads, _points, argnums=(0, 1, 2), scales=(1e-3, 1.0, 10.0)),
        Family(
            "trilinear form, last arguments", trilinear, lambda *a: grads(*a)[1:], _points, argnums=(-2, 2), dtypes=WIDE
        ),
        Family("tree of arrays", _tree, _tree_grad, _trees),
        Family("tree of arrays, value too", _tree, with_value(_tree, _tree_grad), _trees, dtypes=("float32",)),
        Family(
            "integer power as an argument",
            lambda x, n: jnp.sum(x ** n.astype(x.dtype)),
            lambda x, n: n.astype(x.dtype) * x ** (n.astype(x.dtype) - 1),
            lambda dtype, scale: (uniform(5, (12,), dtype, 0.5, 1.6), jnp.asarray(3, np.int32)),
        ),
    ]


def large() -> list[Family]:
    """Sums of up to 100,000 terms."""

    def many(dtype: str, scale: float) -> tuple[Any, ...]:
        return (normal(9, (100_000,), dtype, scale),)

    def offset(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(9, (100_000,), dtype), jnp.asarray(0.4, dtype)

    return [
        Family(
            "mean of 100,000 squares",
            in_float32(lambda x: jnp.mean(x * x)),
            in_float32(lambda x: 2 * x / x.size),
            many,
            scales=(1.0, 100.0),
            slow=True,
        ),
        Family(
            "scale of 100,000 terms",
            in_float32(lambda x, a: jnp.mean(jnp.sin(a * x))),
            in_float32(lambda x, a: jnp.mean(x * jnp.cos(a * x) + 0 * a)),
            offset,
            argnums=1,
            slow=True,
        ),
        Family(
            "shift of 100,000 terms",
            in_float32(lambda x, a: jnp.mean(0.5 * (x - a) ** 2)),
            in_float32(lambda x, a: jnp.mean(a - x)),
            offset,
            argnums=1,
            slow=True,
        ),
        Family("logsumexp of 100,000 terms", jax.nn.logsumexp, in_float32(jax.nn.softmax), many, slow=True),
    ]


def families() -> list[Family]:
    """All of them."""
    return [*moved(), *shifted(), *reductions(), *several(), *large()]
