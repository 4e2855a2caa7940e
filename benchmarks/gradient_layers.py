"""Layers that are no perceptrons, with their gradients by hand, which both catalogues build on."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gradient_cases import normal
from jax import lax

EPSILON = 1e-5


def conv(x: Any, kernel: Any) -> Any:
    """A convolution (n, c, h, w) with (o, c, 3, 3) that keeps the size."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME")


def conv_loss(kernel: Any, x: Any, y: Any) -> Any:
    """½ Σ (conv(x, kernel) − y)² / n."""
    e = conv(x, kernel) - y
    return 0.5 * jnp.sum(e * e) / x.shape[0]


def conv_back(x: Any, kernel: Any, e: Any, mode: Any = "constant") -> tuple[Any, Any]:
    """The gradients in kernel and x, shift by shift; what lies beyond the edges is 0 unless `mode` says otherwise."""
    height, width = x.shape[2:]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=mode)
    d_padded, d_kernel = jnp.zeros_like(padded), jnp.zeros_like(kernel)
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + height, j : j + width]
            d_kernel = d_kernel.at[:, :, i, j].set(jnp.einsum("nohw,nchw->oc", e, window))
            part = jnp.einsum("nohw,oc->nchw", e, kernel[:, :, i, j])
            d_padded = d_padded.at[:, :, i : i + height, j : j + width].add(part)
    return d_kernel, d_padded[:, :, 1:-1, 1:-1]


def conv_grad(kernel: Any, x: Any, y: Any) -> Any:
    """The gradients of `conv_loss` in kernel and x."""
    return conv_back(x, kernel, (conv(x, kernel) - y) / x.shape[0])


def conv_args(dtype: str, scale: float = 1.0) -> tuple[Any, ...]:
    """Kernel, input and target."""
    kernel, x = normal(1, (3, 2, 3, 3), dtype, 0.4), normal(2, (4, 2, 6, 5), dtype, scale)
    return kernel, x, normal(3, (4, 3, 6, 5), dtype, scale)


def softmax_back(p: Any, dp: Any) -> Any:
    """diag(p) − p pᵀ applied to the cotangent of each row of probabilities."""
    return p * (dp - jnp.sum(dp * p, axis=-1, keepdims=True))


def attend(params: Any, x: Any) -> tuple[Any, ...]:
    """q, k, v, the attention and the output of one head."""
    q, k, v = (x @ params[name] for name in "qkv")
    p = jax.nn.softmax(q @ k.T / k.shape[1] ** 0.5, axis=-1)
    return q, k, v, p, p @ v


def attention_loss(params: Any, x: Any, y: Any) -> Any:
    """½ Σ (attention − y)² / n of one head with weights {"q", "k", "v"}."""
    e = attend(params, x)[-1] - y
    return 0.5 * jnp.sum(e * e) / x.shape[0]


def attention_grad_with(through: Callable[[Any, Any], Any], scale: float | None = None) -> Callable[..., Any]:
    """The gradient of `attention_loss` with a backward of softmax and a scale (1/√d if None) of its own."""

    def grad(params: Any, x: Any, y: Any) -> Any:
        q, k, v, p, out = attend(params, x)
        e = (out - y) / x.shape[0]
        ds = through(p, e @ v.T) * (k.shape[1] ** -0.5 if scale is None else scale)
        return {"q": x.T @ (ds @ k), "k": x.T @ (ds.T @ q), "v": x.T @ (p.T @ e)}

    return grad


attention_grad = attention_grad_with(softmax_back)


def attention_args(dtype: str, scale: float = 1.0) -> tuple[Any, ...]:
    """Weights, input and target; the width of a head is 6."""
    params = {name: normal(i, (6, 6), dtype, 0.4) for i, name in enumerate("qkv")}
    return params, normal(4, (7, 6), dtype, scale), normal(5, (7, 6), dtype, scale)


def normalised(x: Any) -> tuple[Any, Any]:
    """The rows with mean 0 and deviation 1, and 1 / deviation."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse = lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + EPSILON)
    return centred * inverse, inverse


def layernorm_loss(x: Any, gain: Any, bias: Any, c: Any) -> Any:
    """Σ c ∘ (gain ∘ normalised(x) + bias)."""
    return jnp.sum(c * (gain[None, :] * normalised(x)[0] + bias[None, :]))


def layernorm_grad(x: Any, gain: Any, bias: Any, c: Any) -> Any:
    """The gradients of `layernorm_loss` in x, gain and bias."""
    del bias
    unit, inverse = normalised(x)
    d = c * gain[None, :]
    along = jnp.mean(d * unit, axis=-1, keepdims=True)
    dx = inverse * (d - jnp.mean(d, axis=-1, keepdims=True) - unit * along)
    return dx, jnp.sum(c * unit, axis=0), jnp.sum(c, axis=0)


def layernorm_args(dtype: str, scale: float = 1.0) -> tuple[Any, ...]:
    """Rows, gain, bias and the cotangent."""
    x, c = normal(1, (5, 8), dtype, scale), normal(4, (5, 8), dtype)
    return x, normal(2, (8,), dtype), normal(3, (8,), dtype), c


def states(params: Any, xs: Any) -> Any:
    """h_t = tanh(x_t u + h_{t−1} w + b) from h_0 = 0, for all t."""

    def step(h: Any, x: Any) -> tuple[Any, Any]:
        h = jnp.tanh(x @ params["u"] + h @ params["w"] + params["b"])
        return h, h

    return lax.scan(step, jnp.zeros_like(params["b"]), xs)[1]


def rnn_loss(params: Any, xs: Any, y: Any) -> Any:
    """½ ‖h_T − y‖² of a recurrent network."""
    e = states(params, xs)[-1] - y
    return 0.5 * jnp.sum(e * e)


def rnn_deltas(params: Any, hs: Any, e: Any) -> Any:
    """The cotangents of the pre-activations, backward through time."""

    def step(carried: Any, h: Any) -> tuple[Any, Any]:
        delta = carried * (1 - h * h)
        return params["w"] @ delta, delta

    return lax.scan(step, e, hs, reverse=True)[1]


def rnn_grad(params: Any, xs: Any, y: Any) -> Any:
    """The gradient of `rnn_loss`."""
    hs = states(params, xs)
    deltas = rnn_deltas(params, hs, hs[-1] - y)
    before = jnp.concatenate([jnp.zeros_like(hs[:1]), hs[:-1]])
    return {"u": xs.T @ deltas, "w": before.T @ deltas, "b": jnp.sum(deltas, axis=0)}


def rnn_args(dtype: str, scale: float = 1.0) -> tuple[Any, ...]:
    """Parameters, a sequence and a target."""
    params = {"u": normal(1, (3, 5), dtype, 0.5 / scale), "w": normal(2, (5, 5), dtype, 0.4)}
    params["b"] = normal(3, (5,), dtype, 0.3)
    return params, normal(4, (9, 3), dtype, scale), normal(5, (5,), dtype)
