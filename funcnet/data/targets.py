"""Targets as they stand in a source, encoded as labels or as numbers to predict."""

import re
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from funcnet.data.messages import listed

Task = Literal["auto", "classification", "regression"]
TASKS = ("auto", "classification", "regression")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)


def encode(
    raw: np.ndarray, task: Task = "auto", rows: Int[np.ndarray, " n"] | None = None
) -> tuple[Int[np.ndarray, " n"] | Float[np.ndarray, "n k"], tuple[str, ...]]:
    """Targets to learn from, as labels with their class names, or as numbers with none.

    Class names are sorted, as numbers if all are numbers, else as text. A whole number has one name however it is
    written: 3, 03 and 3.0 are one class.

    Args:
        raw: Targets as they stand in the source.
        task: Whether they name classes or are numbers to predict. By "auto", text, truth values and whole numbers
            written without a point are classes; numbers with a point and several columns are numbers to predict.
        rows: What messages call each row; by default 0, 1, ….

    Returns:
        Labels (n,) in int32 and their class names, or numbers (n, k) in float32 and ().

    Raises:
        TypeError: If the targets are neither text nor real numbers.
        ValueError: If they do not fit the task, leave it open, or are all the same.
    """
    if task not in TASKS:
        raise ValueError(f"task must be {', '.join(TASKS[:-1])} or {TASKS[-1]}; got {task!r}")
    raw = _plain(raw)
    if (_guess(raw, rows) if task == "auto" else task) == "classification":
        names = _class_names(raw, rows)
        if len(names) == 1:
            raise ValueError(f"y must hold at least 2 classes to learn from; got only {names[0]!r}")
        return encode_as(raw, names, rows), names
    numbers = _numbers(raw, rows)
    constant = np.flatnonzero((numbers == numbers[:1]).all(axis=0))
    if len(constant):
        k = int(constant[0])
        raise ValueError(f"y must hold different numbers to learn from; target {k + 1} is always {numbers[0, k]:g}")
    return numbers, ()


def encode_as(
    raw: np.ndarray, class_names: tuple[str, ...], rows: Int[np.ndarray, " n"] | None = None, unknown: bool = False
) -> Int[np.ndarray, " n"] | Float[np.ndarray, "n k"]:
    """Further targets, encoded as those of the training part were.

    Args:
        raw: Targets as they stand in the source.
        class_names: Those of the training part; empty for numbers to predict.
        rows: What messages call each row; by default 0, 1, ….
        unknown: Whether what cannot be encoded becomes -1, among numbers NaN, instead of being refused.

    Raises:
        TypeError: If the targets are neither text nor real numbers.
        ValueError: If a label is not among the class names, or a number is not one; the message names the row.
    """
    raw = _plain(raw)
    if not class_names:
        return _numbers(raw, rows, unknown)
    if raw.ndim != 1:
        raise ValueError(f"y must be one column of labels to tell classes; got shape {raw.shape}")
    values, places = np.unique(raw, return_inverse=True)
    codes = {name: code for code, name in enumerate(class_names)}
    y = np.array([codes.get(_name(value), -1) for value in values], np.int32)[places]
    if (y < 0).any() and not unknown:
        i = int(np.argmax(y < 0))
        known = f"the classes of the training part: {listed(class_names)}"
        raise ValueError(f"label {_name(raw[i])!r} in row {_row(rows, i)} is not among {known}")
    return y


def _plain(raw: np.ndarray) -> np.ndarray:
    """Text or real numbers; a single column as a vector."""
    if raw.dtype.kind == "S":
        raw = np.char.decode(raw, "utf-8", "replace")
    elif raw.dtype.kind == "O":
        raw = np.array([str(value) for value in raw.ravel()]).reshape(raw.shape)
    if raw.dtype.kind not in "biufU":
        raise TypeError(f"y must hold labels or real numbers; got dtype {raw.dtype}")
    if raw.ndim not in (1, 2) or not raw.size:
        raise ValueError(f"y must have a row for each example; got shape {raw.shape}")
    raw = raw[:, 0] if raw.ndim == 2 and raw.shape[1] == 1 else raw
    return np.char.strip(raw) if raw.dtype.kind == "U" else raw


def _guess(raw: np.ndarray, rows: np.ndarray | None) -> Task:
    if raw.ndim == 2 or raw.dtype.kind == "f":
        return "regression"
    if raw.dtype.kind != "U":
        return "classification"
    values = np.unique(raw).tolist()
    text = [value for value in values if not NUMBER.fullmatch(value)]
    with_point = [value for value in values if NUMBER.fullmatch(value) and not value.lstrip("+-").isdecimal()]
    if text and with_point:
        place = _row(rows, int(np.argmax(raw == text[0])))
        mixture = f"numbers such as {with_point[0]} with text such as {text[0]!r} (row {place})"
        raise ValueError(f"y mixes {mixture}; ask for task classification or regression")
    return "regression" if with_point else "classification"


def _class_names(raw: np.ndarray, rows: np.ndarray | None) -> tuple[str, ...]:
    if raw.ndim != 1:
        raise ValueError(f"y must be one column of labels for classification; got shape {raw.shape}")
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        i = int(np.argmin(np.isfinite(raw)))
        raise ValueError(f"y must be finite; got {raw[i]} in row {_row(rows, i)}")
    names = {_name(value) for value in np.unique(raw)}
    if all(NUMBER.fullmatch(name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _name(value: Any) -> str:
    """The one name of a label, so that 3, 3.0 and "03" are the same class in every kind of source."""
    text = str(value)
    return str(int(text.partition(".")[0])) if WHOLE.fullmatch(text) else text


def _numbers(raw: np.ndarray, rows: np.ndarray | None, unknown: bool = False) -> Float[np.ndarray, "n k"]:
    if raw.dtype.kind == "U":
        values = [float(text) if NUMBER.fullmatch(text) else np.nan for text in raw.ravel().tolist()]
        numbers = np.array(values).reshape(raw.shape)
    else:
        numbers = raw
    with np.errstate(over="ignore"):
        y = numbers.astype(np.float32).reshape(len(raw), -1)
    bad = np.argwhere(~np.isfinite(y))
    if len(bad) and not unknown:
        i, k = (int(place) for place in bad[0])
        got = raw.reshape(len(raw), -1)[i, k].item()
        raise ValueError(f"y must hold numbers that float32 can hold; got {got!r} in row {_row(rows, i)}")
    y[tuple(bad.T)] = np.nan
    return y


def _row(rows: np.ndarray | None, i: int) -> int:
    return i if rows is None else int(rows[i])
