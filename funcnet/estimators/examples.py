"""Data as an estimator is given it, checked and brought into the form a network takes."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

Role = Literal["new", "more", "held out"]
"""Of data: the first to learn from, more of it, or only evaluated."""


class Data(NamedTuple):
    """Checked data: features, targets as the loss takes them, and a positive weight for each example."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray


def dense(X: Any) -> np.ndarray:
    """A sparse matrix made dense."""
    return X.toarray() if hasattr(X, "toarray") else X


def checked_weights(sample_weight: Any, n: int, dtype: Any) -> np.ndarray:
    """One weight for each example.

    Raises:
        ValueError: If they are not, or one is negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return np.ones(n, dtype)
    weights = np.asarray(sample_weight, dtype)
    if weights.ndim == 0:
        weights = np.full(n, weights)
    if weights.shape != (n,):
        raise ValueError(f"sample_weight must have one weight for each of the {n} examples; got shape {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"sample_weight must be finite and not negative; got {weights.min():g} to {weights.max():g}")
    if not weights.any():
        raise ValueError("sample_weight must not be zero for all examples")
    return weights


def validation_parts(validation_data: Any) -> tuple[Any, Any, Any]:
    """Features, targets and weights of a validation set.

    Raises:
        ValueError: If there are not two or three of them.
    """
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ValueError(f"validation_data must be (X, y) or (X, y, weights); got {type(validation_data).__name__}")
    return validation_data[0], validation_data[1], validation_data[2] if len(validation_data) == 3 else None


def split(data: Data, share: float, random: np.random.RandomState, stratified: bool) -> tuple[Data, Data]:
    """Training data, and a share of it for validation.

    Raises:
        ValueError: If that leaves fewer than 2 examples for validation, or fewer than there are classes.
    """
    least = max(2, len(np.unique(data.y))) if stratified else 2
    if (left := math.ceil(share * len(data.x))) < least:
        raise ValueError(
            f"validation_fraction must leave at least {least} examples for validation; {share} of {len(data.x)} "
            f"leaves {left}"
        )
    parts: Any = train_test_split(*data, random_state=random, test_size=share, stratify=data.y if stratified else None)
    return Data(*parts[::2]), Data(*parts[1::2])
