"""NumPy's archives of arrays (.npz)."""

import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from funcnet.data.dataset import Table
from funcnet.data.files import existing
from funcnet.data.messages import about, listed
from funcnet.data.npy import MAGIC, in_float32, read_header

KEYS = {"": "train", "_train": "train", "_validation": "validation", "_val": "validation", "_test": "test"}
"""The end of a key, and the part it belongs to."""
DAMAGE = (ValueError, TypeError, OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, tokenize.TokenError)
"""What `zipfile` and NumPy answer to archives that are no longer what was written."""
RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""The ways of compression that NumPy uses, and how many bytes one can become."""


def read_npz(path: str | Path, alone: bool = False) -> dict[str, Table]:
    """The parts of an archive: of x and y one, else of x_train and y_train, …_validation (or …_val) and …_test.

    Further axes of x are flattened. Whole numbers from 0 to 255 (uint8) are taken for pixels and divided by 255.
    Targets may be left out, for data that is only to be predicted.

    Args:
        path: The archive.
        alone: Whether other parts may stand without one for training.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If x does not hold real numbers.
        ValueError: If it is no such archive, holds other keys, or its arrays do not fit or are not finite.
    """
    arrays = _arrays(existing(path))
    tables = {}
    for end, part in part_names(path, arrays, alone).items():
        with about(str(path)):
            tables[part] = table_of(f"x{end}", arrays[f"x{end}"], f"y{end}", arrays.get(f"y{end}"))
    return tables


def part_names(path: str | Path, names: Collection[str], alone: bool) -> dict[str, str]:
    """The parts that the names of arrays stand for, by the ends of their names.

    Raises:
        ValueError: If there are other names or none, or no training part where others may not stand `alone`.
    """
    wanted = {f"{name}{end}" for name in "xy" for end in KEYS}
    found = {end: part for end, part in KEYS.items() if f"x{end}" in names}
    parts = list(found.values())
    lonely = [name for name in names if name.startswith("y") and f"x{name[1:]}" not in names]
    missing = not parts if alone else "train" not in parts
    if not set(names) <= wanted or lonely or missing or len(set(parts)) < len(parts):
        expected = "x and y, or x_train, y_train and perhaps x_validation, y_validation, x_test, y_test"
        raise ValueError(f"{path} holds {listed(list(names)) or 'nothing'}; expected {expected}")
    return found


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb"):  # for Python's own words where it may not be read
        pass
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file: expected an archive of arrays as numpy.savez writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {each.filename.removesuffix(".npy").lower(): each for each in archive.infolist()}
            found = {key: _array(archive, member, path.stat().st_size) for key, member in members.items()}
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds Python objects, which could run code: expected plain arrays") from None
        raise ValueError(f"{path} is a damaged .npz file: {error}") from None
    arrays = {key: array for key, array in found.items() if array is not None}
    if len(arrays) < len(found):
        raise ValueError(f"{path} is no .npz file: expected arrays alone; got {listed(list(found))}")
    return arrays


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> np.ndarray | None:
    """One array of an archive of so many bytes; None if it is something else.

    Raises:
        ValueError: If it is not of the size that its header says: NumPy makes room for that, and reads no more.
    """
    with archive.open(member) as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        stream.seek(0)
        if member.compress_type not in RATIOS:
            raise ValueError(f"{member.filename} is of a kind that NumPy does not write for arrays of numbers or text")
        with about(member.filename):
            shape, _, dtype = read_header(stream)
        expected = stream.tell() + math.prod(shape) * dtype.itemsize
        held = min(member.file_size, RATIOS[member.compress_type] * min(member.compress_size, most))
        if not dtype.hasobject and not expected == member.file_size == held:
            raise ValueError(f"{member.filename} should have {expected:,} bytes; it has {held:,}")
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def table_of(x_name: str, x: np.ndarray, y_name: str, y: np.ndarray | None) -> Table:
    """Features and targets of a part, checked.

    Raises:
        TypeError: If they are of another kind.
        ValueError: If they do not fit, or are not finite.
    """
    check_part(x_name, x, y_name, y)
    scaled = x.dtype == np.uint8
    return Table(in_float32(x_name, x).reshape(len(x), -1), y, (), (), np.arange(len(x)), scaled)


def check_part(x_name: str, x: Any, y_name: str, y: np.ndarray | None) -> None:
    """Refuse features and targets that do not fit, by their shapes and dtypes.

    Raises:
        TypeError: If a dtype is none for them.
        ValueError: If a shape is none for them.
    """
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{x_name} must hold real numbers; got dtype {x.dtype}")
    if len(x.shape) < 2 or not math.prod(x.shape):
        raise ValueError(f"{x_name} must have examples along its first axis and features along others; got {x.shape}")
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x) or not y.size):
        raise ValueError(f"{y_name} must have a row for each of {len(x)} examples of {x_name}; got shape {y.shape}")
    if y is not None and y.dtype.kind not in "biufSU":
        raise TypeError(f"{y_name} must hold labels or real numbers; got dtype {y.dtype}")
