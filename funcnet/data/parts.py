"""Training, validation and test parts with the same share of each class."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Parts(NamedTuple):
    """The rows of each part; every row is in exactly one."""

    train: Int[np.ndarray, " a"]
    validation: Int[np.ndarray, " b"]
    test: Int[np.ndarray, " c"]


def stratified(y: Int[np.ndarray, " n"], seed: int, validation: float = 0.15, test: float = 0.2) -> Parts:
    """Split by scikit-learn's stratified shuffle; the same seed gives the same parts.

    Args:
        y: Integer labels.
        seed: What the shuffle depends on.
        validation: The share of all rows in the validation part.
        test: The share of all rows in the test part.

    Raises:
        ValueError: If the shares leave no training part, or a class has too few rows for every part.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(f"validation and test must be positive shares of sum below 1; got {validation} and {test}")
    from sklearn.model_selection import train_test_split

    rest, test_rows = train_test_split(np.arange(len(y)), test_size=test, stratify=y, random_state=seed)
    train, validation_rows = train_test_split(
        rest, test_size=validation / (1 - test), stratify=y[rest], random_state=seed
    )
    return Parts(*(np.asarray(rows) for rows in (train, validation_rows, test_rows)))
