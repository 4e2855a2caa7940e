"""Wrong gradients of functions that are no networks."""

from typing import Any

import correct_gradients_arrays as correct_arrays
import correct_gradients_linalg as linalg
import jax
import jax.numpy as jnp
from gradient_cases import Case, edited, integers, normal, positive_definite, uniform
from jax.scipy.linalg import solve_triangular


def _vector() -> tuple[Any, ...]:
    return normal(1, (12,)), normal(2, (12,))


def arrays() -> list[Case]:
    """Functions that move entries about."""
    index = jnp.asarray((3, 1, 1, 7, 3, 3, 0))
    table = (normal(3, (10, 4)), normal(4, (7, 4)), index)

    def gather(t: Any, c: Any, i: Any) -> Any:
        return jnp.sum(c * jnp.square(t[i]))

    return [
        Case(
            "gather: set where entries repeat", gather, lambda t, c, i: jnp.zeros_like(t).at[i].set(2 * c * t[i]), table
        ),
        Case(
            "sort: the inverse permutation",
            lambda x, c: jnp.sum(c * jnp.sort(x)),
            lambda x, c: c[jnp.argsort(x)],
            _vector(),
        ),
        Case(
            "running sum: in the wrong direction",
            lambda x, c: jnp.sum(c * jnp.cumsum(x)),
            lambda x, c: jnp.cumsum(c),
            _vector(),
        ),
        Case("maximum: to every entry", jnp.max, lambda x: jnp.ones_like(x) / x.size, _vector()[:1]),
        Case("clip: slope 1 outside", lambda x, c: jnp.sum(c * jnp.clip(x, -0.5, 0.8)), lambda x, c: c, _vector()),
    ]


def norms_and_moments() -> list[Case]:
    """Transforms, moments, products."""

    def power(x: Any, c: Any) -> Any:
        return jnp.sum(c * jnp.abs(jnp.fft.fft(x)) ** 2)

    return [
        Case(
            "power spectrum: factor of the inverse transform",
            power,
            lambda x, c: correct_arrays.power_grad(x, c) / x.size,
            _vector(),
            kind="missing mean",
        ),
        Case(
            "standard deviation: n − 1 for n",
            jnp.std,
            lambda x: (x - jnp.mean(x)) / ((x.size - 1) * jnp.std(x)),
            _vector()[:1],
            kind="constant ratio",
        ),
        Case(
            "inner product: arguments exchanged",
            lambda x, y: jnp.sum(x * y * y),
            lambda x, y: (2 * x * y, y * y),
            _vector(),
            (0, 1),
            kind="swapped",
        ),
        Case(
            "norm: of no direction at 0",
            lambda x: jnp.sum(jnp.sum(x * x, axis=1) ** 1.5),
            lambda x: 3 * jnp.sum(x * x, axis=1, keepdims=True) ** 1.5 * x / jnp.sum(x * x, axis=1, keepdims=True),
            (normal(1, (4, 3)).at[2].set(0),),
            kind="not finite",
        ),
    ]


def _unsymmetrised(a: Any, c: Any) -> Any:
    lower = jnp.linalg.cholesky(a)
    inner = jnp.tril(lower.T @ jnp.tril(c))
    inner = inner - 0.5 * jnp.diag(jnp.diagonal(inner))
    root = jnp.linalg.inv(lower)
    return root.T @ inner @ root


def _full_triangle(lower: Any, b: Any) -> Any:
    x = solve_triangular(lower, b, lower=True)
    return -jnp.outer(solve_triangular(lower, x, lower=True, trans="T"), x)


def algebra() -> list[Case]:
    """Linear algebra."""
    square = linalg.square("float32", 1.0)
    definite = positive_definite(3, linalg.SIZE)

    def half(a: Any) -> Any:
        return 0.5 * jnp.linalg.inv(a)

    def untransposed(a: Any, c: Any) -> Any:
        return -jnp.linalg.inv(a) @ c @ jnp.linalg.inv(a)

    return [
        Case("Cholesky: not symmetrised", linalg.cholesky_form, _unsymmetrised, (definite, square[1])),
        Case("log-determinant: of the factor", linalg.log_determinant, half, (definite,), kind="constant ratio"),
        Case("log-determinant: sign", linalg.log_determinant, lambda a: -jnp.linalg.inv(a), (definite,), kind="sign"),
        Case("inverse: not transposed", linalg.inverse, untransposed, square),
        Case(
            "inverse: result transposed",
            linalg.inverse,
            lambda a, c: linalg.inverse_grad(a, c).T,
            square,
            kind="transposed",
        ),
    ]


