"""What readers give: examples with labels or numbers to predict, and the names that go with them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Dataset(NamedTuple):
    """Examples to learn from.

    Attributes:
        name: What it is called.
        x: Features, float32.
        y: Labels (int32), or numbers to predict (float32).
        class_names: What label 0, 1, … stands for; empty where y holds numbers.
        feature_names: One for each column of x; empty where the source names none.
        target_names: One for each target column; empty where the source names none.
        scaled: Whether all features share one meaningful scale, as ink from 0 to 1 does.
    """

    name: str
    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"] | Float[np.ndarray, "n k"]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] = ()
    target_names: tuple[str, ...] = ()
    scaled: bool = False


class Table(NamedTuple):
    """What a source holds before its targets are encoded.

    Attributes:
        x: Features, float32.
        y: Targets as they stand: text, whole numbers, numbers; None where there are none.
        feature_names: As of a `Dataset`.
        target_names: As of a `Dataset`.
        rows: What messages call each row: its line in a file, from 1, or its place in an array, from 0.
        scaled: As of a `Dataset`.
    """

    x: Float[np.ndarray, "n d"]
    y: np.ndarray | None
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    rows: Int[np.ndarray, " n"]
    scaled: bool


class Schema(NamedTuple):
    """What further data must be like to fit a dataset; small enough to be kept beside a trained network."""

    n_features: int
    n_targets: int
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    scaled: bool


def take(dataset: Dataset, rows: Int[np.ndarray, " m"]) -> Dataset:
    """The examples of some rows, in that order."""
    return dataset._replace(x=dataset.x[rows], y=dataset.y[rows])


def schema(dataset: Dataset) -> Schema:
    """What further data must be like to fit this dataset."""
    return Schema(
        dataset.x.shape[1],
        n_targets(dataset.y),
        dataset.class_names,
        dataset.feature_names,
        dataset.target_names,
        dataset.scaled,
    )


def unencoded(dataset: Dataset) -> Table:
    """A dataset as if just read: labels are the names of their classes again."""
    y = np.array(dataset.class_names)[dataset.y] if dataset.class_names else dataset.y
    return Table(dataset.x, y, dataset.feature_names, dataset.target_names, np.arange(len(y)), dataset.scaled)


def n_targets(y: np.ndarray) -> int:
    """How many targets each example has."""
    return 1 if y.ndim == 1 else y.shape[1]
