"""How good predictions are, as sums over examples that batches add up."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from funcnet.network import MLP
from funcnet.types import AnyArray

Task = Literal["classification", "questions", "regression"]
"""What predictions are measured by: the share of examples whose top class is right, the share of yes-no questions
answered right, or distances from the targets."""


class Sums(NamedTuple):
    """Weighted sums over examples.

    Attributes:
        loss: Σ w L, with L the loss of the batch an example was in.
        scores: Σ w s for each of the columns of `scores`.
        weight: Σ w.
    """

    loss: Float[AnyArray, "..."]
    scores: Float[AnyArray, "... m"]
    weight: Float[AnyArray, "..."]


def added(one: Sums, other: Sums) -> Sums:
    """The sums of both, in float64."""
    return Sums(*(np.asarray(a, np.float64) + np.asarray(b, np.float64) for a, b in zip(one, other, strict=True)))


def task_of(net: MLP) -> Task:
    """What a network is for, as far as its loss tells."""
    if not net.loss.logits:
        return "regression"
    return "classification" if net.loss.targets == "classes" else "questions"


def metric_names(task: Task) -> tuple[str, ...]:
    """What is measured besides the loss, the one to look at first."""
    return ("r2", "mean_absolute_error") if task == "regression" else ("accuracy",)


def scores(net: MLP, outputs: Float[Array, "n k"], y: Shaped[Array, "n ..."], task: Task) -> Float[Array, "n m"]:
    """What is summed up for each example: one column, or for regression 2 k.

    Classification: 1 or 0 for the top class right or wrong. Questions: the share of right answers. Regression: |ŷ − y|
    of each output, then (ŷ − y)² of each.
    """
    if task == "regression":
        error = net.loss.inverse_link(outputs) - y
        return jnp.concatenate([jnp.abs(error), jnp.square(error)], axis=1)
    if task == "questions":
        return jnp.mean(((outputs > 0) == (y > 0.5)).astype(outputs.dtype), axis=1, keepdims=True)
    labels = y if y.ndim == 1 else jnp.argmax(y, axis=1)
    right = jnp.argmax(outputs, axis=1).astype(jnp.int32) == labels.astype(jnp.int32)
    return right[:, None].astype(outputs.dtype)


def variation(y: Shaped[AnyArray, "n ..."], weights: Float[AnyArray, " n"]) -> Float[np.ndarray, " k"] | None:
    """Σ w (y − ȳ)² of each target, what R² compares squared errors with; None for labels."""
    if y.ndim == 1:
        return None
    rows, w = np.asarray(y, np.float64), np.asarray(weights, np.float64)[:, None]
    with np.errstate(over="ignore"):  # of targets around 1e154
        return np.sum(w * np.square(rows - np.sum(w * rows, axis=0) / np.sum(w)), axis=0)


def means(task: Task, part: str, sums: Sums, varied: Float[np.ndarray, " k"] | None) -> dict[str, float]:
    """The metrics of a part of the data by name, `part` in front.

    R² = 1 − Σ w (ŷ − y)² / Σ w (y − ȳ)², averaged over outputs; where a target does not vary it is 1 if predicted
    exactly, else 0, as in scikit-learn.
    """
    weight, totals = float(sums.weight) or np.nan, np.asarray(sums.scores, np.float64)
    metrics = {f"{part}_loss": float(sums.loss) / weight}
    if task != "regression":
        return metrics | {f"{part}_accuracy": float(totals[0]) / weight}
    absolute, squared = np.split(totals, 2)
    varied = np.zeros_like(squared) if varied is None else varied
    with np.errstate(invalid="ignore"):  # where both overflow
        r2 = np.where(varied > 0, 1 - squared / np.where(varied > 0, varied, 1), np.where(squared == 0, 1.0, 0.0))
    metrics[f"{part}_r2"] = float(np.mean(r2))
    metrics[f"{part}_mean_absolute_error"] = float(np.mean(absolute)) / weight
    return metrics
