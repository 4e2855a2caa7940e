"""NumPy's files of one array, read by slices, folders of them, and training parts that stay in theirs."""

import dataclasses
import io
import os
import pathlib
import struct

import numpy as np
import pytest

from funcnet import data
from funcnet.data import (
    NpyFeatures,
    NpyFile,
    StandardisedRows,
    Streamed,
    fit_standardisation,
    load,
    load_as,
    load_streamed,
    npy,
    open_npy,
    read_features,
    read_npy_folder,
    standardisation,
    standardise,
)
from funcnet.data.npy import in_float32
from funcnet.data.npy_folder import open_npy_folder
from funcnet.runs.sources import standardisation_of

RANDOM = np.random.default_rng(0)
X = np.arange(12.0).reshape(4, 3)
Y = np.array(["b", "a", "b", "a"])
NAN = np.where(X == 5, np.nan, X)
TALL = RANDOM.normal(size=(23, 2, 3))
REAL = "|b1 |u1 |i1 <i2 >i2 <u4 <i8 >i8 <u8 <f2 >f2 <f4 >f4 <f8 >f8".split()
SLICES = [slice(None), slice(0, 0), slice(23, 23), slice(2, 5), slice(5, 2), slice(20, 100), slice(100, 200)]
SLICES += [slice(-3, None), slice(None, -2), slice(1, 4, 1), slice(np.int64(3), np.int64(9))]


def saved(path, array):
    np.save(path, array)
    return open_npy(path, "biufSU")


def headed(header, content=bytes(16), version=1):
    """A .npy file of any header, by `struct` alone."""
    text = header.encode() + b" " * (-(11 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + content


def header(shape="(4,)", descr="'<f4'", by_columns=False):
    return f"{{'descr': {descr}, 'fortran_order': {by_columns}, 'shape': {shape}, }}"


def folder_of(path, **arrays):
    path.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return path


@pytest.mark.quick
def test_a_file(tmp_path):
    file = saved(tmp_path / "x.npy", TALL)
    assert isinstance(file, NpyFile)
    assert (file.path, file.shape, file.dtype, len(file)) == (tmp_path / "x.npy", (23, 2, 3), np.float64, 23)
    content = (tmp_path / "x.npy").read_bytes()
    assert content[file.offset :] == TALL.tobytes()
    assert file.stamp == (len(content), (tmp_path / "x.npy").stat().st_mtime_ns)
    assert open_npy(str(tmp_path / "x.npy")) == file
    whole = file[:]
    assert (whole.shape, whole.dtype, whole.flags.writeable) == (file.shape, file.dtype, True)
    np.testing.assert_array_equal(whole, TALL)
    whole[:] = 0
    np.testing.assert_array_equal(file[:], TALL)


@pytest.mark.parametrize("rows", SLICES, ids=str)
@pytest.mark.parametrize("shape", [(23,), (23, 6), (23, 2, 3), (23, 1, 1, 3)], ids=str)
def test_slices(tmp_path, shape, rows):
    array = RANDOM.normal(size=shape)
    file = saved(tmp_path / "x.npy", array)
    found, expected = file[rows], array[rows]
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)
    features = NpyFeatures(file)[rows]
    assert (features.shape, features.dtype) == ((len(expected), array[0].size), np.float32)
    np.testing.assert_array_equal(features, expected.reshape(features.shape).astype(np.float32))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (0, 0), (1, 1)], ids=str)
def test_arrays_of_nothing(tmp_path, shape):
    file = saved(tmp_path / "x.npy", np.ones(shape))
    for rows in (slice(None), slice(0, 0), slice(0, 9)):
        np.testing.assert_array_equal(file[rows], np.ones(shape)[rows], strict=True)


@pytest.mark.parametrize("descr", REAL)
def test_numbers_of_every_dtype(tmp_path, descr):
    array = (RANDOM.normal(size=(9, 2, 2)) * 40 + 60).astype(descr)
    file = saved(tmp_path / "x.npy", array)
    assert file.dtype.str == descr
    np.testing.assert_array_equal(file[2:7], array[2:7], strict=True)
    features = NpyFeatures(file)
    assert (features.shape, features.dtype, len(features)) == ((9, 4), np.float32, 9)
    assert features.scaled == (descr == "|u1")
    expected = array.reshape(9, 4).astype(np.float64) / (255 if features.scaled else 1)
    assert (features[:].shape, features[:].dtype, features[:].dtype.isnative) == ((9, 4), np.float32, True)
    np.testing.assert_allclose(features[2:7], expected[2:7], rtol=1e-7)


