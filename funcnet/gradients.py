"""The network's outputs, its loss, and the gradients of the loss in closed form.

    L = Σ wᵢ ℓᵢ / Σ wᵢ + ½ · l2 · Σ_l ‖W_l‖²

is written once, in `_reduce`; every output cotangent carries the same cᵢ = wᵢ / Σ w. Without weights every wᵢ is 1. A
weight of 2 equals the row twice, a weight of 0 equals the row absent (even one with NaN in it), and Σ w = 0 gives a
data term of 0.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from funcnet import contractions
from funcnet.affine import flatten
from funcnet.boundary import Call, check_features, check_network, enter, lift_params
from funcnet.class_chunks import Head, How, first_pass, second_pass
from funcnet.losses import chunk_of
from funcnet.network import MLP, check_key
from funcnet.precision import cast_like, matmul, transpose
from funcnet.rules import check_shape
from funcnet.sweeps import Rows, Saved, backward, forward
from funcnet.types import Features, KeyArray, Layer, Params, Targets, Weights


def losses_of(net: MLP, outputs: Float[Array, "n k"], y: Shaped[Array, "n ..."]) -> Float[Array, " n"]:
    """ℓ_i of each example."""
    losses = net.loss.value(outputs, y)
    check_shape(f"value(outputs, y) of loss {net.loss.name!r}", losses, outputs.shape[:1])
    return losses


def squared_weights(params: Params) -> Float[Array, ""]:
    """Σ_l ‖W_l‖², biases left out."""
    return jnp.sum(jnp.stack([jnp.sum(jnp.square(layer.w)) for layer in params]))


def penalty(net: MLP, params: Params) -> Float[Array, ""]:
    """½ · l2 · Σ_l ‖W_l‖², of lifted parameters."""
    dtype = params[0].w.dtype
    return jnp.zeros((), dtype) if net.l2 is None else 0.5 * jnp.asarray(net.l2, dtype) * squared_weights(params)


def _reduce(net: MLP, call: Call, losses: Float[Array, " n"]) -> Float[Array, ""]:
    """Σ c_i ℓ_i + ½ · l2 · Σ ‖W_l‖²."""
    return jnp.sum(call.c * losses) + penalty(net, call.params)


def apply(net: MLP, params: Params, x: Features, *, key: KeyArray | None = None) -> Float[Array, "n k"]:
    """The outputs A_L of the network in the parameters' dtype: logits where the loss is a cross-entropy.

        A_0 = X,    A_l = φ_l(A_{l−1} W_l + 1 b_lᵀ)

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        key: The dropout key; without one the network is deterministic.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.
    """
    check_network(net, params)
    check_features(net, x)
    check_key(key)
    lifted = lift_params(params)
    outputs, _ = forward(net, lifted, jnp.asarray(flatten(x), lifted[0].w.dtype), key)
    return outputs.astype(params[0].w.dtype)


def per_example_losses(
    net: MLP, params: Params, x: Features, y: Targets, *, key: KeyArray | None = None
) -> Float[Array, " n"]:
    """ℓ_i of each example, summed over outputs: not averaged, not weighted, without l2.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.
    """
    call = enter(net, params, x, y, None, key)
    outputs, _ = forward(net, call.params, call.x, key)
    return losses_of(net, outputs, call.y).astype(params[0].w.dtype)


def loss(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Float[Array, ""]:
    """L = Σ wᵢ ℓᵢ / Σ wᵢ + ½ · l2 · Σ_l ‖W_l‖², in plain JAX.

    Since a weight of 0 equals the row absent, the derivative in a weight that is 0 is not that of a row present.

    Args:
        net: The network.
        params: Its parameters.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs.
        weights: One weight for each example; may be negative.
        key: The dropout key; without one the network is deterministic.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.
    """
    call = enter(net, params, x, y, weights, key)
    outputs, _ = forward(net, call.params, call.x, key)
    return _reduce(net, call, losses_of(net, outputs, call.y)).astype(params[0].w.dtype)


class Swept(NamedTuple):
    """What a forward and a backward sweep leave, in the work dtype.

    Attributes:
        value: L.
        losses: ℓ_i.
        outputs: A_L.
        saved: What the forward sweep saved.
        deltas: Δ_1 … Δ_L.
        contracted: contract(A_{l−1}, Δ_l) of each layer; empty without one.
    """

    value: Float[Array, ""]
    losses: Float[Array, " n"]
    outputs: Float[Array, "n k"]
    saved: Saved
    deltas: tuple[Float[Array, "n _"], ...]
    contracted: tuple[Any, ...]


def both_sweeps(
    net: MLP, call: Call, key: KeyArray | None, contract: Callable[[Rows, Rows], Any] | None = None
) -> Swept:
    """Run the forward sweep, then the backward sweep with the cotangent c_i g_i of the outputs.

    Derivation:
        d Σ_i c_i ℓ_i = Σ_i c_i g_iᵀ d outputs_i = tr((diag(c) g)ᵀ d outputs).
    """
    outputs, saved = forward(net, call.params, call.x, key)
    losses, g = losses_of(net, outputs, call.y), net.loss.gradient(outputs, call.y)
    check_shape(f"gradient(outputs, y) of loss {net.loss.name!r}", g, outputs.shape)
    cotangents = backward(net, call.params, saved, call.c[:, None] * g, contract)
    return Swept(_reduce(net, call, losses), losses, outputs, saved, cotangents.deltas, cotangents.contracted)


def parameter_gradient(net: MLP, call: Call, key: KeyArray | None) -> tuple[Swept, Params]:
    """Both sweeps, and ∂L/∂params: dW_l = A_{l−1}ᵀ Δ_l + l2 · W_l, db_l = Δ_lᵀ 1.

    Derivation:
        The data term is contracted in `funcnet.contractions.gradient`; d ½ ‖W_l‖² = tr(W_lᵀ dW_l).
    """
    swept = both_sweeps(net, call, key, partial(contractions.gradient, operand_dtype=net.operand_dtype))
    return swept, with_penalty(net, call.params, swept.contracted)


def with_penalty(net: MLP, params: Params, grads: Params) -> Params:
    """The gradient of the data term, and l2 · W_l, of lifted parameters."""
    if net.l2 is None:
        return grads
    l2 = jnp.asarray(net.l2, params[0].w.dtype)
    return tuple(Layer(g.w + l2 * layer.w, g.b) for g, layer in zip(grads, params, strict=True))


def chunked_gradient(net: MLP, call: Call, key: KeyArray | None, chunk: int) -> tuple[Float[Array, ""], Params]:
    """L and ∂L/∂params for the softmax cross-entropy of labels, with the logits of `chunk` classes at a time.

    Derivation:
        The two passes over the classes give dW_L, db_L and the cotangent dA_{L−1} = Δ_L W_Lᵀ, from which the backward
        sweep goes on as in `value_and_grad`.
    """
    body, last = call.params[:-1], call.params[-1]
    hidden, saved = forward(net, body, call.x, key)
    how = How(min(chunk, net.widths[-1]), operand_dtype=net.operand_dtype)
    head = Head(hidden, last.w, last.b, call.c, call.y.astype(jnp.int32))
    parts = first_pass(head, how)
    d_hidden, d_w, d_b = second_pass(head, parts, how)
    below = backward(net, body, saved, d_hidden, partial(contractions.gradient, operand_dtype=net.operand_dtype))
    return _reduce(net, call, parts.losses), with_penalty(net, call.params, (*below.contracted, Layer(d_w, d_b)))


def row_gradient(net: MLP, call: Call, swept: Swept) -> Float[Array, "n d"]:
    """∂L/∂X = Δ_1 W_1ᵀ, with the features of each example in one row.

    Derivation:
        In the first layer dZ_1 = dX W_1, so dL = tr(Δ_1ᵀ dX W_1) = tr((Δ_1 W_1ᵀ)ᵀ dX).
    """
    return matmul(swept.deltas[0], transpose(call.params[0].w, net.operand_dtype), net.operand_dtype)


def value_and_grad(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> tuple[Float[Array, ""], Params]:
    """L and ∂L/∂params in closed form: what `jax.value_and_grad(funcnet.loss, argnums=1)` returns.

        Δ_L = φ_L'(Z_L) ∘ (c g),    Δ_{l−1} = (Δ_l W_lᵀ) ∘ φ'(Z_{l−1}),    dW_l = A_{l−1}ᵀ Δ_l + l2 · W_l,
        db_l = Δ_lᵀ 1

    with g_i = ∂ℓ_i/∂outputs_i, c_i = w_i / Σ w, and row i of c g being c_i g_i. A label outside 0 … k − 1 makes the
    loss NaN and contributes nothing to the gradient; `fit` refuses it. Where the loss is
    `softmax_cross_entropy_chunked` and y are labels, the last layer and the loss run over chunks of classes.

    Derivation:
        dL = tr((c g)ᵀ dA_L) + l2 · Σ_l tr(W_lᵀ dW_l). Through dA_l = φ'(Z_l) ∘ dZ_l the first term is tr(Δ_lᵀ dZ_l),
        and dZ_l = A_{l−1} dW_l + 1 db_lᵀ + dA_{l−1} W_l splits it: tr((A_{l−1}ᵀ Δ_l)ᵀ dW_l), (Δ_lᵀ 1)ᵀ db_l, and
        tr((Δ_l W_lᵀ)ᵀ dA_{l−1}), which is where the layer before goes on.

    Args:
        net: The network.
        params: Its parameters; the gradients have their structure, shapes and dtype.
        x: A batch; features of any rank are flattened.
        y: Integer labels (n,), or targets in the shape (n, k) of the outputs.
        weights: One weight for each example; may be negative.
        key: The dropout key; the same key drops the same units as in `loss`.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.

    References:
        Rumelhart, Hinton, Williams 1986, Learning representations by back-propagating errors.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> params = fn.init(jax.random.key(0), net)
    >>> value, grads = jax.jit(fn.value_and_grad)(net, params, jnp.ones((5, 3)), jnp.array([0, 1, 1, 0, 1]))
    >>> value.shape, grads[1].w.shape
    ((), (4, 2))
    """
    call, chunk = enter(net, params, x, y, weights, key), chunk_of(net.loss)
    if chunk is not None and call.y.ndim == 1:  # the output activation is the identity: the loss takes logits
        value, grads = chunked_gradient(net, call, key, chunk)
    else:
        swept, grads = parameter_gradient(net, call, key)
        value = swept.value
    return value.astype(params[0].w.dtype), cast_like(grads, params)


def input_gradient(
    net: MLP,
    params: Params,
    x: Features,
    y: Targets,
    *,
    weights: Weights | None = None,
    key: KeyArray | None = None,
) -> Features:
    """∂L/∂x = Δ_1 W_1ᵀ in closed form, in the shape and dtype of x.

    Derivation:
        As for `value_and_grad`, down to dL = tr(Δ_1ᵀ dZ_1); there dZ_1 = dX W_1, so dL = tr((Δ_1 W_1ᵀ)ᵀ dX).

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the shapes do not fit; the message names the argument.
    """
    call = enter(net, params, x, y, weights, key)
    x = jnp.asarray(x)
    return row_gradient(net, call, both_sweeps(net, call, key)).reshape(x.shape).astype(x.dtype)