def triangles_and_likelihoods() -> list[Case]:
    """Triangular systems and likelihoods."""
    triangle = linalg.lower_triangle("float32", 1.0)
    definite = positive_definite(3, linalg.SIZE)
    normals = (normal(5, (linalg.SIZE,)), definite, normal(6, (9, linalg.SIZE)))

    def expanded(g: Any, *a: Any) -> Any:
        return (g[0], -g[1])

    return [
        Case("triangular solve: above the diagonal too", linalg.triangular, _full_triangle, triangle),
        Case(
            "Gaussian: sign of the covariance",
            linalg.gaussian,
            edited(linalg.gaussian_grads, expanded),
            normals,
            (0, 1),
            kind="sign",
        ),
        Case(
            "Gaussian: mean alone",
            linalg.gaussian,
            edited(linalg.gaussian_grads, lambda g, *a: g[0]),
            normals,
            (0, 1),
            kind="structure",
        ),
    ]


def elementwise() -> list[Case]:
    """Elementwise functions and losses."""
    x, c = _vector()
    counts = (normal(5, (9, 4)), integers(7, 5, (9, 4)).astype("float32"))

    def poisson(z: Any, y: Any) -> Any:
        return jnp.mean(jnp.exp(z) - y * z)

    def gelu(z: Any) -> Any:
        return jnp.sum(jax.nn.gelu(z, approximate=False))

    return [
        Case(
            "sine: sign of the slope of cosine",
            lambda x, c: jnp.sum(c * jnp.cos(x)),
            lambda x, c: c * jnp.sin(x),
            (x, c),
            kind="sign",
        ),
        Case(
            "gelu: the slope of its approximation by the logistic",
            gelu,
            lambda z: jax.nn.sigmoid(1.702 * z) * (1 + 1.702 * z * jax.nn.sigmoid(-1.702 * z)),
            (x,),
        ),
        Case("gelu: Φ alone", gelu, jax.scipy.stats.norm.cdf, (x,)),
        Case(
            "Poisson loss: averaged over rows alone",
            poisson,
            lambda z, y: (jnp.exp(z) - y) / 9,
            counts,
            kind="missing mean",
        ),
    ]


def half_and_branches() -> list[Case]:
    """Logarithms, powers, branches, half precision."""
    x, _ = _vector()
    positive = (uniform(4, (12,), "float32", 0.5, 4),)

    def sparse(z: Any) -> Any:
        return jnp.sum(jnp.where(z > 0, z, 1) ** 0.5)

    return [
        Case("logarithm: base 10", lambda z: jnp.sum(jnp.log10(z)), lambda z: 1 / z, positive, kind="constant ratio"),
        Case("power: exponent not lowered", lambda z: jnp.sum(z**2.5), lambda z: 2.5 * z**2.5, positive),
        Case(
            "where: infinite in the branch not taken",
            sparse,
            lambda z: (z > 0).astype(z.dtype) * 0.5 * z**-0.5,
            (x,),
            kind="not finite",
        ),
        Case(
            "bfloat16 tanh: wrong at large arguments",
            lambda z: jnp.sum(jnp.tanh(z)),
            lambda z: jnp.maximum(1 - jnp.tanh(z) ** 2, 0.05),
            (uniform(4, (12,), "bfloat16", -3, 3),),
        ),
        Case(
            "float16 absolute value: slope of the square",
            lambda z: jnp.sum(jnp.abs(z)),
            lambda z: 2 * z,
            (normal(1, (12,), "float16"),),
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    parts = (arrays, norms_and_moments, algebra, triangles_and_likelihoods, elementwise, half_and_branches)
    return [case for part in parts for case in part()]