def test_pixels(tmp_path):
    every = np.arange(256, dtype=np.uint8)
    found = NpyFeatures(saved(tmp_path / "x.npy", every.reshape(4, 8, 8)))[:]
    expected = np.array([k / 255 for k in range(256)]).reshape(4, 64)
    np.testing.assert_array_equal(found, expected.astype(np.float32), strict=True)


@pytest.mark.parametrize("dtype", ["<U5", ">U5", "S5"])
def test_texts(tmp_path, dtype):
    labels = np.array(["bird", "", "Käse" if "U" in dtype else "cheese", "x"]).astype(dtype)
    file = saved(tmp_path / "y.npy", labels)
    np.testing.assert_array_equal(file[1:3], labels[1:3], strict=True)
    with pytest.raises(TypeError, match=r"y\.npy must hold real numbers; got dtype .*5$"):
        open_npy(tmp_path / "y.npy")


def test_other_headers(tmp_path):
    """Of version 2, and those of Fortran's order of a single column or axis, where it is the same."""
    with (tmp_path / "x.npy").open("wb") as stream:
        np.lib.format.write_array(stream, X, version=(2, 0))
    np.testing.assert_array_equal(open_npy(tmp_path / "x.npy")[1:], X[1:], strict=True)
    for shape in ("(4,)", "(0,)"):
        content = np.arange(4, dtype="<f4").tobytes() if shape == "(4,)" else b""
        (tmp_path / "x.npy").write_bytes(headed(header(shape, by_columns=True), content))
        assert open_npy(tmp_path / "x.npy")[:].tolist() == [0, 1, 2, 3][: len(content) // 4]
    for array in (np.asfortranarray(X[0]), np.asfortranarray(X[:, :1]), X[:, 1:2], X[::2], X[::-1]):
        np.testing.assert_array_equal(saved(tmp_path / "x.npy", array)[:], array)


class Stingy(io.FileIO):
    """A file that gives 7 bytes at a time."""

    def readinto(self, buffer):
        return super().readinto(memoryview(buffer)[:7])


class StingyPath(type(pathlib.Path())):
    def open(self, mode="r", *_args, **_options):
        return Stingy(self, mode)


def test_reads_may_give_less_than_is_asked_for(tmp_path):
    """As Linux does beyond 2 GB."""
    file = saved(tmp_path / "x.npy", TALL)
    stingy = dataclasses.replace(file, path=StingyPath(file.path))
    np.testing.assert_array_equal(stingy[3:17], TALL[3:17])


OF_4 = np.arange(4, dtype="<f4").tobytes()
REFUSED = {
    "empty": (b"", "is no .npy file: expected an array as numpy.save writes it$"),
    "text": (b"1,2,3\n", "is no .npy file: expected an array as numpy.save writes it$"),
    "magic alone": (b"\x93NUMPY", "is a damaged .npy file: its header is of a kind that NumPy"),
    "no length": (b"\x93NUMPY\1\0\x40", "is a damaged .npy file: EOF: reading array header length"),
    "half a header": (headed(header())[:40], "is a damaged .npy file: EOF: reading array header"),
    "version 3": (
        headed(header(), version=3),
        "is a damaged .npy file: its header is of a kind that NumPy does not write for arrays of numbers or text$",
    ),
    "no header": (headed(""), "is a damaged .npy file: Cannot parse header"),
    "no dictionary": (headed("[1]"), "is a damaged .npy file: Header is not a dictionary"),
    "keys": (headed("{'shape': (4,)}"), "is a damaged .npy file: Header does not contain the correct keys"),
    "open bracket": (headed("{'shape': (4,"), "is a damaged .npy file: "),
    "dtype": (headed(header(descr="'<q9'")), "is a damaged .npy file: descr is not a valid dtype descriptor: '<q9'"),
    "shape": (headed(header("4")), "is a damaged .npy file: shape is not valid: 4"),
    "order": (headed(header(by_columns=2)), "is a damaged .npy file: fortran_order is not a valid bool: 2"),
    "0-dim": (headed(header("()"), bytes(4)), r"must have examples along its first axis; got shape \(\)$"),
    "negative": (headed(header("(-4,)")), r"is a damaged .npy file: no array has the shape \(-4,\) of its header$"),
    "negative twice": (headed(header("(-2, -2)")), r"is a damaged .npy file: no array has the shape \(-2, -2\) of"),
    "complex": (headed(header("(2,)", "'<c8'")), "must hold real numbers; got dtype complex64$"),
    "objects": (headed(header(descr="'|O'")), "must hold real numbers; got dtype object$"),
    "dates": (headed(header("(2,)", "'<M8[s]'")), r"must hold real numbers; got dtype datetime64\[s\]$"),
    "records": (headed(header(descr="[('a', '<f4')]")), r"must hold real numbers; got dtype \[\('a', '<f4'\)\]$"),
    "columns": (
        headed(header("(2, 2)", by_columns=True)),
        "is stored column by column; save numpy.ascontiguousarray of",
    ),
    "shorter": (headed(header(), OF_4[:-1]), r"should have 144 bytes for shape \(4,\); it has 143$"),
    "longer": (headed(header(), OF_4 + b"\0"), r"should have 144 bytes for shape \(4,\); it has 145$"),
    "no data": (headed(header(), b""), r"should have 144 bytes for shape \(4,\); it has 128$"),
    "data of none": (headed(header("(0, 3)"), bytes(4)), r"should have 128 bytes for shape \(0, 3\); it has 132$"),
    "huge": (headed(header("(1099511627776, 4)")), r"should have 17,592,186,044,544 bytes for shape .*; it has 144$"),
    "overflow": (headed(header(f"({2**62}, 4)")), "(should have 73,786,976,294,838,206,592 bytes|is a damaged)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_files(tmp_path, case):
    content, message = REFUSED[case]
    (tmp_path / "x.npy").write_bytes(content)
    error = TypeError if message.startswith("must hold") else ValueError
    with pytest.raises(error, match=f"^{tmp_path}/x.npy {message}") as info:
        open_npy(tmp_path / "x.npy")
    assert len(str(info.value).splitlines()) == 1


FALSE_HEADERS = {
    "a truth value for a size": headed(header("(4, True)")),
    "no rows of 2^62": headed(header(f"(0, {2**62})"), b""),
    "2^62 rows of none": headed(header(f"({2**62}, 0)"), b""),
    "10^30 rows of none": headed(header(f"({10**30}, 0)"), b""),
    "rank 65": headed(header(f"({'1, ' * 65})"), OF_4[:4]),
    "empty texts": headed(header(f"({2**50},)", "'<U0'"), b""),
    "a header of 60 kB": headed(header("(4, " + " " * 60_000 + ")")),
    "dtype of nothing": headed(header(descr="()")),
    "half a dtype": headed(header(descr="('<f4',)")),
    "nested 3,000 deep": headed(header(f"({'-' * 3000}4,)")),
    "nested 9,000 deep": headed(header(f"({'-' * 9000}4,)")),
}


@pytest.mark.parametrize("case", FALSE_HEADERS)
def test_refused_headers_that_numpy_stumbles_over(tmp_path, case):
    (tmp_path / "x.npy").write_bytes(FALSE_HEADERS[case])
    error = TypeError if case == "empty texts" else ValueError
    with pytest.raises(error, match=f"^{tmp_path}/x.npy ") as info:
        open_npy(tmp_path / "x.npy", "biufSU")[:]
    assert len(str(info.value).splitlines()) == 1


def test_refused_arrays(tmp_path):
    path = tmp_path / "x.npy"
    for array, message in (
        (np.array([1, "a"], object), "must hold real numbers; got dtype object$"),
        (np.asfortranarray(X), "is stored column by column; save numpy.ascontiguousarray of it$"),
        (X.T, "is stored column by column; save numpy.ascontiguousarray of it$"),
        (np.float64(3), r"must have examples along its first axis; got shape \(\)$"),
        (X * 1j, "must hold real numbers; got dtype complex128$"),
        (Y, "must hold real numbers; got dtype <U1$"),
    ):
        np.save(path, array)
        with pytest.raises(TypeError if "hold" in message else ValueError, match=f"^{path} {message}"):
            open_npy(path)
    with pytest.raises(TypeError, match=f"^{path} must hold labels or real numbers; got dtype complex128$"):
        saved(path, X * 1j)
    with pytest.raises(FileNotFoundError, match=f"^no such file: {tmp_path}/none.npy$"):
        open_npy(tmp_path / "none.npy")
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path} is a folder; expected a file$"):
        open_npy(tmp_path)


NO_SLICES = [0, -1, np.int64(1), [0, 1], np.array([0, 2]), (slice(2), 0), ..., None]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        *((kind, rows) for kind in ("file", "features", "standardised") for rows in NO_SLICES),
        *(
            (kind, slice(4 * (step < 0), None, step))
            for kind in ("file", "features", "standardised")
            for step in (2, -1)
        ),
    ],
)
def test_refused_rows(tmp_path, kind, rows):
    file = saved(tmp_path / "x.npy", X)
    features = NpyFeatures(file)
    reader = {"file": file, "features": features, "standardised": StandardisedRows(features, fit_standardisation(X))}
    with pytest.raises(TypeError, match=f"^rows of {file.path} are read by slices of consecutive ones; got "):
        reader[kind][rows]


