"""Derivatives of the outputs in the inputs: Jacobian and Laplacian.

No loss plays a part. The Laplacian carries J_j = ∂A/∂x_j for each feature j and q = Σ_j ∂²A/∂x_j² through the layers:

    P_j,l = J_j,l−1 W_l,    J_j,l = φ_l' ∘ P_j,l,
    S_l = Σ_j P_j,l ∘ P_j,l,    q_l = φ_l' ∘ (q_{l−1} W_l) + φ_l'' ∘ S_l

J_j does not depend on q, so that the directions j go one after the other, in groups, and leave S_l behind; then q goes
through the layers once. In the first layer P_j,1 is row j of W_1 and takes no product.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet.affine import flatten
from funcnet.boundary import check_features, check_network, lift_params
from funcnet.network import MLP, check_key
from funcnet.numbers import check_count
from funcnet.precision import matmul, transpose
from funcnet.row_chunks import in_chunks, largest_chunk
from funcnet.sweeps import Rows, Saved, backward, dropout_masks, forward, masked_forward
from funcnet.types import Features, KeyArray, Params

Directions = Float[Array, "j n _"]
ROWS = 512
"""So many rows, of examples times directions, go through the layers at a time: more of them leave the caches."""


def enter_inputs(
    net: MLP, params: Params, x: Features, key: KeyArray | None, chunk_size: int | None
) -> tuple[Params, Rows]:
    """The checked arguments, in the dtype they are computed in."""
    check_network(net, params)
    check_features(net, x)
    check_key(key)
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    lifted = lift_params(params)
    return lifted, jnp.asarray(flatten(x), lifted[0].w.dtype)


def input_jacobian(net: MLP, params: Params, x: Features, *, key: KeyArray | None = None) -> Float[Array, "n k d"]:
    """[i, c, j] = ∂outputs_c/∂x_j of each example: W_1 D_1 W_2 D_2 … W_L D_L, transposed, with D_l = diag(φ_l').

    It is multiplied from its narrower end: from the outputs where there are no more of them than features.

    Derivation:
        da_l = φ_l' ∘ (da_{l−1} W_l) = da_{l−1} W_l D_l for a row da_{l−1}, so that da_L = dx W_1 D_1 … W_L D_L. From
        the left, the rows of the product are the tangents of unit vectors dx = e_j; from the right its columns are the
        cotangents, in x, of single outputs.

    Args:
        net: The network; its loss plays no part.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        key: The dropout key.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Griewank, Walther 2008, Evaluating Derivatives, chapter 3.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.half_squared_error)
    >>> jax.jit(fn.input_jacobian)(net, fn.init(jax.random.key(0), net), jnp.ones((5, 3))).shape
    (5, 2, 3)
    """
    lifted, rows = enter_inputs(net, params, x, key, None)
    _, saved = forward(net, lifted, rows, key)
    (n, d), k = rows.shape, net.widths[-1]
    if k <= d:
        units = jnp.broadcast_to(jnp.eye(k, dtype=rows.dtype)[:, None], (k, n, k))

        def row(unit: Rows) -> Rows:
            delta = backward(net, lifted, saved, unit).deltas[0]
            return matmul(delta, transpose(lifted[0].w, net.operand_dtype), net.operand_dtype)

        jacobian = jax.vmap(row, out_axes=1)(units)
    else:
        own = derivatives(net, saved)
        jacobian = jnp.moveaxis(own[-1].slope[None] * direction_sweep(net, lifted, own, lifted[0].w)[-1], 0, 2)
    return jacobian.astype(params[0].w.dtype)


class Derivatives(NamedTuple):
    """φ_l', φ_l'' and φ_l''' of a layer where Z_l is, times the mask of dropout."""

    slope: Rows
    curvature: Rows
    third: Rows


def derivatives(net: MLP, saved: Saved) -> tuple[Derivatives, ...]:
    """Those of each layer; what is not used is not computed."""
    masks, found = (*(saved.masks or (None,) * (net.n_layers - 1)), None), []
    for rule, z, h, mask in zip(net.activations, saved.z, saved.hidden, masks, strict=True):
        own = Derivatives(rule.slope(z, h), rule.curvature(z, h), rule.third(z, h))
        found.append(own if mask is None else Derivatives(*(mask * each for each in own)))
    return tuple(found)


def direction_sweep(
    net: MLP, params: Params, own: tuple[Derivatives, ...], starts: Float[Array, "j w"]
) -> tuple[Directions, ...]:
    """P_j,1 … P_j,L of some directions, of which the rows j of W_1 are given.

    Derivation:
        dZ_l = dA_{l−1} W_l and dA_l = φ_l' ∘ dZ_l, from dZ_1 = e_jᵀ W_1 in each row.
    """
    found = [jnp.broadcast_to(starts[:, None], (len(starts), *own[0].slope.shape))]
    for i, layer in enumerate(params[1:]):
        found.append(matmul(own[i].slope[None] * found[i], layer.w, net.operand_dtype))
    return tuple(found)


def over_directions(each: Directions) -> Rows:
    """Σ_j. Few are added one by one: as a sum over the first axis, XLA:CPU takes ten times as long."""
    return sum(each[1:], each[0]) if len(each) <= 16 else jnp.sum(each, axis=0)


def curved_layers(net: MLP) -> int:
    """The number of layers up to the last one that is curved, at least 1: above it S_l plays no part."""
    return max((i + 1 for i, rule in enumerate(net.activations) if not rule.is_piecewise_linear), default=1)


class Second(NamedTuple):
    """What the second-order part of the forward sweep leaves.

    Attributes:
        laplacian: q_L.
        inputs: q_0 … q_{L−1}; None for q_0 = 0.
        z: q_{l−1} W_l of each layer; None for the first.
        squares: S_l of each layer up to the last curved one.
        directions: P_j,l of these layers but the first in groups of directions, or None where not to be kept.
    """

    laplacian: Rows
    inputs: tuple[Rows | None, ...]
    z: tuple[Rows | None, ...]
    squares: tuple[Rows, ...]
    directions: tuple[Float[Array, "groups j n _"], ...] | None


def direction_groups(starts: Float[Array, "d w"], n: int) -> Float[Array, "groups size w"]:
    """The rows of W_1 in groups, the last filled up with rows of 0, whose directions go nowhere."""
    d = starts.shape[0]
    size = largest_chunk(d, ROWS, n)
    return jnp.pad(starts, ((0, -d % size), (0, 0))).reshape(-1, size, starts.shape[1])


def second_order(net: MLP, params: Params, own: tuple[Derivatives, ...], keep: bool) -> Second:
    """S_l of all directions, then q through the layers; `keep` what the directions leave.

    Derivation:
        ∂²a_l/∂x_j² = φ_l' ∘ ∂²z_l/∂x_j² + φ_l'' ∘ (∂z_l/∂x_j)² with ∂²z_l/∂x_j² = (∂²a_{l−1}/∂x_j²) W_l, summed over j.
        S_1 is the same in each row: Σ_j of row j of W_1, squared.
    """

    def add(total: tuple[Rows, ...], starts: Float[Array, "j w"]) -> tuple[tuple[Rows, ...], Any]:
        each = direction_sweep(net, params[:top], own, starts)[1:]
        total = tuple(t + over_directions(jnp.square(p)) for t, p in zip(total, each, strict=True))
        return total, each if keep else None

    top = curved_layers(net)
    first, *above = (each.slope for each in own[:top])
    groups = direction_groups(params[0].w, len(first))
    squares, directions = jax.lax.scan(add, tuple(jnp.zeros_like(slope) for slope in above), groups)
    squares = (jnp.broadcast_to(jnp.sum(jnp.square(params[0].w), axis=0), first.shape), *squares)
    q = own[0].curvature * squares[0]
    inputs: list[Rows | None] = [None]
    z: list[Rows | None] = [None]
    for i in range(1, len(params)):
        inputs.append(q)
        moved = matmul(q, params[i].w, net.operand_dtype)
        z.append(moved)
        q = own[i].slope * moved
        if i < top:
            q = q + own[i].curvature * squares[i]
    return Second(q, tuple(inputs), tuple(z), squares, directions)


def laplacian(
    net: MLP, params: Params, x: Features, *, key: KeyArray | None = None, chunk_size: int | None = None
) -> Float[Array, "n k"]:
    """Σ_j ∂²outputs/∂x_j² of each example and output, by one forward sweep for each feature and one more.

        P_j,l = J_j,l−1 W_l,    J_j,l = φ_l' ∘ P_j,l,    S_l = Σ_j P_j,l²,    q_l = φ_l' ∘ (q_{l−1} W_l) + φ_l'' ∘ S_l

    and q_L is the result. At kinks φ'' is 0: of a network of relu the Laplacian is 0.

    Derivation:
        With J_j = ∂A/∂x_j: ∂²a_l/∂x_j² = φ_l' ∘ ∂²z_l/∂x_j² + φ_l'' ∘ (∂z_l/∂x_j)² and ∂²z_l/∂x_j² =
        (∂²a_{l−1}/∂x_j²) W_l; both are linear in the second derivatives, so they can be summed over j on the way.

    Args:
        net: The network; its loss plays no part.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        key: The dropout key.
        chunk_size: So many examples at a time; by default all. Memory is bounded by that of a chunk.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Li et al. 2024, A computational framework for neural network-based variational Monte Carlo with forward
        Laplacian.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.half_squared_error)
    >>> jax.jit(fn.laplacian)(net, fn.init(jax.random.key(0), net), jnp.ones((5, 3))).shape
    (5, 2)
    """
    lifted, rows = enter_inputs(net, params, x, key, chunk_size)

    def some(chunk: tuple[Rows, tuple[Rows, ...] | None]) -> Rows:
        own = derivatives(net, masked_forward(net, lifted, *chunk)[1])
        return second_order(net, lifted, own, keep=False).laplacian

    masks = dropout_masks(net, key, rows.shape[0], rows.dtype)
    return in_chunks(some, (rows, masks), chunk_size).astype(params[0].w.dtype)
