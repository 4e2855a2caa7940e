"""How good predictions are, as sums over examples that batches add up."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from funcnet.network import MLP


class Sums(NamedTuple):
    """Weighted sums over examples.

    Attributes:
        loss: Σ w L, with L the loss of the batch an example was in.
        score: Σ w s, with s the score of an example.
        weight: Σ w.
    """

    loss: Float[Array, ""]
    score: Float[Array, ""]
    weight: Float[Array, ""]


def score_name(net: MLP) -> str:
    """What the score is: the accuracy of a classifier, else the mean absolute error."""
    return "accuracy" if net.loss.logits else "mean_absolute_error"


def scores(net: MLP, outputs: Float[Array, "n k"], y: Shaped[Array, "n ..."]) -> Float[Array, " n"]:
    """The score of each example.

    1 or 0 for the top class right or wrong; the share of right yes-no answers where outputs are yes-no questions; the
    absolute error of the predicted targets, averaged over outputs, for all other losses.
    """
    dtype = outputs.dtype
    if net.loss.targets == "classes":
        labels = y if y.ndim == 1 else jnp.argmax(y, axis=1)
        return (jnp.argmax(outputs, axis=1).astype(jnp.int32) == labels.astype(jnp.int32)).astype(dtype)
    if net.loss.logits:
        return jnp.mean(((outputs > 0) == (y > 0.5)).astype(dtype), axis=1)
    return jnp.mean(jnp.abs(net.loss.inverse_link(outputs) - y), axis=1)