def test_files_that_change_after_they_are_opened(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    file, before = saved(path, X), path.stat()
    changed = f"^{path} has changed since it was opened$"
    content = path.read_bytes()

    def rewritten(new, later):
        path.write_bytes(new)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + later))

    for new, later in ((content[:-1], 0), (content + b"\0", 0), (content, 1), (content, -1), (b"", 0)):
        rewritten(new, later)
        for rows in (slice(None), slice(1), slice(0, 0)):
            with pytest.raises(ValueError, match=changed):
                file[rows]
        with pytest.raises(ValueError, match=changed):
            NpyFeatures(file)[:]
    rewritten(content, 0)
    np.testing.assert_array_equal(file[:], X)
    rewritten(content[:-8], 0)
    monkeypatch.setattr(npy, "_stamp", lambda _: file.stamp)  # cut off between the check and the read
    with pytest.raises(ValueError, match=f"^{path} has become shorter since it was opened$"):
        file[:]
    np.testing.assert_array_equal(file[:3], X[:3])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=str(path)):
        file[:]


def spoilt(*values):
    """TALL with other values in the first places of row 17."""
    array = TALL.copy()
    array[17].flat[: len(values)] = values
    return array


LARGE = {
    "NaN": (spoilt(1, 1, 1, 1, np.nan), "nan", [17, 1, 1]),
    "inf": (spoilt(-np.inf).astype("f2"), "-inf", [17, 0, 0]),
    "two": (np.concatenate([TALL[:17], TALL[17:] * np.inf]).astype(">f4"), "-?inf", [17, 0, 0]),
    "both signs": (spoilt(1, 1, np.inf, -np.inf), "inf", [17, 0, 2]),
    "double": (spoilt(1, 1, 1, 1e39), r"1e\+39", [17, 1, 0]),
}


