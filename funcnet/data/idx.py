"""The IDX format of MNIST: a magic number that tells dtype and rank, the sizes of the axes, the numbers."""

import math
import struct
from pathlib import Path

import numpy as np

from funcnet.data.dataset import Dataset
from funcnet.data.files import SURPLUS, opened, read_up_to
from funcnet.data.messages import about
from funcnet.data.targets import encode, encode_as

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
KINDS = {"images": 3, "labels": 1}
"""What MNIST's files hold, and its rank."""
MNIST_FILES = tuple(f"{part}-{kind}-idx{rank}-ubyte" for part in ("train", "t10k") for kind, rank in KINDS.items())


def read_idx(path: str | Path) -> np.ndarray:
    """The array of an IDX file, plain or gzipped, in the byte order of this machine.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no IDX file, holds fewer or more bytes than its header says, or is a damaged gzip file.
    """
    with opened(path) as stream:
        content = read_up_to(stream, 4)
        if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in DTYPES or content[3] == 0:
            raise ValueError(f"{path} is no IDX file: expected 0, 0, a known dtype and a rank; got {list(content)}")
        rank, dtype = content[3], np.dtype(DTYPES[content[2]])
        start = 4 + 4 * rank
        content += read_up_to(stream, 4 * rank)
        shape = struct.unpack_from(f">{rank}i", content, 4) if len(content) >= start else ()
        if shape and min(shape) < 0:
            raise ValueError(f"{path} is no IDX file: expected sizes of at least 0; got {shape}")
        expected = start + math.prod(shape) * dtype.itemsize if shape else start
        content += read_up_to(stream, expected - start + SURPLUS)
    if len(content) != expected:
        what = "is truncated" if len(content) < expected else "has bytes behind its end"
        least, more = "" if shape else "at least ", " or more" if len(content) == expected + SURPLUS else ""
        raise ValueError(f"{path} {what}: expected {least}{expected:,} bytes; got {len(content):,}{more}")
    with about(str(path)):  # NumPy refuses ranks above its own
        return np.frombuffer(content, dtype.newbyteorder(">"), offset=start).reshape(shape).astype(dtype)


def read_mnist(folder: str | Path) -> dict[str, Dataset]:
    """MNIST, or what is kept in files of the same names: "train" and, where its files are there, "test".

    The files are train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with t10k; a point may stand before
    idx, and .gz at the end. Ink runs from 0 to 1.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If a file is damaged, is not what it is called, or images and labels differ in number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    x, labels = _images_and_labels(folder, "train")
    with about(f"{folder}, training part"):
        y, names = encode(labels)
    parts = {"train": Dataset("mnist", x, y, names, (), ("class",), scaled=True)}
    if any(_found(folder, "t10k", kind) for kind in KINDS):
        x, labels = _images_and_labels(folder, "t10k")
        if x.shape[1] != parts["train"].x.shape[1]:
            raise ValueError(f"{folder}: test images have {x.shape[1]} pixels; expected {parts['train'].x.shape[1]}")
        with about(f"{folder}, test part"):
            parts["test"] = parts["train"]._replace(x=x, y=encode_as(labels, names))
    return parts


def _found(folder: Path, part: str, kind: str) -> Path | None:
    names = [f"{part}-{kind}{mark}idx{KINDS[kind]}-ubyte{end}" for end in ("", ".gz") for mark in "-."]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _images_and_labels(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    paths = {kind: _found(folder, part, kind) for kind in KINDS}
    missing = [f"{part}-{kind}-idx{KINDS[kind]}-ubyte" for kind, path in paths.items() if path is None]
    if missing:
        raise FileNotFoundError(f"no such file in {folder}: {' and '.join(missing)} (each plain or .gz)")
    arrays = {kind: read_idx(path) for kind, path in paths.items() if path is not None}
    for kind, array in arrays.items():
        if array.ndim != KINDS[kind] or array.dtype != np.uint8:
            got = f"{array.dtype} with {array.ndim}"
            raise ValueError(f"{paths[kind]} holds no {kind}: expected uint8 with {KINDS[kind]} axes; got {got}")
    images, labels = arrays["images"], arrays["labels"]
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {part} has {len(images):,} images and {len(labels):,} labels; expected as many")
    if not images.size:
        raise ValueError(f"{paths['images']} holds no images: shape {images.shape}")
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255), labels
