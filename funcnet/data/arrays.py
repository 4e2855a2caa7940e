"""NumPy's archives of arrays (.npz)."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from funcnet.data.dataset import Table
from funcnet.data.files import existing
from funcnet.data.messages import about, listed

KEYS = {"": "train", "_train": "train", "_validation": "validation", "_val": "validation", "_test": "test"}
"""The end of a key, and the part it belongs to."""


def read_npz(path: str | Path) -> dict[str, Table]:
    """The parts of an archive: of x and y one, else of x_train and y_train, …_validation (or …_val) and …_test.

    Further axes of x are flattened. Whole numbers from 0 to 255 (uint8) are taken for pixels and divided by 255.
    Targets may be left out, for data that is only to be predicted.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If x does not hold real numbers.
        ValueError: If it is no such archive, holds other keys, or its arrays do not fit or are not finite.
    """
    arrays = _arrays(existing(path))
    wanted = {f"{name}{end}" for name in "xy" for end in KEYS}
    ends = [end for end in KEYS if f"x{end}" in arrays]
    parts = [KEYS[end] for end in ends]
    lonely = [key for key in arrays if key.startswith("y") and f"x{key[1:]}" not in arrays]
    if not set(arrays) <= wanted or lonely or "train" not in parts or len(set(parts)) < len(parts):
        expected = "x and y, or x_train, y_train and perhaps x_validation, y_validation, x_test, y_test"
        raise ValueError(f"{path} holds {listed(list(arrays)) or 'nothing'}; expected {expected}")
    tables = {}
    for end, part in zip(ends, parts, strict=True):
        with about(str(path)):
            tables[part] = _table(f"x{end}", arrays[f"x{end}"], f"y{end}", arrays.get(f"y{end}"))
    return tables


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz file: expected an archive of arrays as numpy.savez writes it")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key.lower(): archive[key] for key in archive.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        if "allow_pickle" in str(error):
            raise ValueError(f"{path} holds Python objects, which could run code: expected plain arrays") from None
        raise ValueError(f"{path} is a damaged .npz file: {error}") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError(f"{path} is no .npz file: expected arrays alone; got {listed(list(arrays))}")
    return arrays


def _table(x_name: str, x: np.ndarray, y_name: str, y: np.ndarray | None) -> Table:
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{x_name} must hold real numbers; got dtype {x.dtype}")
    if x.ndim < 2 or not x.size:
        raise ValueError(f"{x_name} must have examples along its first axis and features along others; got {x.shape}")
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x) or not y.size):
        raise ValueError(f"{y_name} must have a row for each of {len(x)} examples of {x_name}; got shape {y.shape}")
    if y is not None and y.dtype.kind not in "biufSU":
        raise TypeError(f"{y_name} must hold labels or real numbers; got dtype {y.dtype}")
    scaled = x.dtype == np.uint8
    with np.errstate(over="ignore"):
        features = x.astype(np.float32) / np.float32(255) if scaled else x.astype(np.float32)
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        place = [int(i) for i in bad[0]]
        raise ValueError(f"{x_name} must hold numbers that float32 can hold; got {x[tuple(place)]} at {place}")
    return Table(features.reshape(len(x), -1), y, (), (), np.arange(len(x)), scaled)