@pytest.mark.parametrize("case", LARGE)
def test_numbers_that_float32_cannot_hold_are_told_by_their_place_in_the_file(tmp_path, case):
    array, got, place = LARGE[case]
    features = NpyFeatures(saved(tmp_path / "x.npy", array))
    said = rf"^{tmp_path}/x.npy must hold numbers that float32 can hold; got {got} at \[{', '.join(map(str, place))}\]$"
    for rows in (slice(None), slice(10, 20), slice(17, 18), slice(-6, None)):
        with pytest.raises(ValueError, match=said):
            features[rows]
    np.testing.assert_array_equal(features[:17], array[:17].reshape(17, 6).astype(np.float32))


def test_sums_that_overflow_are_no_numbers_that_do(tmp_path):
    most = np.finfo(np.float32).max
    for array in (np.full((9, 4), most), np.full((9, 4), -most), np.full((9, 4), float(most))):
        found = NpyFeatures(saved(tmp_path / "x.npy", array))[2:]
        np.testing.assert_array_equal(found, array[2:].astype(np.float32))
    large = np.full((2, 2), 2**63, np.uint64)
    np.testing.assert_array_equal(in_float32("x", large), large.astype(np.float32), strict=True)


PIXELS = RANDOM.integers(0, 256, (9, 2, 2)).astype(np.uint8)
SOURCES = {
    "labels": {"x": X, "y": Y},
    "bytes": {"x": X.astype(">f4"), "y": Y.astype("S1")},
    "column": {"x": X.astype(">i2"), "y": np.array([[7], [5], [7], [5]], ">i8")},
    "regression": {"x": X.astype(np.float16), "y": X[:, :2].astype(">f8")},
    "truth values": {"x": X > 4, "y": X[:, 0] > 4},
    "pixels": {
        "x_train": PIXELS,
        "y_train": np.arange(9) % 3,
        "x_val": PIXELS[:2],
        "y_val": [2, 0],
        "x_test": PIXELS[:1],
        "y_test": [1],
    },
    "validation": {"x_train": X, "y_train": Y, "x_validation": X[:2], "y_validation": Y[:2]},
    "test": {"x_train": X, "y_train": X[:, :1], "x_test": X[:1].reshape(1, 3, 1), "y_test": [[4.0]]},
}


def assert_equal(found, expected):
    assert (type(found), found._replace(x=0, y=0)) == (type(expected), expected._replace(x=0, y=0))
    np.testing.assert_array_equal(found.x, expected.x, strict=True)
    np.testing.assert_array_equal(found.y, expected.y, strict=True)


