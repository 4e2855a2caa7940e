"""A folder of NumPy's files (.npy), one for each array: what unpacking an .npz file gives, of any size."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from funcnet.data.arrays import check_part, part_names, table_of
from funcnet.data.dataset import Table
from funcnet.data.messages import listed
from funcnet.data.npy import NpyFeatures, open_npy

RUNS, SAMPLE = 100, 10_000
"""A sample is so many rows, in so many runs of consecutive ones."""


class Unread(NamedTuple):
    """A training part whose features stay in their file.

    Attributes:
        x: The features.
        y: Targets as they stand.
        sample: The numbers of some rows, spread evenly.
    """

    x: NpyFeatures
    y: np.ndarray
    sample: Int[np.ndarray, " m"]


def read_npy_folder(path: str | Path, alone: bool = False) -> dict[str, Table]:
    """The parts in a folder: x.npy and y.npy, else x_train.npy, y_train.npy, …_validation (or …_val) and …_test.

    Names and contents are those of `read_npz`, and so is `alone`.

    Raises:
        TypeError: If x does not hold real numbers.
        ValueError: If the folder holds other .npy files, one of them is damaged, or they do not fit.
        OSError: If one cannot be read.
    """
    return {part: _read(*names) for part, names in _parts(Path(path), alone).items()}


def open_npy_folder(path: str | Path) -> tuple[dict[str, Table], Unread]:
    """The parts in a folder as `read_npy_folder` gives them, with a sample in the place of the training part; and that.

    Raises:
        TypeError: As of `read_npy_folder`, and so are the other errors.
        ValueError: If there are no targets.
    """
    parts = _parts(Path(path), alone=False)
    x_path, y_path = parts["train"]
    if y_path is None:
        raise ValueError(f"{path} has no y{x_path.stem[1:]}.npy beside {x_path.name}")
    file, y = open_npy(x_path), open_npy(y_path, "biufSU")[:]
    check_part(str(x_path), file, str(y_path), y)
    x = NpyFeatures(file)
    starts = np.linspace(0, max(len(x) - SAMPLE // RUNS, 0), RUNS).astype(int)
    sample = np.unique(np.concatenate([np.arange(start, min(start + SAMPLE // RUNS, len(x))) for start in starts]))
    cuts = np.flatnonzero(np.diff(sample) > 1) + 1
    some = np.concatenate([x[run[0] : run[-1] + 1] for run in np.split(sample, cuts)])
    tables = {part: _read(*names) for part, names in parts.items() if part != "train"}
    return {"train": Table(some, y[sample], (), (), sample, x.scaled), **tables}, Unread(x, y, sample)


def _parts(path: Path, alone: bool) -> dict[str, tuple[Path, Path | None]]:
    """The files of features and targets of each part."""
    files = {file.stem.lower(): file for file in sorted(path.glob("*.npy"))}
    if not files:
        held = listed(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise ValueError(f"{path} is a folder without .npy files; it holds {held}")
    return {part: (files[f"x{end}"], files.get(f"y{end}")) for end, part in part_names(path, files, alone).items()}


def _read(x_path: Path, y_path: Path | None) -> Table:
    y = None if y_path is None else open_npy(y_path, "biufSU")[:]
    return table_of(str(x_path), open_npy(x_path)[:], str(y_path), y)
