"""IDX files and MNIST."""

import gzip
import struct

import numpy as np
import pytest
from cases import MNIST, needs_mnist

from funcnet.data import load, read_idx, read_mnist

FORMATS = {0x08: ("B", "uint8"), 0x09: ("b", "int8"), 0x0B: ("h", "int16"), 0x0C: ("i", "int32")}
FORMATS |= {0x0D: ("f", "float32"), 0x0E: ("d", "float64")}


def idx(array, code=0x08):
    """The bytes of an IDX file, by `struct` alone."""
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, code, array.ndim, *array.shape)
    return header + struct.pack(f">{array.size}{FORMATS[code][0]}", *array.ravel().tolist())


@pytest.mark.quick
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("code", FORMATS, ids=lambda code: FORMATS[code][1])
def test_idx_of_every_dtype(tmp_path, code, pack):
    expected = np.arange(24).reshape(2, 3, 4).astype(FORMATS[code][1])
    expected[0, 0, 0] = 2 if code == 0x08 else -3
    (tmp_path / "file").write_bytes(pack(idx(expected, code)))
    array = read_idx(tmp_path / "file")
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    assert array.dtype.isnative
    assert array.flags.writeable
    np.testing.assert_array_equal(array, expected)


WHOLE = idx(np.arange(6).reshape(2, 3))
REFUSED_IDX = {
    "empty": (b"", r"is no IDX file: expected 0, 0, a known dtype and a rank; got \[\]"),
    "magic": (b"PNG!" + WHOLE, r"is no IDX file: .*; got \[80, 78, 71, 33\]"),
    "dtype": (b"\0\0\x0a\1" + WHOLE, r"is no IDX file: .*; got \[0, 0, 10, 1\]"),
    "header": (WHOLE[:10], r"is truncated: expected at least 12 bytes; got 10"),
    "truncated": (WHOLE[:-1], r"is truncated: expected 18 bytes; got 17"),
    "trailing": (WHOLE + b"\0\0", r"has bytes behind its end: expected 18 bytes; got 20"),
    "negative": (struct.pack(">BBBBi", 0, 0, 8, 1, -5), r"is no IDX file: expected sizes of at least 0; got \(-5,\)"),
    "half a gzip": (gzip.compress(WHOLE)[:-9], r"is a damaged gzip file: Compressed file ended"),
    "wrong checksum": (gzip.compress(WHOLE)[:-8] + b"\1" * 8, r"is a damaged gzip file: CRC check failed"),
    "damaged gzip": (gzip.compress(WHOLE)[:10] + b"\xff" * 20, r"is a damaged gzip file: "),
}


@pytest.mark.parametrize("case", REFUSED_IDX)
def test_refused_idx(tmp_path, case):
    content, message = REFUSED_IDX[case]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/file {message}"):
        read_idx(tmp_path / "file")


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*/none"):
        read_idx(tmp_path / "none")
    with pytest.raises(IsADirectoryError, match=r"is a folder; expected a file"):
        read_idx(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*/none"):
        read_mnist(tmp_path / "none")


IMAGES = np.arange(6 * 4).reshape(6, 2, 2) * 11
DIGIT = np.array([3, 1, 2, 3, 1, 2])


def write_mnist(folder, part="train", images=IMAGES, labels=DIGIT, mark="-", pack=bytes, end=""):
    (folder / f"{part}-images{mark}idx3-ubyte{end}").write_bytes(pack(idx(images)))
    (folder / f"{part}-labels{mark}idx1-ubyte{end}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize(
    "spelling", [{}, {"mark": "."}, {"pack": gzip.compress, "end": ".gz"}, {"pack": gzip.compress}]
)
def test_mnist(tmp_path, spelling):
    write_mnist(tmp_path, **spelling)
    (train,) = read_mnist(tmp_path).values()
    assert (train.name, train.x.dtype, train.y.dtype, train.scaled) == ("mnist", np.float32, np.int32, True)
    np.testing.assert_allclose(train.x, IMAGES.reshape(6, 4) / 255, rtol=1e-6)
    assert (train.class_names, train.y.tolist()) == (("1", "2", "3"), [2, 0, 1, 2, 0, 1])
    write_mnist(tmp_path, "t10k", IMAGES[:2], DIGIT[:2], **spelling)
    sets = load("mnist", folder=tmp_path)
    assert list(sets) == ["train", "test"]
    assert sets["test"].y.tolist() == [2, 0]
    np.testing.assert_array_equal(sets["test"].x, train.x[:2])
    assert load("mnist", folder=tmp_path, task="regression")["test"].y.tolist() == [[3], [1]]


def test_refused_mnist(tmp_path):
    names = r"train-images-idx3-ubyte and train-labels-idx1-ubyte \(each plain or .gz\)"
    with pytest.raises(FileNotFoundError, match=rf"no such file in {tmp_path}: {names}"):
        read_mnist(tmp_path)
    write_mnist(tmp_path)
    write_mnist(tmp_path, "t10k", labels=DIGIT + 5)
    with pytest.raises(ValueError, match=r"test part: label '8' in row 0 is not among the classes .* 1, 2, 3"):
        read_mnist(tmp_path)
    write_mnist(tmp_path, "t10k", images=IMAGES[:, :1])
    with pytest.raises(ValueError, match=r"test images have 2 pixels; expected 4"):
        read_mnist(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"no such file in .*: t10k-images-idx3-ubyte \("):
        read_mnist(tmp_path)
    write_mnist(tmp_path, labels=DIGIT[:5])
    with pytest.raises(ValueError, match=r"train has 6 images and 5 labels; expected as many"):
        read_mnist(tmp_path)
    write_mnist(tmp_path, images=DIGIT)
    with pytest.raises(ValueError, match=r"ubyte holds no images: expected uint8 with 3 axes; got uint8 with 1"):
        read_mnist(tmp_path)
    write_mnist(tmp_path, images=IMAGES[:0], labels=DIGIT[:0])
    with pytest.raises(ValueError, match=r"ubyte holds no images: shape \(0, 2, 2\)"):
        read_mnist(tmp_path)


@needs_mnist
def test_the_real_mnist():
    sets = load("mnist", folder=MNIST)
    assert {part: each.x.shape for part, each in sets.items()} == {"train": (60000, 784), "test": (10000, 784)}
    assert sets["train"].class_names == tuple("0123456789")
    assert np.bincount(sets["train"].y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert sets["test"].y[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(float(sets["train"].x.mean(dtype=np.float64)) - 0.1306604762738429) < 1e-6
