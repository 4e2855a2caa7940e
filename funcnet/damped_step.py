"""The exact damped Gauss-Newton step, by a system of linear equations of the smaller of two sizes.

With J_i the Jacobian of the outputs of example i in the parameters, S_iᵀ S_i = H_i, c_i = σ_i |c_i|, D the diagonal
damping + l2 on weights and damping on biases, and U the rows √|c_i| S_i J_i of all examples, the matrix is D + Uᵀ Σ U
with Σ = diag(σ). It has as many rows as there are parameters, P; what has to be factored otherwise, Σ + U D⁻¹ Uᵀ, as
many as there are rows in U, n · k.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Float

from funcnet import contractions
from funcnet.boundary import Call, enter
from funcnet.curvature_blocks import factor_of
from funcnet.curvature_products import ggn_product, transposed_jacobian_product
from funcnet.gradients import Swept, parameter_gradient
from funcnet.network import MLP
from funcnet.numbers import check_at_least_zero
from funcnet.precision import cast_like, matmul
from funcnet.row_chunks import summed_in_chunks
from funcnet.sweeps import Saved, backward
from funcnet.tangents import forward_tangents
from funcnet.types import Features, KeyArray, Layer, Params, Targets, Weights

Scalar = Float[Array, ""]
Solve = Callable[[Params], Params]


def gauss_newton_step(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    damping: Any,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Params:
    """The solution s of (GGN + damping · I) s = −∇L, exact but for rounding: tree like params.

        s = −D⁻¹ [∇L − Uᵀ (Σ + K)⁻¹ U D⁻¹ ∇L],    K = U D⁻¹ Uᵀ

    where there are fewer outputs of examples, n · k, than parameters, P; else by the P × P matrix D + Uᵀ Σ U, written
    out. GGN = Σ_i c_i J_iᵀ H_i J_i + l2 is that of `funcnet.ggn_vp`, with c_i = w_i / Σ w, J_i the Jacobian of the
    outputs of example i in the parameters and H_i the Hessian of ℓ_i in these outputs. D is damping + l2 on weights,
    damping on biases; U has the rows √|c_i| S_i J_i of all examples, with S_iᵀ S_i = H_i, and Σ their signs, those of
    c_i. H_i is never inverted: that of the softmax is singular. One step of iterative refinement takes off most of the
    rounding.

    The matrix must be positive definite. With damping > 0 and no negative weights it is, unless damping is below the
    rounding of the matrix itself. With damping 0 the P × P matrix is taken, and must be of full rank.

    Derivation:
        (D + Uᵀ Σ U) s = −∇L. With t = Σ U s: D s = −∇L − Uᵀ t, so U s = −U D⁻¹ ∇L − K t, and Σ t = U s gives
        (Σ + K) t = −U D⁻¹ ∇L: solved for t, D s = −∇L − Uᵀ t is the formula. K has the entries
        √|c_i c_j| S_i J_i D⁻¹ J_jᵀ S_jᵀ = Σ_l (a_iᵀ a_j / (damping + l2) + 1 / damping) (δ_{l,i}ᵀ δ_{l,j}), the
        contraction of `empirical_ntk`. By Sylvester's law D + Uᵀ Σ U is positive definite where Σ + K has as many
        negative eigenvalues as Σ.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs. An example whose label is outside
            0 … k − 1 does not count.
        damping: λ ≥ 0, a finite number.
        weights: One weight for each example; may be negative.
        key: The dropout key.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit, damping is negative or not finite, or the matrix is not positive definite;
            inside `jax.jit`, where values are not known, the step is NaN instead (and with damping 0 also where
            n · k ≤ P).

    References:
        Ren, Goldfarb 2019, Efficient subsampled Gauss-Newton and natural gradient methods for training neural networks.
        Chen, Heyl 2024, Empowering deep neural quantum states through efficient optimization.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((1, 8, 1), activation=fn.tanh, loss=fn.half_squared_error)
    >>> params, x = fn.init(jax.random.key(0), net), jnp.linspace(-1, 1, 20)[:, None]
    >>> for _ in range(10):
    ...     step = fn.gauss_newton_step(net, params, x, jnp.sin(3 * x), 1e-3)
    ...     params = jax.tree.map(jnp.add, params, step)
    >>> bool(fn.loss(net, params, x, jnp.sin(3 * x)) < 1e-3)
    True
    """
    check_at_least_zero("damping", damping)
    call = enter(net, params, x, y, weights, key)
    swept, grads = parameter_gradient(net, call, key)
    step = cast_like(damped_step(net, call, swept, grads, damping, signed=weights is not None), params)
    if not _finite(step) and _finite(grads):
        raise ValueError(
            f"damping must be large enough for a positive definite Gauss-Newton matrix; with {damping} it is singular "
            "or indefinite"
        )
    return step


def _finite(tree: Any) -> bool:
    """Whether all numbers are finite; True where they are not known."""
    leaves = jax.tree.leaves(tree)
    return any(isinstance(leaf, Tracer) for leaf in leaves) or all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves)


def damped_step(net: MLP, call: Call, swept: Swept, grads: Params, damping: Any, signed: bool) -> Params:
    """`gauss_newton_step` of what the sweeps left, in the work dtype; NaN where there is none.

    Args:
        net: The network.
        call: The arguments.
        swept: What the sweeps left.
        grads: ∇L.
        damping: λ.
        signed: Whether some c_i may be negative.

    Derivation:
        As of `gauss_newton_step`.
    """
    level = jnp.asarray(damping, swept.outputs.dtype)
    level = jnp.where(level >= 0, level, jnp.nan)  # inside `jax.jit` it cannot be refused
    factor = factor_of(net, call, swept.outputs)
    downhill = jax.tree.map(jnp.negative, grads)
    rows, size = factor.shape[0] * factor.shape[1], sum(leaf.size for leaf in jax.tree.leaves(grads))
    by_examples = rows <= size and (isinstance(damping, Tracer) or bool(damping != 0))

    def refined(solve: Solve) -> Params:
        step = solve(downhill)
        product = ggn_product(net, call, swept.outputs, swept.saved, step)
        rest = jax.tree.map(lambda b, p, s: b - p - level * s, downhill, product, step)
        return jax.tree.map(jnp.add, step, solve(rest))

    if not by_examples:
        return refined(_by_parameters(net, call, swept.saved, factor, level))
    solver = partial(_by_examples, net, call, swept.saved, factor, level)
    if not signed:
        return refined(solver(_cholesky))
    branches = (lambda: refined(solver(_cholesky)), lambda: refined(solver(partial(_eigen, call.c))))
    return jax.lax.cond(jnp.any(call.c < 0), branches[1], branches[0])


def _cholesky(matrix: Float[Array, "m m"]) -> Callable[[Any], Any]:
    """Solve by K + I, which is positive definite."""
    lower = cho_factor(matrix + jnp.eye(matrix.shape[0], dtype=matrix.dtype), lower=True)
    return partial(cho_solve, lower)


def _eigen(c: Float[Array, " n"], matrix: Float[Array, "m m"]) -> Callable[[Any], Any]:
    """Solve by K + Σ; NaN unless it has as many negative eigenvalues as Σ, and none that is 0."""
    signs = jnp.repeat(jnp.where(c < 0, -1, 1).astype(matrix.dtype), matrix.shape[0] // c.shape[0])
    values, vectors = jnp.linalg.eigh(matrix + jnp.diag(signs))
    rounding = matrix.shape[0] * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(values))
    definite = (jnp.sum(values < 0) == jnp.sum(signs < 0)) & (jnp.min(jnp.abs(values)) > rounding)
    return lambda right: jnp.where(definite, vectors @ ((vectors.T @ right) / values), jnp.nan)


def _deltas(net: MLP, params: Params, saved: Saved, cotangents: Float[Array, "n c k"]) -> tuple[Any, ...]:
    """Δ_l (n, c, width) of each layer, for c cotangents of the outputs of each example."""
    return jax.vmap(lambda each: backward(net, params, saved, each).deltas, in_axes=1, out_axes=1)(cotangents)


def _by_examples(
    net: MLP,
    call: Call,
    saved: Saved,
    factor: Float[Array, "n c k"],
    damping: Scalar,
    factored: Callable[[Float[Array, "m m"]], Callable[[Any], Any]],
) -> Solve:
    """v ↦ (D + Uᵀ Σ U)⁻¹ v by the n · k side: D⁻¹ [v − Uᵀ (Σ + K)⁻¹ U D⁻¹ v]."""
    n, c, _ = factor.shape
    on_weights = damping if net.l2 is None else damping + jnp.asarray(net.l2, damping.dtype)
    rows = jnp.sqrt(jnp.abs(call.c))[:, None, None] * factor
    scaled = tuple(a / jnp.sqrt(on_weights) for a in saved.inputs)
    both = scaled, _deltas(net, call.params, saved, rows)
    kernel = contractions.kernel(both, both, net.operand_dtype, 1 / damping)
    solve = factored(kernel.transpose(0, 2, 1, 3).reshape(n * c, n * c))

    def scale(tree: Params) -> Params:
        return tuple(Layer(layer.w / on_weights, layer.b / damping) for layer in tree)

    def solved(v: Params) -> Params:
        r_outputs, _ = forward_tangents(net, call.params, saved, scale(v))
        t = solve(jnp.einsum("nck,nk->nc", rows, r_outputs).ravel()).reshape(n, c)
        back = transposed_jacobian_product(net, call.params, saved, jnp.einsum("nck,nc->nk", rows, t))
        return scale(jax.tree.map(jnp.subtract, v, back))

    return solved


def _by_parameters(net: MLP, call: Call, saved: Saved, factor: Float[Array, "n c k"], damping: Scalar) -> Solve:
    """v ↦ (D + Uᵀ Σ U)⁻¹ v by the P side, with the matrix written out; NaN unless it is positive definite."""
    deltas = _deltas(net, call.params, saved, factor)

    def some(rows: Any) -> Float[Array, "P P"]:
        inputs, each, c = rows
        parts = []
        for a, delta in zip(inputs, each, strict=True):
            parts += [(a[:, None, :, None] * delta[:, :, None, :]).reshape(*delta.shape[:2], -1), delta]
        jacobian = jnp.concatenate(parts, axis=2)
        flat, weighed = (j.reshape(-1, j.shape[2]) for j in (jacobian, c[:, None, None] * jacobian))
        return matmul(flat.T, weighed)

    size = sum(leaf.size for leaf in jax.tree.leaves(call.params))
    matrix = summed_in_chunks(some, (saved.inputs, deltas, call.c), max(1, size // factor.shape[1]))
    l2 = jnp.asarray(0 if net.l2 is None else net.l2, damping.dtype)
    diagonal = tuple(Layer(jnp.full_like(w, damping + l2), jnp.full_like(b, damping)) for w, b in call.params)
    _, unravel = ravel_pytree(call.params)
    lower = cho_factor(matrix + jnp.diag(ravel_pytree(diagonal)[0]), lower=True)
    return lambda v: unravel(cho_solve(lower, ravel_pytree(v)[0]))
