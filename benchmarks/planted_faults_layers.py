"""Wrong gradients of layers that are no perceptrons."""

from typing import Any

import gradient_layers as layers
import jax
import jax.numpy as jnp
from gradient_cases import Case, Pair, edited, scaled

CONV = Pair(layers.conv_loss, layers.conv_grad)
NORM = Pair(layers.layernorm_loss, layers.layernorm_grad)
ATTENTION = Pair(layers.attention_loss, layers.attention_grad)
RNN = Pair(layers.rnn_loss, layers.rnn_grad)


def _flipped(g: Any, *args: Any) -> Any:
    return g[0][:, :, ::-1, ::-1], g[1]


def _wrapped(kernel: Any, x: Any, y: Any) -> Any:
    return layers.conv_back(x, kernel, (layers.conv(x, kernel) - y) / x.shape[0], mode="wrap")


def _valid(kernel: Any, x: Any, y: Any) -> Any:
    """What belongs to the edges is left out."""
    e = (layers.conv(x, kernel) - y) / x.shape[0]
    return layers.conv_back(x, kernel, e.at[:, :, 0].set(0).at[:, :, :, 0].set(0))


def convolutions() -> list[Case]:
    """Convolution."""
    args, both = layers.conv_args("float32"), (0, 1)
    return [
        Case("convolution: kernel flipped", CONV.fun, edited(CONV.grad, _flipped), args, both),
        Case(
            "convolution: kernel transposed",
            CONV.fun,
            edited(CONV.grad, lambda g, *a: (g[0].transpose(0, 1, 3, 2), g[1])),
            args,
            both,
            kind="transposed",
        ),
        Case("convolution: edges wrapped round", CONV.fun, _wrapped, args, both),
        Case("convolution: outputs at the edges left out", CONV.fun, _valid, args, both),
    ]


def convolution_shapes() -> list[Case]:
    """Convolution: factors, shapes, dtypes."""
    args, both = layers.conv_args("float32"), (0, 1)
    return [
        Case("convolution: rows summed", CONV.fun, edited(CONV.grad, scaled(4.0)), args, both, kind="missing mean"),
        Case(
            "convolution: an axis too many",
            CONV.fun,
            edited(CONV.grad, lambda g, *a: (g[0][None], g[1])),
            args,
            both,
            kind="shape",
        ),
        Case(
            "convolution: arguments exchanged",
            CONV.fun,
            edited(CONV.grad, lambda g, *a: g[::-1]),
            args,
            both,
            kind="swapped",
        ),
        Case(
            "float16 convolution: gradient in float32",
            CONV.fun,
            edited(CONV.grad, lambda g, *a: (g[0].astype("float32"), g[1])),
            layers.conv_args("float16"),
            both,
            kind="dtype",
        ),
    ]


def _no_epsilon(x: Any, gain: Any, bias: Any, c: Any) -> Any:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True))
    unit, d = centred * inverse, c * gain[None, :]
    along = jnp.mean(d * unit, axis=-1, keepdims=True)
    return inverse * (d - jnp.mean(d, axis=-1, keepdims=True) - unit * along)


def _unsummed_gain(g: Any, x: Any, gain: Any, bias: Any, c: Any) -> Any:
    return g[0], c * layers.normalised(x)[0], g[2]


def _constant_mean(x: Any, gain: Any, bias: Any, c: Any) -> Any:
    unit, inverse = layers.normalised(x)
    d = c * gain[None, :]
    return inverse * (d - unit * jnp.mean(d * unit, axis=-1, keepdims=True))


def _constant_deviation(x: Any, gain: Any, bias: Any, c: Any) -> Any:
    d = c * gain[None, :]
    return layers.normalised(x)[1] * (d - jnp.mean(d, axis=-1, keepdims=True))


def normalisations() -> list[Case]:
    """Layernorm."""
    args = layers.layernorm_args("float32")
    tiny = layers.layernorm_args("float32", 3e-3)
    level = (args[0].at[2].set(1.5), *args[1:])
    return [
        Case("layernorm: mean held constant", NORM.fun, _constant_mean, args),
        Case("layernorm: deviation held constant", NORM.fun, _constant_deviation, args),
        Case("layernorm: no epsilon on the way back", NORM.fun, _no_epsilon, tiny),
        Case("layernorm: a row without spread", NORM.fun, _no_epsilon, level, kind="not finite"),
        Case(
            "layernorm: gain not summed over rows",
            NORM.fun,
            edited(NORM.grad, _unsummed_gain),
            args,
            (0, 1, 2),
            kind="not summed",
        ),
        Case(
            "layernorm: bias negated",
            NORM.fun,
            edited(NORM.grad, lambda g, *a: (*g[:2], -g[2])),
            args,
            (0, 1, 2),
            kind="sign",
        ),
    ]