@pytest.mark.parametrize("case", SOURCES)
def test_a_folder_is_what_an_archive_is(tmp_path, case):
    """Unpacked, or read as a stream whose sample is all of it."""
    folder = folder_of(tmp_path / "set", **SOURCES[case])
    np.savez(tmp_path / "set.npz", **SOURCES[case])
    expected = {part: each._replace(name="set") for part, each in load(tmp_path / "set.npz").items()}
    found = load(folder)
    streamed, stream = load_streamed(str(folder))
    assert list(found) == list(streamed) == list(expected)
    for part, dataset in expected.items():
        assert_equal(found[part], dataset)
        assert_equal(streamed[part], dataset)
    assert isinstance(stream, Streamed)
    assert isinstance(stream.x, NpyFeatures)
    assert stream.x.scaled == (case == "pixels")
    np.testing.assert_array_equal(stream.x[:], expected["train"].x, strict=True)
    np.testing.assert_array_equal(stream.y, expected["train"].y, strict=True)
    tables = read_npy_folder(folder)
    for part, table in data.read_npz(tmp_path / "set.npz").items():
        np.testing.assert_array_equal(tables[part].x, table.x, strict=True)
        np.testing.assert_array_equal(tables[part].y, table.y, strict=True)
        assert (tables[part].rows.tolist(), tables[part].scaled) == (table.rows.tolist(), table.scaled)
        assert tables[part].feature_names == tables[part].target_names == ()
    for part, dataset in expected.items():
        assert_equal(load_as(folder, expected["train"], part=part), dataset)
        x, y = read_features(folder, data.schema(expected["train"]), part=part)
        np.testing.assert_array_equal(x, dataset.x, strict=True)
        np.testing.assert_array_equal(y, dataset.y, strict=True)


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_a_part_may_stand_alone_where_nothing_is_trained(tmp_path, kind):
    like = data.schema(data.Dataset("train", X, np.arange(len(X)) % 2, ("0", "1")))
    np.savez(tmp_path / "set.npz", x_test=X)
    np.save(tmp_path / "x_test.npy", X)
    source = tmp_path / "set.npz" if kind == "archive" else tmp_path
    x, y = read_features(source, like)
    np.testing.assert_array_equal(x, X)
    assert y is None
    with pytest.raises(ValueError, match="holds x_test; expected x and y, or x_train, y_train and perhaps"):
        load(source)


def test_names_in_capitals_are_those_of_an_archive(tmp_path):
    arrays = {"X_train": X, "y_train": Y, "X_test": X, "y_test": Y}
    np.savez(tmp_path / "set.npz", **arrays)
    folder = folder_of(tmp_path / "set", **arrays)
    assert list(load(folder)) == list(load(tmp_path / "set.npz")) == ["train", "test"]


def test_tasks(tmp_path):
    folder = folder_of(tmp_path / "set", x=X, y=np.array([3, 1, 2, 1]))
    for task, y, names in (
        ("classification", [2, 0, 1, 0], ("1", "2", "3")),
        ("regression", [[3], [1], [2], [1]], ()),
        ("auto", [2, 0, 1, 0], ("1", "2", "3")),
    ):
        sets, stream = load_streamed(folder, task)
        assert (sets["train"].y.tolist(), stream.y.tolist(), sets["train"].class_names) == (y, y, names)
        assert_equal(load(folder, task=task)["train"], sets["train"])


@pytest.mark.bad_input
def test_refused_tasks(tmp_path):
    with pytest.raises(ValueError, match="task must be auto, classification or regression; got 'ranking'"):
        load_streamed(folder_of(tmp_path / "set", x=X, y=Y), "ranking")


def test_further_parts_in_a_folder_of_their_own(tmp_path):
    train = load(folder_of(tmp_path / "train", x=X, y=Y))["train"]
    other = folder_of(tmp_path / "other", x=X[:2], y=Y[1:3])
    assert_equal(load_as(other, train), train._replace(name="other", x=train.x[:2], y=train.y[1:3]))
    bare = folder_of(tmp_path / "bare", x=X[:2])
    x, y = read_features(bare, data.schema(train))
    np.testing.assert_array_equal(x, train.x[:2])
    assert y is None
    with pytest.raises(ValueError, match=f"^{bare} has no targets; expected them beside its features"):
        load_as(bare, train)
    with pytest.raises(ValueError, match=f"^{other} has no test part; it has: train"):
        load_as(other, train, part="test")
    unseen = folder_of(tmp_path / "unseen", x=X, y=np.array(["a", "b", "bird", "a"]))
    with pytest.raises(ValueError, match=f"^{unseen}: label 'bird' in row 2 is not among the classes"):
        load_as(unseen, train)
    narrow = folder_of(tmp_path / "narrow", x=X[:, :2], y=Y)
    with pytest.raises(ValueError, match=f"^{narrow} has 2 features; expected 3"):
        load_as(narrow, train)
    with pytest.raises(ValueError, match=r"target goes with a .csv, .tsv or .txt file alone; got target 'y' with data"):
        load(other, target="y")
    with pytest.raises(ValueError, match="folder goes with data 'mnist' alone"):
        load(other, folder=tmp_path)


