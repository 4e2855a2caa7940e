"""Columns brought to mean 0 and standard deviation 1, and back."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import DTypeLike, Float, Int

from funcnet.data.npy import NpyFeatures

AT_ONCE = 2**22
"""So many numbers of a file are read at once."""


class Standardisation(NamedTuple):
    """Mean and standard deviation of each column, in float64; the scale of a constant column is 1."""

    mean: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]


def fit_standardisation(
    values: Float[np.ndarray, "n d"], weights: Float[np.ndarray, " n"] | None = None
) -> Standardisation:
    """Mean and standard deviation by scikit-learn's StandardScaler, which knows what is constant but for rounding.

    Args:
        values: Rows of the training part alone, so that nothing of the other parts is seen.
        weights: What each row counts.

    Raises:
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values.astype(np.float64), sample_weight=weights)
    return Standardisation(np.asarray(scaler.mean_), np.asarray(scaler.scale_))


class Moments(NamedTuple):
    """Of each column of some rows: the mean, and Σ (x − mean)²."""

    mean: Float[np.ndarray, " d"]
    squares: Float[np.ndarray, " d"]


def chunks_of(values: NpyFeatures) -> list[slice]:
    """The rows of a file, as many at a time as are read at once."""
    at_once = max(AT_ONCE // values.shape[1], 1)
    return [slice(start, min(start + at_once, len(values))) for start in range(0, len(values), at_once)]


def moments(values: Float[np.ndarray, "n d"]) -> Moments:
    """Those of some rows, in float64."""
    rows = values.astype(np.float64)
    mean = np.mean(rows, axis=0)
    return Moments(mean, np.sum(np.square(rows - mean), axis=0))


def standardisation_of_moments(
    counts: Int[np.ndarray, " c"], means: Float[np.ndarray, "c d"], squares: Float[np.ndarray, "c d"]
) -> Standardisation:
    """Mean and standard deviation of all rows from the moments of chunks of them.

    Σ (x − mean)² = Σ_c squares_c + n_c (mean_c − mean)². What varies by no more than the rounding of so many sums is
    constant, as in scikit-learn.

    Args:
        counts: The rows of each chunk.
        means: Their means.
        squares: Their Σ (x − mean)².

    References:
        Chan, Golub, LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.
    """
    n, rows = counts.sum(), counts[:, None]
    mean = np.sum(rows * means, axis=0) / n
    variance = np.sum(squares + rows * np.square(means - mean), axis=0) / n
    eps = np.finfo(np.float64).eps
    constant = variance <= n * eps * variance + np.square(n * mean * eps)
    return Standardisation(mean, np.where(constant, 1.0, np.sqrt(variance)))


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
