"""Losses with their gradient, Hessian action and Hessian factor in closed form.

Each gives one value for each example, summed over outputs; it never averages over examples and never weights them.
With z the outputs, r = z − y, and p the softmax of z:

| loss | ℓ | y |
| --- | --- | --- |
| `half_squared_error` | ½ ‖r‖² | real, in the shape of z |
| `absolute_error` | Σ abs(r) | real, in the shape of z |
| `huber(delta)` | Σ ½ r² where abs(r) ≤ δ, else δ (abs(r) − ½ δ) | real, in the shape of z |
| `poisson` | Σ e^z − y z, z the logarithm of the rate | counts ≥ 0, in the shape of z |
| `sigmoid_cross_entropy` | −Σ y log σ(z) + (1 − y) log σ(−z) | in [0, 1], in the shape of z |
| `softmax_cross_entropy` | −Σ y log p | integer labels (n,), or weights of classes in the shape of z |
| `softmax_cross_entropy_chunked(chunk_size)` | the same; `value_and_grad` never stores z | as above |
| `label_smoothed(epsilon)` | the same at (1 − ε) y + ε/k | integer labels (n,), or weights of classes |
"""

from collections.abc import Callable

from funcnet.losses.chunked import CHUNK as CHUNK
from funcnet.losses.chunked import chunk_of as chunk_of
from funcnet.losses.chunked import softmax_cross_entropy_chunked
from funcnet.losses.cross_entropy import label_smoothed, sigmoid_cross_entropy, softmax_cross_entropy
from funcnet.losses.loss import Loss as Loss
from funcnet.losses.loss import diagonal as diagonal
from funcnet.losses.regression import absolute_error, half_squared_error, huber, poisson

LOSSES: dict[str, Callable[..., Loss]] = {
    "half_squared_error": lambda: half_squared_error,
    "absolute_error": lambda: absolute_error,
    "huber": huber,
    "poisson": lambda: poisson,
    "sigmoid_cross_entropy": lambda: sigmoid_cross_entropy,
    "softmax_cross_entropy": lambda: softmax_cross_entropy,
    "softmax_cross_entropy_chunked": softmax_cross_entropy_chunked,
    "label_smoothed": label_smoothed,
}


def by_name(text: str) -> Loss:
    """The loss of that name, for command lines and files: "poisson", "huber" (of δ = 1) or "huber(0.5)".

    Raises:
        ValueError: If there is none of that name (the message lists those there are), or its constants are wrong.
    """
    name, bracket, constants = text.partition("(") if isinstance(text, str) else ("", "", "")
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {text!r}")
    if not bracket:
        return LOSSES[name]()
    try:
        return LOSSES[name](*(float(constant) for constant in constants.removesuffix(")").split(",")))
    except TypeError:
        raise ValueError(f"loss {name} takes no such constants; got {text!r}") from None
    except ValueError as error:
        raise ValueError(f"loss {text!r}: {error}") from None