PARTS = {"x_train": X, "y_train": Y}
REFUSED_FOLDERS = {
    "keys": ({"a": X, "b": X}, ValueError, "^{0} holds a, b; expected x and y, or x_train, y_train and perhaps x_val"),
    "more keys": ({"x": X, "y": Y, "z": Y}, ValueError, "^{0} holds x, y, z; expected x and y"),
    "both kinds": ({"x": X, "y": Y, **PARTS}, ValueError, "^{0} holds x, x_train, y, y_train; expected x and y"),
    "y alone": ({**PARTS, "y_test": Y}, ValueError, "^{0} holds x_train, y_test, y_train; expected x and y"),
    "no training part": ({"x_test": X, "y_test": Y}, ValueError, "^{0} holds x_test, y_test; expected x and y"),
    "two names": (
        {**PARTS, "x_val": X, "y_val": Y, "x_validation": X, "y_validation": Y},
        ValueError,
        "^{0} holds x_train, x_val, x_validation, y_train, y_val, y_validation; expected x and y",
    ),
    "nothing": ({}, ValueError, "^{0} is a folder without .npy files; it holds nothing$"),
    "objects": (
        {"x": X, "y": Y.astype(object)},
        TypeError,
        "^{0}/y.npy must hold labels or real .* got dtype object$",
    ),
    "columns": ({"x": np.asfortranarray(X), "y": Y}, ValueError, "^{0}/x.npy is stored column by column; save"),
    "complex": ({"x": X * 1j, "y": Y}, TypeError, "^{0}/x.npy must hold real numbers; got dtype complex128$"),
    "text": ({"x": Y[:, None], "y": Y}, TypeError, "^{0}/x.npy must hold real numbers; got dtype <U1$"),
    "rank": ({"x": X[0], "y": Y}, ValueError, r"^{0}/x.npy must have examples along .* and features .*; got \(3,\)$"),
    "empty": ({"x": X[:0], "y": Y[:0]}, ValueError, r"^{0}/x.npy must have examples .*; got \(0, 3\)$"),
    "no features": ({"x": X[:, :0], "y": Y}, ValueError, r"^{0}/x.npy must have examples .*; got \(4, 0\)$"),
    "lengths": (
        {"x": X, "y": Y[:3]},
        ValueError,
        r"^{0}/y.npy must have a row for each of 4 examples of {0}/x.npy; got shape \(3,\)$",
    ),
    "y of rank 3": ({"x": X, "y": X.reshape(4, 3, 1)}, ValueError, r"^{0}/y.npy must have a row .* shape \(4, 3, 1\)$"),
    "NaN": ({"x": NAN.reshape(4, 1, 3), "y": Y}, ValueError, r"^{0}/x.npy must hold .* got nan at \[1, 0, 2\]$"),
    "NaN in y": ({"x": X, "y": NAN[:, 2]}, ValueError, "^{0}.*: y must hold numbers that float32 can .* nan in row 1$"),
    "one class": ({"x": X, "y": [1] * 4}, ValueError, "^{0}.*: y must hold at least 2 classes to learn from; got only"),
    "dtypes": (
        {"x_train": X.astype(np.uint8), "y_train": Y, "x_test": X, "y_test": Y},
        ValueError,
        "^{0}, test part: x must be uint8 in every part or in none$",
    ),
    "widths": (
        {**PARTS, "x_val": X[:, :2], "y_val": Y},
        ValueError,
        "^{0}, validation part: 2 features; expected 3 as in the training part$",
    ),
    "targets": (
        {"x_train": X, "y_train": X, "x_test": X, "y_test": X[:, :2]},
        ValueError,
        "^{0}, test part: 2 targets; expected 3 as in the training part$",
    ),
    "no further targets": ({**PARTS, "x_test": X}, ValueError, "^{0}, test part: there are no targets; expected y"),
    "unseen": (
        {**PARTS, "x_val": X, "y_val": ["a", "b", "bird", "a"]},
        ValueError,
        "^{0}, validation part: label 'bird' in row 2 is not among the classes of the training part: a, b$",
    ),
}


@pytest.mark.parametrize("read", [load, load_streamed])
@pytest.mark.parametrize("case", REFUSED_FOLDERS)
def test_refused_folders(tmp_path, case, read):
    arrays, error, message = REFUSED_FOLDERS[case]
    folder = folder_of(tmp_path / "set", **arrays)
    with pytest.raises(error, match=message.format(folder)):
        read(folder)


