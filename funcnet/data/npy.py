"""NumPy's files of one array (.npy), read a slice at a time: for data larger than memory."""

import io
import math
import os
import sys
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from funcnet.data.files import existing

MAGIC = b"\x93NUMPY"
HEADERS = {(1, 0): (2, np.lib.format.read_array_header_1_0), (2, 0): (4, np.lib.format.read_array_header_2_0)}
"""For each version how many bytes tell the length of the header, and what reads it."""
LONGEST = 10_000
"""Bytes of a header; NumPy reads no longer one either."""
MOST_AXES = 64
PARSING = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
"""What NumPy answers to headers that are none; memory is short for the nesting alone."""


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
        some = self.file[rows]
        values = in_float32(str(self.file.path), some, rows.indices(len(self))[0])
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


def read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored column by column, and dtype of an array, from the beginning of its file.

    Raises:
        ValueError: If it is no header that NumPy writes for arrays of numbers or text, in one line.
    """
    begin = stream.read(len(MAGIC) + 2)
    version = tuple(begin[len(MAGIC) :])
    if version not in HEADERS:
        raise ValueError("its header is of a kind that NumPy does not write for arrays of numbers or text")
    length, parse = HEADERS[version]
    size = stream.read(length)
    content = int.from_bytes(size, "little")
    if content > LONGEST:
        raise ValueError(f"its header should be {content:,} bytes long; at most {LONGEST:,} are")
    try:
        shape, by_columns, dtype = parse(io.BytesIO(size + stream.read(content)))
    except PARSING as error:
        raise ValueError((str(error).splitlines() or ["its header is nested too deep"])[0]) from None
    cells = math.prod(max(size, 1) for size in shape) * max(dtype.itemsize, 1)
    if any(type(size) is not int or size < 0 for size in shape) or len(shape) > MOST_AXES or cells > sys.maxsize:
        raise ValueError(f"no array has the shape {str(shape)[:100]} of its header")
    return shape, by_columns, dtype


def open_npy(path: str | Path, kinds: str = "biuf") -> NpyFile:
    """A file of one array, whose header is read and checked.

    Args:
        path: The file.
        kinds: The kinds of dtype that it may be of, by NumPy's letters; by default those of real numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If it holds something else.
        ValueError: If it is no .npy file of an array row by row, or not as long as its header says.

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
            shape, by_columns, dtype = read_header(file)
        except ValueError as error:
            raise ValueError(f"{path} is a damaged .npy file: {error}") from None
        offset = file.tell()
    if dtype.kind not in kinds or not dtype.itemsize:
        expected = "labels or real numbers" if "U" in kinds else "real numbers"
        raise TypeError(f"{path} must hold {expected}; got dtype {dtype}")
    if by_columns and len(shape) > 1:
        raise ValueError(f"{path} is stored column by column; save numpy.ascontiguousarray of it")
    if not shape:
        raise ValueError(f"{path} must have examples along its first axis; got shape {shape}")
    stamp, expected = _stamp(path), offset + math.prod(shape) * dtype.itemsize
    if stamp[0] != expected:
        raise ValueError(f"{path} should have {expected:,} bytes for shape {shape}; it has {stamp[0]:,}")
    return NpyFile(path, shape, dtype, offset, stamp)


def _stamp(file: Path | int) -> tuple[int, int]:
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns
