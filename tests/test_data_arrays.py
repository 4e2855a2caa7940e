"""NumPy's archives and OpenML."""

import io
import pickle
import warnings
import zipfile
from urllib.error import URLError

import numpy as np
import pytest
from sklearn import datasets
from sklearn.utils import Bunch

from funcnet import data
from funcnet.data import load, read_npz

X = np.arange(12.0).reshape(4, 3)
Y = np.array(["b", "a", "b", "a"])


def test_npz(tmp_path):
    np.savez(tmp_path / "one.npz", x=X.reshape(4, 3, 1), y=Y)
    (one,) = load(tmp_path / "one.npz").values()
    assert (one.name, one.x.dtype, one.scaled, one.feature_names) == ("one.npz", np.float32, False, ())
    np.testing.assert_array_equal(one.x, X)
    assert (one.y.tolist(), one.class_names) == ([1, 0, 1, 0], ("a", "b"))
    pixels = (X * 20).astype(np.uint8)
    np.savez_compressed(
        tmp_path / "p.npz", x_test=pixels[:1], y_test=[[7]], X_train=pixels, y_train=[[7], [5], [7], [5]]
    )
    sets = load(tmp_path / "p.npz")
    assert list(sets) == ["train", "test"]
    assert sets["train"].scaled
    np.testing.assert_allclose(sets["train"].x, pixels / 255, rtol=1e-6)
    assert (sets["test"].y.tolist(), sets["test"].class_names) == ([1], ("5", "7"))
    np.savez(tmp_path / "v.npz", x_train=X, y_train=X[:, :2], x_val=X[:1], y_val=X[:1, :2])
    sets = load(tmp_path / "v.npz")
    assert list(sets) == ["train", "validation"]
    np.testing.assert_array_equal(sets["validation"].y, X[:1, :2])


NAN = np.where(X == 5, np.nan, X)
REFUSED_NPZ = {
    "keys": ({"a": X, "b": X}, ValueError, "holds a, b; expected x and y, or x_train, y_train and perhaps"),
    "nothing": ({}, ValueError, "holds nothing; expected x and y"),
    "more keys": ({"x": X, "y": Y, "z": Y}, ValueError, "holds x, y, z; expected x and y"),
    "both kinds": ({"x": X, "y": Y, "x_train": X, "y_train": Y}, ValueError, "holds x, y, x_train, y_train; expected"),
    "y alone": ({"x_train": X, "y_train": Y, "y_test": Y}, ValueError, "holds x_train, y_train, y_test; expected"),
    "no targets": ({"x": X}, ValueError, "one.npz: there are no targets; expected y beside x"),
    "objects": ({"x": X, "y": Y.astype(object)}, ValueError, "one.npz holds Python objects, .*: expected plain arrays"),
    "complex": ({"x": X * 1j, "y": Y}, TypeError, "x must hold real numbers; got dtype complex128"),
    "complex y": ({"x": X, "y": X[:, 0] * 1j}, TypeError, "y must hold labels or real numbers; got dtype complex128"),
    "text": ({"x": Y[:, None], "y": Y}, TypeError, "x must hold real numbers; got dtype <U1"),
    "rank": ({"x": X[0], "y": Y}, ValueError, r"x must have examples along its first axis .*; got \(3,\)"),
    "empty": ({"x": X[:0], "y": Y[:0]}, ValueError, r"x must have examples along its first axis .*; got \(0, 3\)"),
    "lengths": ({"x": X, "y": Y[:3]}, ValueError, r"y must have a row for each of 4 examples of x; got shape \(3,\)"),
    "y of rank 3": ({"x": X, "y": X.reshape(4, 3, 1)}, ValueError, r"y must have a row .* got shape \(4, 3, 1\)"),
    "NaN": ({"x": NAN.reshape(4, 1, 3), "y": Y}, ValueError, r"x must hold .*float32 can hold; got nan at \[1, 0, 2\]"),
    "too large": (
        {"x": X * 1e300, "y": Y},
        ValueError,
        r"x must hold numbers that float32 can hold; got 1e.300 at \[0, 1",
    ),
    "dtypes": (
        {"x_train": X.astype(np.uint8), "y_train": Y, "x_test": X, "y_test": Y},
        ValueError,
        "one.npz, test part: x must be uint8 in every part or in none",
    ),
    "widths": (
        {"x_train": X, "y_train": Y, "x_val": X[:, :2], "y_val": Y},
        ValueError,
        "one.npz, validation part: 2 features; expected 3 as in the training part",
    ),
    "targets": (
        {"x_train": X, "y_train": X, "x_test": X, "y_test": X[:, :2]},
        ValueError,
        "one.npz, test part: 2 targets; expected 3 as in the training part",
    ),
    "unseen": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": ["a", "b", "bird", "a"]},
        ValueError,
        "one.npz, test part: label 'bird' in row 2 is not among the classes of the training part: a, b",
    ),
}


