"""The softmax cross-entropy of so many classes that `funcnet.value_and_grad` takes them a chunk at a time."""

from dataclasses import replace

from funcnet.losses.cross_entropy import softmax_cross_entropy
from funcnet.losses.loss import Loss

CHUNK = 1024
"""So many classes at a time, where no other number is wished."""
NAME = "softmax_cross_entropy_chunked"


def softmax_cross_entropy_chunked(chunk_size: int | float = CHUNK) -> Loss:
    """`softmax_cross_entropy`, equal in everything; `funcnet.value_and_grad` never stores its logits.

    There the last layer and the loss of integer labels are computed so many classes at a time, with the logits twice:
    memory is that of n × chunk_size logits and not of n × k. All else takes the plain form, which stores them: targets
    in the shape of the outputs, `loss`, `apply`, `per_example_losses`, `closed_form_loss`, the quantities of single
    examples, and the steps of `fit`, which score the outputs. Outside of networks it is `linear_cross_entropy`.

    Args:
        chunk_size: So many classes at a time, a whole number; more than there are means all.

    Raises:
        TypeError: If chunk_size is no number.
        ValueError: If chunk_size is no whole number of at least 1.

    References:
        Wijmans et al. 2024, Cut your losses in large-vocabulary language models.

    >>> import jax, jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 50), activation=fn.tanh, loss=fn.softmax_cross_entropy_chunked(16))
    >>> params = fn.init(jax.random.key(0), net)
    >>> value, grads = jax.jit(fn.value_and_grad)(net, params, jnp.ones((5, 3)), jnp.array([0, 49, 7, 7, 31]))
    >>> grads[1].w.shape
    (4, 50)
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int | float):
        raise TypeError(f"chunk_size must be a whole number; got {chunk_size!r}")
    if not (chunk_size >= 1 and float(chunk_size).is_integer()):
        raise ValueError(f"chunk_size must be a whole number of at least 1; got {chunk_size}")
    return replace(softmax_cross_entropy, name=NAME, constants=(float(chunk_size),))


def chunk_of(loss: Loss) -> int | None:
    """The chunk size where it is that loss, whose functions nobody has changed; else None."""
    if loss.name != NAME or len(loss.constants) != 1:
        return None
    chunk_size = int(loss.constants[0])
    return chunk_size if loss == softmax_cross_entropy_chunked(chunk_size) else None
