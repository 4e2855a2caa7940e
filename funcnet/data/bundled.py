"""The data sets that scikit-learn carries, so that they need no network."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Dataset(NamedTuple):
    """Examples to learn from.

    Attributes:
        name: What it is called.
        x: Features.
        y: Integer labels.
        class_names: What label 0, 1, … stands for.
    """

    name: str
    x: Float[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    class_names: tuple[str, ...]


def _digits() -> Dataset:
    """1,797 handwritten digits of 8 x 8 pixels; ink from 0 to 1 (in the file from 0 to 16)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Dataset("digits", (x / 16).astype(np.float32), y.astype(np.int32), tuple("0123456789"))


DATASETS = {"digits": _digits}


def load(name: str) -> Dataset:
    """A bundled data set by name.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).

    >>> from funcnet.data import load
    >>> load("digits").x.shape
    (1797, 64)
    """
    if name not in DATASETS:
        raise ValueError(f"data must be one of {', '.join(DATASETS)}; got {name!r}")
    return DATASETS[name]()
