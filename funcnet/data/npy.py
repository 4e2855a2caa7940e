"""NumPy's files of one array (.npy), read a slice at a time: for data larger than memory."""

import math
import os
import tokenize
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from funcnet.data.files import existing

MAGIC = b"\x93NUMPY"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class NpyFile:
    """The array of a file, of which slices along the first axis are read.

    They are read, not mapped: mapped pages count as memory in use, and a file that is cut off while it is mapped ends
    the process.

    Attributes:
        path: The file.
        shape: That of the array.
        dtype: That of the array.
        offset: Where in the file it begins, in bytes.
        stamp: The file's size in bytes and when it was last written, in nanoseconds.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    stamp: tuple[int, int]

    def __len__(self) -> int:
        """The rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "n ..."]:
        """The rows of a slice.

        Raises:
            TypeError: If it is no slice of consecutive rows.
            OSError: If the file cannot be read.
            ValueError: If it is no longer the file that was opened.
        """
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError(f"rows of {self.path} are read by slices of consecutive ones; got {rows!r}")
        start, stop, _ = rows.indices(len(self))
        array = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        with self.path.open("rb", buffering=0) as file:
            if _stamp(file.fileno()) != self.stamp:
                raise ValueError(f"{self.path} has changed since it was opened")
            file.seek(self.offset + start * math.prod(self.shape[1:]) * self.dtype.itemsize)
            left = array.reshape(-1).view(np.uint8).data
            while left:
                count = file.readinto(left)
                if not count:
                    raise ValueError(f"{self.path} has become shorter since it was opened")
                left = left[count:]
        return array


@dataclass(frozen=True)
class NpyFeatures:
    """The features in a file, each example in one row; whole numbers from 0 to 255 (uint8) stand for k/255.

    Attributes:
        file: The file.
    """

    file: NpyFile

    @property
    def shape(self) -> tuple[int, int]:
        """Examples, features."""
        return len(self.file), math.prod(self.file.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """float32."""
        return np.dtype(np.float32)

    @property
    def scaled(self) -> bool:
        """Whether they are pixels."""
        return self.file.dtype == np.uint8

    def __len__(self) -> int:
        """The examples."""
        return len(self.file)

    def __getitem__(self, rows: slice) -> Float[np.ndarray, "n d"]:
        """The features of some examples; errors as of `NpyFile` and `in_float32`."""
        start = rows.indices(len(self))[0]
        values = in_float32(str(self.file.path), self.file[rows], start)
        return values.reshape(len(values), self.shape[1])


def in_float32(name: str, x: np.ndarray, start: int = 0) -> Float[np.ndarray, "n ..."]:
    """Numbers in float32, pixels (uint8) as k/255.

    Args:
        name: What the message calls them.
        x: The numbers.
        start: What it calls the first row.

    Raises:
        ValueError: If float32 cannot hold one.
    """
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255)
    with np.errstate(over="ignore", invalid="ignore"):
        values = x.astype(np.float32, copy=False)
        if np.isfinite(values.sum()):  # which is faster than to look at each
            return values
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, *rest = (int(i) for i in bad[0])
        got, place = x[tuple(bad[0])], [start + row, *rest]
        raise ValueError(f"{name} must hold numbers that float32 can hold; got {got} at {place}")
    return values


def open_npy(path: str | Path, kinds: str = "biuf") -> NpyFile:
    """A file of one array, whose header is read and checked.

    Args:
        path: The file.
        kinds: The kinds of dtype that it may be of, by NumPy's letters; by default those of real numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no .npy file of such an array row by row, or not as long as its header says.

    >>> import tempfile
    >>> import numpy as np
    >>> from funcnet.data import open_npy
    >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
    ...     np.save(file.name, np.arange(6).reshape(3, 2))
    ...     print(open_npy(file.name)[1:])
    [[2 3]
     [4 5]]
    """
    path = existing(path)
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path} is no .npy file: expected an array as numpy.save writes it")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"its format is of version {version}, which NumPy does not write for numbers")
            shape, by_columns, dtype = HEADERS[version](file)
        except (ValueError, TypeError, OverflowError, EOFError, SyntaxError, tokenize.TokenError) as error:
            raise ValueError(f"{path} is a damaged .npy file: {error}") from None
        offset = file.tell()
    if dtype.kind not in kinds:
        expected = "labels or real numbers" if "U" in kinds else "real numbers"
        raise ValueError(f"{path} must hold {expected}; got dtype {dtype}")
    if by_columns and len(shape) > 1:
        raise ValueError(f"{path} is stored column by column; save numpy.ascontiguousarray of it")
    if not shape or min(shape) < 0:
        raise ValueError(f"{path} must have examples along its first axis; got shape {shape}")
    stamp, expected = _stamp(path), offset + math.prod(shape) * dtype.itemsize
    if stamp[0] != expected:
        raise ValueError(f"{path} should have {expected:,} bytes for shape {shape}; it has {stamp[0]:,}")
    return NpyFile(path, shape, dtype, offset, stamp)


def _stamp(file: Path | int) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns
