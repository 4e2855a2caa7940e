"""Correct gradients of linear algebra; float32 and float64."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from gradient_cases import WIDE, Family, normal, positive_definite, with_value
from jax.scipy.linalg import solve_triangular

SIZE = 6
SCALES = (1e-3, 1.0, 1e3)


def log_determinant(a: Any) -> Any:
    """log det a by Cholesky; a is symmetrised, so that its gradient is symmetric."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(a))))


def triangular(lower: Any, b: Any) -> Any:
    """½ ‖L⁻¹ b‖²; what is above the diagonal of L is not read."""
    return 0.5 * jnp.sum(jnp.square(solve_triangular(lower, b, lower=True)))


def triangular_grads(lower: Any, b: Any) -> Any:
    """The gradients of `triangular` in L and b."""
    x = solve_triangular(lower, b, lower=True)
    db = solve_triangular(lower, x, lower=True, trans="T")
    return jnp.tril(-jnp.outer(db, x)), db


def inverse(a: Any, c: Any) -> Any:
    """Σ c ∘ a⁻¹."""
    return jnp.sum(c * jnp.linalg.inv(a))


def inverse_grad(a: Any, c: Any) -> Any:
    """The gradient of `inverse` in a: −a⁻ᵀ c a⁻ᵀ."""
    transposed = jnp.linalg.inv(a).T
    return -transposed @ c @ transposed


def gaussian(mean: Any, covariance: Any, x: Any) -> Any:
    """The mean negative log-likelihood of the rows of x, without its constant."""
    e = x - mean[None, :]
    quadratic = jnp.sum(e * jnp.linalg.solve(covariance, e.T).T) / x.shape[0]
    return 0.5 * (quadratic + jnp.linalg.slogdet(covariance)[1])


def gaussian_grads(mean: Any, covariance: Any, x: Any) -> Any:
    """The gradients of `gaussian` in mean and covariance."""
    e, precision = x - mean[None, :], jnp.linalg.inv(covariance)
    scatter = e.T @ e / x.shape[0]
    return -precision @ jnp.mean(e, axis=0), 0.5 * (precision - precision @ scatter @ precision).T


def solve(a: Any, b: Any) -> Any:
    """½ ‖a⁻¹ b‖²."""
    return 0.5 * jnp.sum(jnp.square(jnp.linalg.solve(a, b)))


def solve_grads(a: Any, b: Any) -> Any:
    """The gradients of `solve` in a and b."""
    x = jnp.linalg.solve(a, b)
    db = jnp.linalg.solve(a.T, x)
    return -jnp.outer(db, x), db


def cholesky_form(a: Any, c: Any) -> Any:
    """Σ c ∘ chol(a)."""
    return jnp.sum(c * jnp.linalg.cholesky(a))


def cholesky_grad(a: Any, c: Any) -> Any:
    """The gradient of `cholesky_form` in a, symmetric since a is symmetrised: L⁻ᵀ Φ(Lᵀ c) L⁻¹."""
    lower = jnp.linalg.cholesky(a)
    inner = jnp.tril(lower.T @ jnp.tril(c))
    inner = inner - 0.5 * jnp.diag(jnp.diagonal(inner))
    root = jnp.linalg.inv(lower)
    full = root.T @ inner @ root
    return 0.5 * (full + full.T)


def _largest(a: Any) -> Any:
    return jnp.linalg.eigvalsh(a)[-1]


def _largest_grad(a: Any) -> Any:
    v = jnp.linalg.eigh(a)[1][:, -1]
    return jnp.outer(v, v)


def _spectral(a: Any) -> Any:
    return jnp.linalg.svd(a, compute_uv=False)[0]


def _spectral_grad(a: Any) -> Any:
    u, _, vt = jnp.linalg.svd(a, full_matrices=False)
    return jnp.outer(u[:, 0], vt[0])


def square(dtype: str, scale: float) -> tuple[Any, ...]:
    """A well-conditioned matrix that is not symmetric, and a cotangent."""
    a = np.random.default_rng(1).normal(0, 0.3, (SIZE, SIZE)) + 2 * np.eye(SIZE)
    return jnp.asarray(scale * a, dtype), normal(2, (SIZE, SIZE), dtype)


def definite(dtype: str, scale: float) -> tuple[Any, ...]:
    """A positive definite matrix."""
    return (positive_definite(3, SIZE, dtype, scale),)


def lower_triangle(dtype: str, scale: float) -> tuple[Any, ...]:
    """A lower triangle and a vector."""
    return jnp.tril(square(dtype, scale)[0]), normal(4, (SIZE,), dtype)


def families() -> list[Family]:
    """All of them."""

    def normals(dtype: str, scale: float) -> tuple[Any, ...]:
        return normal(5, (SIZE,), dtype), *definite(dtype, 1.0), normal(6, (9, SIZE), dtype)

    def system(dtype: str, scale: float) -> tuple[Any, ...]:
        return square(dtype, scale)[0], normal(4, (SIZE,), dtype)

    def with_cotangent(dtype: str, scale: float) -> tuple[Any, ...]:
        return *definite(dtype, scale), square(dtype, 1.0)[1]

    return [
        Family("log-determinant", log_determinant, jnp.linalg.inv, definite, dtypes=WIDE, scales=SCALES),
        Family(
            "log-determinant, value too",
            log_determinant,
            with_value(log_determinant, jnp.linalg.inv),
            definite,
            dtypes=WIDE,
        ),
        Family(
            "triangular solve", triangular, triangular_grads, lower_triangle, argnums=(0, 1), dtypes=WIDE, scales=SCALES
        ),
        Family("inverse", inverse, inverse_grad, square, dtypes=WIDE, scales=SCALES),
        Family("Gaussian log-likelihood", gaussian, gaussian_grads, normals, argnums=(0, 1), dtypes=WIDE),
        Family("linear system", solve, solve_grads, system, argnums=(0, 1), dtypes=WIDE, scales=SCALES),
        Family("Cholesky factor", cholesky_form, cholesky_grad, with_cotangent, dtypes=WIDE, scales=SCALES),
        Family("largest eigenvalue", _largest, _largest_grad, definite, dtypes=WIDE, slow=True),
        Family("largest singular value", _spectral, _spectral_grad, square_alone, dtypes=WIDE, slow=True),
        Family("trace of a cube", lambda a: jnp.trace(a @ a @ a), lambda a: 3 * (a @ a).T, square_alone, dtypes=WIDE),
    ]


def square_alone(dtype: str, scale: float) -> tuple[Any, ...]:
    """A matrix that is not symmetric."""
    return square(dtype, scale)[:1]
