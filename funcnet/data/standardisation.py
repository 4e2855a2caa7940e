"""Columns brought to mean 0 and standard deviation 1, and back."""

from typing import NamedTuple

import numpy as np
from jaxtyping import DTypeLike, Float


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


def standardise(
    s: Standardisation, values: Float[np.ndarray, "n d"], dtype: DTypeLike = np.float32
) -> Float[np.ndarray, "n d"]:
    """(values - mean) / scale, rounded to a dtype once; the difference is taken in float64."""
    return ((values - s.mean) / s.scale).astype(dtype)


def restore(s: Standardisation, values: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """values · scale + mean in float32: undoes `standardise`."""
    return (values * s.scale + s.mean).astype(np.float32)
