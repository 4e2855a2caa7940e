"""Training, validation and test parts: of labels with the same share of each class, of numbers by plain shuffle."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from funcnet.data.dataset import Dataset, take


class Parts(NamedTuple):
    """The rows of each part; every row is in exactly one."""

    train: Int[np.ndarray, " a"]
    validation: Int[np.ndarray, " b"]
    test: Int[np.ndarray, " c"]


def stratified(
    y: Int[np.ndarray, " n"],
    seed: int,
    validation: float = 0.15,
    test: float = 0.2,
    class_names: tuple[str, ...] = (),
) -> Parts:
    """Split by scikit-learn's stratified shuffle; the same seed gives the same parts.

    Args:
        y: Integer labels.
        seed: What the shuffle depends on.
        validation: The share of all rows in the validation part; 0 leaves it empty.
        test: The share of all rows in the test part; 0 leaves it empty.
        class_names: What messages call label 0, 1, …; by default the label itself.

    Raises:
        ValueError: If the shares leave no training part, or a class has too few rows for every part.
    """
    _check_shares(validation, test)
    labels, counts = np.unique(y, return_counts=True)
    if counts.min() < _n_parts(validation, test):
        raise ValueError(_too_few(y, int(labels[counts.argmin()]), validation, test, class_names))
    return _cut(len(y), seed, validation, test, y, class_names)


def shuffled(n: int, seed: int, validation: float = 0.15, test: float = 0.2) -> Parts:
    """Split n rows by a plain shuffle; the same seed gives the same parts, and a share of 0 an empty one.

    Raises:
        ValueError: If the shares leave no training part, or there are too few rows for every part.
    """
    _check_shares(validation, test)
    return _cut(n, seed, validation, test)


def split(sets: dict[str, Dataset], seed: int, validation: float = 0.15, test: float = 0.2) -> dict[str, Dataset]:
    """The parts "train", "validation" and "test" of a source, cut off its training part where it has none.

    Args:
        sets: The parts that the source has; "train" must be among them.
        seed: What the shuffle depends on.
        validation: The share of the training part to cut off for validation if the source has no such part; 0 for
            none.
        test: The same for the test part.

    Raises:
        ValueError: If the shares leave no training part, or there are too few rows for every part, overall or of a
            class.
    """
    whole = sets["train"]
    shares = (0.0 if "validation" in sets else validation, 0.0 if "test" in sets else test)
    if whole.class_names:
        rows = stratified(whole.y, seed, *shares, class_names=whole.class_names)
    else:
        rows = shuffled(len(whole.y), seed, *shares)
    cut = {part: take(whole, places) for part, places in rows._asdict().items() if len(places)}
    return {part: cut[part] if part in cut else sets[part] for part in Parts._fields if part in cut or part in sets}


def _check_shares(validation: float, test: float) -> None:
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f"validation and test must be shares from 0, of sum below 1; got {validation} and {test}")


def _cut(
    n: int,
    seed: int,
    validation: float,
    test: float,
    y: np.ndarray | None = None,
    class_names: tuple[str, ...] = (),
) -> Parts:
    """Cut off the test part, then from the rest the validation part; without labels all rows are of one class."""
    from sklearn.model_selection import train_test_split

    labels = np.zeros(n, np.int32) if y is None else y

    def halves(rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        if share == 0:
            return rows, rows[:0]
        present, counts = np.unique(labels[rows], return_counts=True)
        held = math.ceil(share * len(rows))
        if min(held, len(rows) - held) < len(present):
            kinds = "" if y is None else f" of {len(present)} classes"
            raise ValueError(f"{n} rows{kinds} are too few for shares of {validation} and {test}")
        if counts.min() < 2:
            raise ValueError(_too_few(labels, int(present[counts.argmin()]), validation, test, class_names))
        strata = None if y is None else y[rows]
        left, right = train_test_split(rows, test_size=share, stratify=strata, random_state=seed)
        return np.asarray(left), np.asarray(right)

    rest, test_rows = halves(np.arange(n), test)
    train, validation_rows = halves(rest, validation / (1 - test))
    lost = np.setdiff1d(labels, labels[train])
    if len(lost):
        raise ValueError(_too_few(labels, int(lost[0]), validation, test, class_names))
    return Parts(train, validation_rows, test_rows)


def _n_parts(validation: float, test: float) -> int:
    return 1 + (validation > 0) + (test > 0)


def _too_few(y: np.ndarray, label: int, validation: float, test: float, class_names: tuple[str, ...]) -> str:
    count = int(np.sum(y == label))
    name = class_names[label] if class_names else str(label)
    parts = _n_parts(validation, test)
    needed = f"{parts} parts need at least {max(parts, count + 1)} of each class"
    hint = "a share of 0 does without a part"
    if not class_names or all(name.lstrip("-").isdecimal() for name in class_names):
        hint += "; numbers to predict are asked for by the task regression"
    return f"class {name!r} has {count} {'row' if count == 1 else 'rows'}; {needed} ({hint})"