@pytest.mark.parametrize("case", REFUSED_NPZ)
def test_refused_npz(tmp_path, case):
    arrays, error, message = REFUSED_NPZ[case]
    np.savez(tmp_path / "one.npz", **arrays)
    with pytest.raises(error, match=message):
        load(tmp_path / "one.npz")


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "one.npz"
    for content in (b"", b"hello", pickle.dumps([1, 2])):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"is no .npz file: expected an archive of arrays as numpy.savez writes it"
        ):
            read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "hello")
    with pytest.raises(ValueError, match=r"is no .npz file: expected arrays alone; got x"):
        read_npz(path)
    buffer = io.BytesIO()
    np.savez(buffer, x=X, y=X)
    content = bytearray(buffer.getvalue())
    content[200] ^= 255
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is a damaged .npz file: Bad CRC-32"):
        read_npz(path)


def openml(monkeypatch, **changes):
    """Stand in for OpenML; what was asked for is kept in the list that comes back."""
    asked = []
    bunch = Bunch(data=X, target=Y.astype(object), feature_names=["p", "q", "r"], target_names=["kind"], categories={})
    bunch.update(changes)

    def fetch_openml(**options):
        asked.append(options)
        if "error" in changes:
            warnings.warn("A network error occurred while downloading it. Retrying...", stacklevel=2)
            raise changes["error"]
        return bunch

    monkeypatch.setattr(datasets, "fetch_openml", fetch_openml)
    return asked


def test_openml(monkeypatch):
    asked = openml(monkeypatch, categories={"p": ["no", "yes"], "kind": ["a", "b", "c"]})
    (plants,) = load("openml:plants").values()
    assert (plants.name, plants.feature_names, plants.target_names) == ("openml:plants", ("p", "q", "r"), ("kind",))
    assert (plants.class_names, plants.y.tolist()) == (("a", "b"), [1, 0, 1, 0])
    np.testing.assert_array_equal(plants.x, X)
    load("openml:plants:3")
    load("openml:61")
    shared = {"as_frame": False, "parser": "liac-arff"}
    assert asked == [{"name": "plants"} | shared, {"name": "plants", "version": 3} | shared, {"data_id": 61} | shared]
    openml(monkeypatch, target=X[:, 0])
    np.testing.assert_array_equal(load("openml:plants")["train"].y, X[:, :1])


REFUSED_OPENML = {
    "network": ({"error": URLError("no route")}, OSError, "fetched, which needs a network: <urlopen error no route>$"),
    "name": ({"error": ValueError("No\nsuch set")}, ValueError, "^openml:plants: No such set$"),
    "categories": (
        {"categories": {"q": ["a", "b", "c"]}},
        ValueError,
        "openml:plants: feature 'q' holds categories without order; expected numbers",
    ),
    "sparse": ({"data": [X]}, ValueError, "openml:plants is sparse; expected a table with all its numbers"),
    "no target": ({"target": None}, ValueError, "openml:plants names no target to predict"),
    "missing": ({"data": NAN}, ValueError, "openml:plants: a value is missing in row 1, feature 'r'"),
    "too large": ({"data": X * 1e300}, ValueError, "openml:plants: float32 cannot hold 1e.300 in row 0, feature 'q'"),
    "missing label": (
        {"target": np.array(["a", None, "b", "a"], object)},
        ValueError,
        "openml:plants: the target is missing in row 1",
    ),
    "missing number": ({"target": NAN[:, 2]}, ValueError, "openml:plants: the target is missing in row 1"),
}


@pytest.mark.parametrize("case", REFUSED_OPENML)
def test_refused_openml(monkeypatch, case):
    changes, error, message = REFUSED_OPENML[case]
    openml(monkeypatch, **changes)
    with pytest.raises(error, match=message):
        load("openml:plants")


@pytest.mark.parametrize("name", ["openml:", "openml:a:", "openml:a:b", "openml:61:2"])
def test_refused_openml_names(name):
    with pytest.raises(ValueError, match=f"data must be openml:NAME, openml:NAME:VERSION or openml:ID; got '{name}'"):
        data.read_openml(name)
