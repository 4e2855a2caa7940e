"""Columns brought to mean 0 and standard deviation 1, and back."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import DTypeLike, Float

from funcnet.data.npy import NpyFeatures

AT_ONCE = 2**22
"""So many numbers of a file are read at once."""


class Standardisation(NamedTuple):
    """Mean and standard deviation of each column, in float64; the scale of a constant column is 1."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]


def fit_standardisation(
    values: Float[np.ndarray, "n d"] | NpyFeatures, weights: Float[np.ndarray, " n"] | None = None
) -> Standardisation:
    """Mean and standard deviation by scikit-learn's StandardScaler, which knows what is constant but for rounding.

    Args:
        values: Rows of the training part alone, so that nothing of the other parts is seen; those in a file are read
            some at a time.
        weights: What each row counts.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    n, at_once = len(values), len(values) if isinstance(values, np.ndarray) else max(AT_ONCE // values.shape[1], 1)
    for start in range(0, n, at_once):
        some = slice(start, start + at_once)
        own = None if weights is None else weights[some]
        if own is None or own.any():  # scikit-learn refuses weights that are all 0
            scaler.partial_fit(values[some].astype(np.float64), sample_weight=own)
    return Standardisation(np.asarray(scaler.mean_), np.asarray(scaler.scale_))


def standardise(
    s: Standardisation, values: Float[np.ndarray, "n d"], dtype: DTypeLike = np.float32
) -> Float[np.ndarray, "n d"]:
    """(values - mean) / scale, rounded to a dtype once; the difference is taken in float64."""
    return ((values - s.mean) / s.scale).astype(dtype)


def restore(s: Standardisation, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """values · scale + mean in float32: undoes `standardise`."""
    return (values * s.scale + s.mean).astype(np.float32)


@dataclass(frozen=True)
class StandardisedRows:
    """Features in a file, standardised when they are read.

    Attributes:
        rows: The features.
        by: Mean and scale.
    """

    rows: NpyFeatures
    by: Standardisation

    @property
    def shape(self) -> tuple[int, int]:
        """Examples, features."""
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype:
        """float32."""
        return self.rows.dtype

    def __getitem__(self, rows: slice) -> Float[np.ndarray, "n d"]:
        """The features of some examples."""
        return standardise(self.by, self.rows[rows])