def attentions() -> list[Case]:
    """Attention."""
    args = layers.attention_args("float32")

    def transposed(g: Any, *a: Any) -> Any:
        return {**g, "q": g["q"].T}

    diagonal = layers.attention_grad_with(lambda p, dp: p * dp)
    return [
        Case("attention: softmax without − p pᵀ", ATTENTION.fun, diagonal, args),
        Case(
            "attention: 1/√d forgotten",
            ATTENTION.fun,
            layers.attention_grad_with(layers.softmax_back, 1.0),
            args,
            kind="constant ratio",
        ),
        Case(
            "attention: queries transposed", ATTENTION.fun, edited(ATTENTION.grad, transposed), args, kind="transposed"
        ),
    ]


def attention_parts() -> list[Case]:
    """Attention: its three parts confused."""
    args = layers.attention_args("float32")

    def exchanged(g: Any, *a: Any) -> Any:
        return {"q": g["k"], "k": g["q"], "v": g["v"]}

    def detached(g: Any, *a: Any) -> Any:
        return {**g, "k": jnp.zeros_like(g["k"])}

    return [
        Case(
            "attention: queries and keys exchanged",
            ATTENTION.fun,
            edited(ATTENTION.grad, exchanged),
            args,
            kind="swapped",
        ),
        Case("attention: keys detached", ATTENTION.fun, edited(ATTENTION.grad, detached), args, kind="zero"),
        Case(
            "attention: values negated",
            ATTENTION.fun,
            edited(ATTENTION.grad, lambda g, *a: {**g, "v": -g["v"]}),
            args,
            kind="sign",
        ),
        Case(
            "attention: a tuple for a dictionary",
            ATTENTION.fun,
            edited(ATTENTION.grad, lambda g, *a: (g["k"], g["q"], g["v"])),
            args,
            kind="structure",
        ),
    ]


def _state_after(params: Any, xs: Any, y: Any) -> Any:
    hs = layers.states(params, xs)
    deltas = layers.rnn_deltas(params, hs, hs[-1] - y)
    return {"u": xs.T @ deltas, "w": hs.T @ deltas, "b": jnp.sum(deltas, axis=0)}


def _truncated(params: Any, xs: Any, y: Any) -> Any:
    hs = layers.states(params, xs)
    deltas = layers.rnn_deltas(params, hs, hs[-1] - y) * (jnp.arange(len(hs)) >= len(hs) - 2)[:, None].astype(xs.dtype)
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    return {"u": xs.T @ deltas, "w": before.T @ deltas, "b": jnp.sum(deltas, axis=0)}


def _over_time(g: Any, params: Any, xs: Any, y: Any) -> Any:
    hs = layers.states(params, xs)
    return {**g, "b": layers.rnn_deltas(params, hs, hs[-1] - y)}


def recurrences() -> list[Case]:
    """Recurrent networks."""
    args = layers.rnn_args("float32")
    return [
        Case("recurrent network: the state after the step", RNN.fun, _state_after, args),
        Case("recurrent network: the last two steps alone", RNN.fun, _truncated, args),
        Case(
            "recurrent network: bias not summed",
            RNN.fun,
            edited(RNN.grad, _over_time),
            args,
            kind="not summed",
        ),
        Case(
            "recurrent network: recurrent weights transposed",
            RNN.fun,
            edited(RNN.grad, lambda g, *a: {**g, "w": g["w"].T}),
            args,
            kind="transposed",
        ),
        Case(
            "recurrent network: averaged over time", RNN.fun, edited(RNN.grad, scaled(1 / 9)), args, kind="missing mean"
        ),
    ]


def faults() -> list[Case]:
    """All of them."""
    parts = (convolutions, convolution_shapes, normalisations, attentions, attention_parts, recurrences)
    return [case for part in parts for case in part()]