def test_what_lacks_in_a_folder(tmp_path):
    folder = folder_of(tmp_path / "set", x=X)
    with pytest.raises(ValueError, match=f"^{folder}: there are no targets; expected y beside x$"):
        load(folder)
    with pytest.raises(ValueError, match=f"^{folder} has no y.npy beside x.npy$"):
        load_streamed(folder)
    (folder / "x.npy").rename(folder / "x_train.npy")
    with pytest.raises(ValueError, match=f"^{folder} has no y_train.npy beside x_train.npy$"):
        load_streamed(folder)
    (folder / "x_train.npy").rename(folder / "x.NPY")
    (folder / "notes.txt").write_text("mine")
    for read in (load, load_streamed, read_npy_folder):
        with pytest.raises(ValueError, match=f"^{folder} is a folder without .npy files; it holds notes.txt, x.NPY$"):
            read(folder)
    for name, error in (("none", FileNotFoundError), ("set/notes.txt", NotADirectoryError)):
        with pytest.raises(error, match=str(tmp_path / name)):
            load_streamed(tmp_path / name)
    with pytest.raises(ValueError, match=r"data must be one of .*, or a folder of .npy files; got '.*none'$"):
        load(tmp_path / "none")
    for name in ("y.npy", "x.npy"):
        (folder / name).mkdir()
    with pytest.raises(IsADirectoryError, match=f"^{folder}/[xy].npy is a folder; expected a file$"):
        load(folder)


@pytest.mark.parametrize("read", [load, load_streamed])
def test_damaged_files_in_a_folder(tmp_path, read):
    folder = folder_of(tmp_path / "set", x_train=X, y_train=Y, x_test=X, y_test=Y)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        path = folder / f"{name}.npy"
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(ValueError, match=rf"^{path} should have [\d,]+ bytes for shape \(4"):
            read(folder)
        path.write_bytes(content)
    assert read(folder)


def numbered(path, n):
    """A folder of n examples that are the numbers of their rows."""
    y = np.array(["b", "a", "c"])[np.arange(n) % 3]
    return folder_of(path / str(n), x=np.arange(n)[:, None], y=y), y


@pytest.mark.parametrize("n", [2, 99, 100, 101, 150, 9_901, 9_999, 10_000])
def test_the_sample_of_a_small_set_is_all_of_it(tmp_path, n):
    folder, _ = numbered(tmp_path, n)
    sets, stream = load_streamed(folder)
    assert_equal(sets["train"], load(folder)["train"])
    np.testing.assert_array_equal(stream.y, sets["train"].y)
    tables, unread = open_npy_folder(folder)
    assert unread.sample.tolist() == tables["train"].rows.tolist() == list(range(n))


@pytest.mark.parametrize("n", [10_001, 10_050, 12_345, 25_000, 123_457])
def test_a_sample_is_of_runs_spread_evenly(tmp_path, n):
    folder, y = numbered(tmp_path, n)
    tables, unread = open_npy_folder(folder)
    rows = unread.sample
    assert rows.tolist() == [int(k * (n - 100) / 99 + 1e-6) + i for k in range(100) for i in range(100)]
    assert (len(rows), rows[0], rows[-1], len(set(rows.tolist()))) == (10_000, 0, n - 1, 10_000)
    gaps = np.diff(rows[::100])
    assert gaps.max() - gaps.min() <= 1
    sets, stream = load_streamed(folder)
    assert list(sets) == ["train"]
    assert (sets["train"].x.shape, sets["train"].x.dtype) == ((10_000, 1), np.float32)
    np.testing.assert_array_equal(sets["train"].x[:, 0], rows)
    np.testing.assert_array_equal(tables["train"].rows, rows)
    np.testing.assert_array_equal(tables["train"].y, y[rows])
    whole = load(folder)["train"]
    np.testing.assert_array_equal(stream.y, whole.y, strict=True)
    np.testing.assert_array_equal(sets["train"].y, whole.y[rows], strict=True)
    assert (stream.x.shape, sets["train"].class_names) == ((n, 1), ("a", "b", "c"))
    np.testing.assert_array_equal(stream.x[n - 7 : n + 7], whole.x[-7:], strict=True)


def test_of_the_training_part_only_a_sample_is_read(tmp_path, monkeypatch):
    folder, _ = numbered(tmp_path, 50_000)
    reads, of_file = [], NpyFile.__getitem__

    def recorded(file, rows):
        found = of_file(file, rows)
        reads.append((file.path.name, len(found)))
        return found

    monkeypatch.setattr(NpyFile, "__getitem__", recorded)
    load_streamed(folder)
    assert reads == [("y.npy", 50_000)] + [("x.npy", 100)] * 100


