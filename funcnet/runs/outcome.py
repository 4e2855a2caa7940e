"""What a trained network makes of examples that it never learned from: counts, shares, and where it fails most."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from funcnet.data import Dataset
from funcnet.runs.model import Model, Predictions, predict


class Outcome(NamedTuple):
    """Examples and what a model says of them.

    Attributes:
        part: The part of the data that the examples are.
        dataset: The examples.
        predictions: What the model says.
    """

    part: str
    dataset: Dataset
    predictions: Predictions


class ClassShares(NamedTuple):
    """How well each class is told from the others; NaN where there is nothing to take a share of.

    Attributes:
        recall: The share of a class's examples that were taken for it.
        precision: The share of those taken for a class that are of it.
    """

    recall: Float[np.ndarray, " k"]
    precision: Float[np.ndarray, " k"]


def outcome(model: Model, parts: dict[str, Dataset]) -> Outcome:
    """Predictions for the test part; without one for the validation part, and without that for the training part."""
    part = next(part for part in ("test", "validation", "train") if part in parts)
    return Outcome(part, parts[part], predict(model, parts[part].x))


def confusion_counts(truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], k: int) -> Int[np.ndarray, "k k"]:
    """How many examples of each class (rows) were taken for which (columns)."""
    counts = np.zeros((k, k), int)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def class_shares(counts: Int[np.ndarray, "k k"]) -> ClassShares:
    """Recall and precision of each class."""
    right = np.diag(counts)
    with np.errstate(invalid="ignore"):  # a class without examples, or that nothing was taken for: 0 / 0
        return ClassShares(right / counts.sum(axis=1), right / counts.sum(axis=0))


def most_wrong(found: Outcome, limit: int) -> Int[np.ndarray, " m"]:
    """The examples that the model is furthest from, the worst first.

    Of classes: those not right, by how far the class predicted is ahead of the true one. Of numbers: all, by the mean
    over the targets of the error in standard deviations of the target.
    """
    labels, values = found.predictions
    y = found.dataset.y
    if labels is None:
        spread = np.std(y, axis=0)
        return _first(-np.mean(np.abs(values - y) / np.where(spread > 0, spread, 1), axis=1), limit)
    wrong = np.flatnonzero(labels != y)
    return wrong[_first(values[wrong, y[wrong]] - values[wrong, labels[wrong]], limit)]


def most_uncertain(found: Outcome, limit: int) -> Int[np.ndarray, " m"]:
    """The examples whose two leading classes are closest together, the closest first."""
    leading = np.partition(found.predictions.values, -2, axis=1)[:, -2:]
    return _first(leading[:, 1] - leading[:, 0], limit)


def leading_inputs(model: Model, train: Dataset, limit: int) -> Int[np.ndarray, " m"]:
    """The features that the first layer weighs most, by the norm of their weights for standardised features."""
    norms = np.linalg.norm(np.asarray(model.params[0].w, np.float64), axis=1)
    return _first(-norms * (np.std(train.x, axis=0, dtype=float) if model.features is None else 1.0), limit)


def _first(order: Float[np.ndarray, " n"], limit: int) -> Int[np.ndarray, " m"]:
    return np.argsort(order, kind="stable")[:limit]
