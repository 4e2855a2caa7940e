"""The gradient of the Laplacian in the parameters: its reverse sweep, which trains physics-informed networks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet.boundary import check_array
from funcnet.contractions import gradient
from funcnet.input_derivatives import (
    Derivatives,
    Directions,
    Second,
    curved_layers,
    derivatives,
    direction_groups,
    enter_inputs,
    laplacian,
    over_directions,
    second_order,
)
from funcnet.network import MLP
from funcnet.precision import cast_like, matmul, transpose
from funcnet.row_chunks import summed_in_chunks
from funcnet.sweeps import Rows, dropout_masks, masked_forward
from funcnet.types import Features, KeyArray, Layer, Params


class Swept(NamedTuple):
    """What the forward sweeps leave.

    Attributes:
        inputs: A_0 … A_{L−1}.
        own: φ', φ'' and φ''' of each layer.
        second: What the Laplacian leaves.
    """

    inputs: tuple[Rows, ...]
    own: tuple[Derivatives, ...]
    second: Second


def laplacian_vjp(
    net: MLP, params: Params, x: Features, *, key: KeyArray | None = None, chunk_size: int | None = None
) -> tuple[Float[Array, "n k"], Callable[[Float[Array, "n k"]], Params]]:
    """The Laplacian, and `pullback(cotangent)`: the gradient of Σ cotangent · laplacian in the parameters.

    With a cotangent q̄_L of the Laplacian, from the last layer to the first:

        S̄_l = φ'' ∘ q̄_l,    q̄z_l = φ' ∘ q̄_l,    q̄_{l−1} = q̄z_l W_lᵀ,
        P̄_j,l = φ' ∘ J̄_j,l + 2 S̄_l ∘ P_j,l,    J̄_j,l−1 = P̄_j,l W_lᵀ,
        Z̄_l = φ' ∘ Ā_l + q̄_l ∘ (φ'' ∘ (q_{l−1} W_l) + φ''' ∘ S_l) + φ'' ∘ Σ_j P_j,l ∘ J̄_j,l,    Ā_{l−1} = Z̄_l W_lᵀ,
        dW_l = A_{l−1}ᵀ Z̄_l + q_{l−1}ᵀ q̄z_l + Σ_j J_j,l−1ᵀ P̄_j,l,    db_l = Z̄_lᵀ 1

    So a physics-informed network trains without nested automatic differentiation: the gradient of ½ Σ (laplacian − f)²
    is pullback(laplacian − f).

    Derivation:
        The differentials of the lines of `laplacian`: dq_l = φ' ∘ d(q_{l−1} W_l) + φ'' ∘ dS_l + (φ'' ∘ (q_{l−1} W_l) +
        φ''' ∘ S_l) ∘ dZ_l, dS_l = 2 Σ_j P_j,l ∘ dP_j,l, dJ_j,l = φ' ∘ dP_j,l + φ'' ∘ P_j,l ∘ dZ_l, and d(B W_l) =
        dB W_l + B dW_l for each of B = A, J_j, q. What stands in dℓ = tr(q̄ᵀ dq) + … with each differential is its
        cotangent; for B W_l that is tr((Bᵀ C)ᵀ dW_l) + tr((C W_lᵀ)ᵀ dB) with C the cotangent of the product.

    Args:
        net: The network; its loss and l2 play no part.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        key: The dropout key.
        chunk_size: So many examples at a time; by default all. Then pullback computes what it needs again.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((2, 8, 1), activation=fn.tanh, loss=fn.half_squared_error)
    >>> params, x = fn.init(jax.random.key(0), net), jnp.ones((5, 2))
    >>> values, pullback = fn.laplacian_vjp(net, params, x)
    >>> pullback(values - 1.0)[0].w.shape  # of ½ Σ (laplacian − 1)²
    (2, 8)
    """
    lifted, rows = enter_inputs(net, params, x, key, chunk_size)
    given = rows, dropout_masks(net, key, rows.shape[0], rows.dtype)

    def swept(chunk: tuple[Rows, tuple[Rows, ...] | None]) -> Swept:
        saved = masked_forward(net, lifted, *chunk)[1]
        own = derivatives(net, saved)
        return Swept(saved.inputs, own, second_order(net, lifted, own, keep=True))

    if chunk_size is None or chunk_size >= rows.shape[0]:
        whole = swept(given)
        values = whole.second.laplacian

        def pulled(bar: Rows) -> Params:
            return _pulled_back(net, lifted, whole, bar)
    else:
        values = laplacian(net, params, x, key=key, chunk_size=chunk_size)

        def pulled(bar: Rows) -> Params:
            def some(chunk: tuple[Rows, tuple[Rows, ...] | None, Rows]) -> Params:
                return _pulled_back(net, lifted, swept(chunk[:2]), chunk[2])

            return summed_in_chunks(some, (*given, bar), chunk_size)

    def pullback(cotangent: Float[Array, "n k"]) -> Params:
        check_array("cotangent", cotangent)
        cotangent = jnp.asarray(cotangent)
        if cotangent.shape != values.shape:
            raise ValueError(f"cotangent must have the shape {values.shape} of the Laplacian; got {cotangent.shape}")
        return cast_like(pulled(cotangent.astype(rows.dtype)), params)

    return values.astype(params[0].w.dtype), pullback


def _pulled_back(net: MLP, params: Params, swept: Swept, cotangent: Rows) -> Params:
    """The gradient of Σ cotangent · laplacian.

    Derivation:
        As of `laplacian_vjp`.
    """
    inputs, own, second = swept
    weights, top = [transpose(layer.w, net.operand_dtype) for layer in params], curved_layers(net)
    bar, of_squares, of_products, of_z = cotangent, [], [], []
    for i in reversed(range(len(params))):
        of_products.insert(0, own[i].slope * bar)
        if i < top:
            bent, z = own[i].third * second.squares[i], second.z[i]
            of_squares.insert(0, own[i].curvature * bar)
            of_z.insert(0, bar * (bent if z is None else bent + own[i].curvature * z))
        if i > 0:
            bar = matmul(of_products[0], weights[i], net.operand_dtype)
    crossed, by_directions = _back_along_directions(net, params, own, second.directions, of_squares)
    a_bar, grads = None, []
    for i in reversed(range(len(params))):
        w, b, q = jnp.zeros_like(params[i].w), jnp.zeros_like(params[i].b), second.inputs[i]
        if i < top:
            z_bar = of_z[i]
            if a_bar is not None:
                z_bar = z_bar + own[i].slope * a_bar + own[i].curvature * crossed[i]
            w, b = gradient(inputs[i], z_bar, net.operand_dtype)
            w = w + by_directions[i]
            a_bar = matmul(z_bar, weights[i], net.operand_dtype) if i > 0 else None
        grads.append(Layer(w if q is None else w + gradient(q, of_products[i], net.operand_dtype).w, b))
    return tuple(reversed(grads))


def _back_along_directions(
    net: MLP, params: Params, own: tuple[Derivatives, ...], directions: Any, of_squares: list[Rows]
) -> tuple[list[Rows], list[Array]]:
    """Σ_j P_j,l ∘ J̄_j,l and Σ_j J_j,l−1ᵀ P̄_j,l from S̄_l, up to the last curved layer, where the first sum is 0.

    Derivation:
        As of `laplacian_vjp`; in the first layer J_j,0 is e_jᵀ in each row, so that row j of its sum is 1ᵀ P̄_j,1.
    """
    top = len(of_squares)

    def add(total: Any, group: tuple[Float[Array, "j w"], Any]) -> tuple[Any, Float[Array, "j w"]]:
        (crossed, sums), (starts, kept) = (list(map(list, total)), group)
        each = (jnp.broadcast_to(starts[:, None], (len(starts), *own[0].slope.shape)), *kept)
        p_bar = 2 * of_squares[-1][None] * each[-1]
        for i in reversed(range(top - 1)):
            j = own[i].slope[None] * each[i]
            sums[i] += gradient(_rows(j), _rows(p_bar), net.operand_dtype).w
            j_bar = matmul(p_bar, transpose(params[i + 1].w, net.operand_dtype), net.operand_dtype)
            crossed[i] += over_directions(each[i] * j_bar)
            p_bar = own[i].slope[None] * j_bar + 2 * of_squares[i][None] * each[i]
        return (crossed, sums), jnp.sum(p_bar, axis=1)

    zero = [jnp.zeros_like(each.slope) for each in own[: top - 1]], [jnp.zeros_like(layer.w) for layer in params[1:top]]
    groups = direction_groups(params[0].w, len(own[0].slope))
    (crossed, above), first = jax.lax.scan(add, zero, (groups, directions))
    return crossed, [first.reshape(-1, first.shape[2])[: params[0].w.shape[0]], *above]


def _rows(directions: Directions) -> Rows:
    """Examples of all directions, one after the other."""
    return directions.reshape(-1, directions.shape[2])