def test_what_a_sample_does_not_show(tmp_path):
    """A class in rows beyond it is known, a number in them that is none is told when it is read."""
    n = 50_000
    sample = open_npy_folder(numbered(tmp_path, n)[0])[1].sample
    beyond, within = np.setdiff1d(np.arange(n), sample)[7], sample[150]
    x, y = np.arange(n, dtype=np.float32)[:, None], np.zeros(n, int)
    y[[beyond, within]] = 2, 1
    x[beyond] = np.inf
    folder = folder_of(tmp_path / "set", x_train=x, y_train=y, x_test=x[:1], y_test=[2])
    sets, stream = load_streamed(folder)
    assert sets["train"].class_names == sets["test"].class_names == ("0", "1", "2")
    assert (sorted(set(sets["train"].y.tolist())), sets["test"].y.tolist()) == ([0, 1], [2])
    assert (stream.y[beyond], len(stream.y)) == (2, n)
    said = r"^{}/x_train.npy must hold numbers that float32 can hold; got inf at \[{}, 0\]$"
    for read in (lambda: stream.x[beyond - 5 : beyond + 5], lambda: load(folder)):
        with pytest.raises(ValueError, match=said.format(folder, beyond)):
            read()
    x[within] = np.inf
    np.save(folder / "x_train.npy", x)
    with pytest.raises(ValueError, match=said.format(folder, within)):
        load_streamed(folder)


def features_of(path, n=1003):
    """Columns of several sizes, some of them constant or nearly."""
    columns = [RANDOM.normal(0, 1, n), RANDOM.normal(5, 3, n), RANDOM.exponential(1e-3, n), np.full(n, 0.1)]
    columns += [np.zeros(n), np.full(n, 1e6 + 0.1), np.r_[np.full(n - 1, 0.1), 0.2], RANDOM.integers(0, 2, n)]
    return NpyFeatures(saved(path / "x.npy", np.stack(columns, 1).astype(np.float32)))


def streamed(features):
    return Streamed(features, np.zeros(len(features), np.int32))


@pytest.mark.parametrize("at_once", [1, 8, 15, 80, 1000, 8 * 1003, 10**6])
def test_standardisation_of_a_file(tmp_path, monkeypatch, at_once):
    features = features_of(tmp_path)
    x = features[:]
    monkeypatch.setattr(standardisation, "AT_ONCE", at_once)
    found, expected = standardisation_of(streamed(features)), fit_standardisation(x)
    assert (found.mean.dtype, found.scale.dtype, found.mean.shape) == (np.float64, np.float64, (8,))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-12)
    assert found.scale[3:6].tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-12)
    varying = [0, 1, 2, 6, 7]
    np.testing.assert_allclose(found.scale[varying], x.astype(np.float64).std(0)[varying], rtol=1e-9)


def test_standardisation_reads_some_at_a_time(tmp_path, monkeypatch):
    pixels = NpyFeatures(saved(tmp_path / "x.npy", RANDOM.integers(0, 256, (101, 4, 5)).astype(np.uint8)))
    read, of_features = [], NpyFeatures.__getitem__
    monkeypatch.setattr(NpyFeatures, "__getitem__", lambda self, rows: read.append(rows) or of_features(self, rows))
    monkeypatch.setattr(standardisation, "AT_ONCE", 399)
    standardisation_of(streamed(pixels))
    assert [(rows.start, min(rows.stop, 101)) for rows in read] == [(k, min(k + 19, 101)) for k in range(0, 101, 19)]
    read.clear()
    monkeypatch.setattr(standardisation, "AT_ONCE", 3)  # less than a row
    standardisation_of(streamed(pixels))
    assert len(read) == 101


def test_standardised_rows(tmp_path):
    features = features_of(tmp_path)
    by = standardisation_of(streamed(features))
    rows = StandardisedRows(features, by)
    assert (rows.shape, rows.dtype) == ((1003, 8), np.float32)
    expected = standardise(by, features[:])
    for some in (slice(None), slice(0, 0), slice(5, 90), slice(1000, 2000), slice(-4, None)):
        np.testing.assert_array_equal(rows[some], expected[some], strict=True)
    by_hand = ((features[:].astype(np.float64) - by.mean) / by.scale).astype(np.float32)
    np.testing.assert_array_equal(rows[:], by_hand)
    np.testing.assert_allclose(rows[:].mean(0, dtype=np.float64)[:3], 0, atol=1e-6)
    np.testing.assert_allclose(rows[:].std(0, dtype=np.float64)[:3], 1, rtol=1e-6)
