"""Bundled sets, targets as labels or numbers, parts, standardisation, and what `load` refuses."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from funcnet import data
from funcnet.data import load, split, stratified

DIGITS = load("digits")["train"]
SHAPES = {
    "digits": ((1797, 64), (1797,), 10),
    "iris": ((150, 4), (150,), 3),
    "wine": ((178, 13), (178,), 3),
    "breast_cancer": ((569, 30), (569,), 2),
    "diabetes": ((442, 10), (442, 1), 0),
    "linnerud": ((20, 3), (20, 3), 0),
}


@pytest.mark.quick
def test_digits():
    assert DIGITS.x.shape == (1797, 64)
    assert DIGITS.x.dtype == np.float32
    assert (DIGITS.x.min(), DIGITS.x.max()) == (0, 1)
    assert DIGITS.y.dtype == np.int32
    assert sorted(set(DIGITS.y.tolist())) == list(range(10))
    assert DIGITS.class_names == tuple("0123456789")


@pytest.mark.parametrize("name", data.BUNDLED)
def test_bundled(name):
    (dataset,) = load(name).values()
    x, y, classes = SHAPES[name]
    assert (dataset.name, dataset.x.shape, dataset.y.shape, len(dataset.class_names)) == (name, x, y, classes)
    assert (dataset.x.dtype, dataset.y.dtype) == (np.float32, np.int32 if classes else np.float32)
    assert len(dataset.feature_names) == x[1]
    assert len(dataset.target_names) == (1 if len(y) == 1 else y[1])
    assert dataset.scaled == (name == "digits")
    assert all(type(each) is str for names in dataset[3:6] for each in names)
    if classes:
        assert set(dataset.y.tolist()) == set(range(classes))


def test_names_and_numbers_are_those_of_the_source():
    iris, cancer, diabetes, linnerud = (load(name)["train"] for name in ("iris", *data.BUNDLED[3:]))
    assert iris.class_names == ("setosa", "versicolor", "virginica")
    assert iris.feature_names[0] == "sepal length (cm)"
    np.testing.assert_allclose(iris.x[0], [5.1, 3.5, 1.4, 0.2], rtol=1e-6)
    assert np.bincount(cancer.y).tolist() == [212, 357]
    assert cancer.class_names == ("malignant", "benign")
    assert (diabetes.x[0, 0], diabetes.y[0, 0], diabetes.target_names) == (59, 151, ("progression",))
    assert linnerud.target_names == ("Weight", "Waist", "Pulse")
    assert linnerud.y[0].tolist() == [191, 36, 50]


def test_the_task_may_be_told():
    numbers = load("digits", task="regression")["train"]
    np.testing.assert_array_equal(numbers.y, DIGITS.y[:, None].astype(np.float32))
    assert numbers.class_names == ()
    assert load("digits", task="classification")["train"].class_names == DIGITS.class_names
    classes = load("diabetes", task="classification")["train"]
    assert classes.class_names[:3] == ("25", "31", "37")
    assert classes.y.shape == (442,)
    with pytest.raises(ValueError, match=r"iris: y must hold numbers that float32 can hold; got 'setosa' in row 0"):
        load("iris", task="regression")
    with pytest.raises(ValueError, match=r"linnerud: y must be one column of labels for classification; got shape"):
        load("linnerud", task="classification")


LABELS = {
    "text": (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
    "whole numbers": ([10, 9, 10], ("9", "10"), [1, 0, 1]),
    "whole numbers as text": (["10", " 9", "010"], ("9", "10"), [1, 0, 1]),
    "text beside whole numbers": (["10", "x", "9"], ("10", "9", "x"), [0, 2, 1]),
    "truth values": ([True, False, True], ("False", "True"), [1, 0, 1]),
    "bytes": ([b"dog", b"cat", b"dog"], ("cat", "dog"), [1, 0, 1]),
    "objects": (np.array(["dog", "cat", "dog"], object), ("cat", "dog"), [1, 0, 1]),
    "a column": ([["b"], ["a"], ["b"]], ("a", "b"), [1, 0, 1]),
}


@pytest.mark.parametrize("case", LABELS)
def test_what_becomes_labels(case):
    raw, names, labels = LABELS[case]
    y, class_names = data.encode(np.asarray(raw))
    assert y.dtype == np.int32
    assert y.tolist() == labels
    assert class_names == names
    assert data.encode_as(np.asarray(raw)[::-1], names).tolist() == labels[::-1]


NUMBERS = {
    "numbers": ([1.0, 2.0], [[1], [2]]),
    "numbers as text": (["1", "2.0"], [[1], [2]]),
    "an exponent": (["1e3", "2"], [[1000], [2]]),
    "several columns": ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_what_becomes_numbers(case):
    raw, numbers = NUMBERS[case]
    y, class_names = data.encode(np.asarray(raw))
    assert y.dtype == np.float32
    assert y.tolist() == numbers
    assert class_names == ()


def test_labels_written_differently_are_the_same_class():
    assert data.encode(np.array([1.0, 0.0, 2.5]), "classification")[1] == ("0", "1", "2.5")
    assert data.encode_as(np.array(["01", "2.5", "0.0"]), ("0", "1", "2.5")).tolist() == [1, 2, 0]


def test_unknown_targets_may_be_let_through():
    assert data.encode_as(np.array(["cat", "bird"]), ("cat", "dog"), unknown=True).tolist() == [0, -1]
    np.testing.assert_array_equal(data.encode_as(np.array(["1.5", "?"]), (), unknown=True), [[1.5], [np.nan]])


REFUSED = {
    "one class": (["a", "a"], "auto", "y must hold at least 2 classes to learn from; got only 'a'"),
    "one number": ([[1.0, 2.5], [2.0, 2.5]], "auto", "y must hold different numbers .* target 2 is always 2.5"),
    "text for numbers": (["1", "x"], "regression", "y must hold numbers that float32 can hold; got 'x' in row 1"),
    "too large": ([1.0, 1e300], "auto", "y must hold numbers that float32 can hold; got 1e.300 in row 1"),
    "NaN": ([1.0, np.nan], "auto", "y must hold numbers that float32 can hold; got nan in row 1"),
    "NaN for a class": ([1.0, np.nan], "classification", "y must be finite; got nan in row 1"),
    "a mixture": (["0.5", "1.5", "o.7"], "auto", r"y mixes numbers such as 0.5 with text such as 'o.7' \(row 2\)"),
    "columns for classes": (
        [[1, 2], [3, 4]],
        "classification",
        r"one column of labels for classification; got shape \(2, 2\)",
    ),
    "no rows": (np.zeros((0,)), "auto", r"y must have a row for each example; got shape \(0,\)"),
    "rank 3": (np.zeros((2, 2, 2)), "auto", r"y must have a row for each example; got shape \(2, 2, 2\)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_targets(case):
    raw, task, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        data.encode(np.asarray(raw), task)


def test_refused_kinds_and_unseen_labels():
    with pytest.raises(TypeError, match=r"y must hold labels or real numbers; got dtype complex128"):
        data.encode(np.array([1j, 2]))
    with pytest.raises(ValueError, match=r"label 'bird' in row 12 is not among the classes .*part: cat, dog$"):
        data.encode_as(np.array(["cat", "bird"]), ("cat", "dog"), rows=np.array([11, 12]))
    with pytest.raises(ValueError, match=r"label '99' in row 0 .*: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … \(20 in all\)"):
        data.encode_as(np.array([99]), tuple(map(str, range(20))))
    with pytest.raises(ValueError, match=r"y must be one column of labels to tell classes; got shape \(1, 2\)"):
        data.encode_as(np.array([[1, 2]]), ("1", "2"))


def test_parts_are_disjoint_complete_and_stratified():
    y = DIGITS.y
    parts = stratified(y, seed=3)
    rows = np.concatenate(parts)
    assert sorted(rows.tolist()) == list(range(len(y)))
    assert [round(len(part) / len(y), 2) for part in parts] == [0.65, 0.15, 0.2]
    for part in parts:
        shares = np.bincount(y[part], minlength=10) / len(part)
        np.testing.assert_allclose(shares, np.bincount(y) / len(y), atol=0.005)


def test_the_same_seed_gives_the_same_parts():
    y = DIGITS.y
    np.testing.assert_array_equal(stratified(y, seed=3).test, stratified(y, seed=3).test)
    assert not np.array_equal(stratified(y, seed=3).test, stratified(y, seed=4).test)
    assert not np.array_equal(data.shuffled(90, seed=3).test, data.shuffled(90, seed=4).test)


def test_parts_are_two_cuts_of_scikit_learn():
    y, rows = DIGITS.y, np.arange(1797)
    rest, test = train_test_split(rows, test_size=0.2, stratify=y, random_state=5)
    train, validation = train_test_split(rest, test_size=0.15 / 0.8, stratify=y[rest], random_state=5)
    for got, expected in zip(stratified(y, seed=5), (train, validation, test), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.2), (0.3, 0.0), (0.0, 0.3), (0.0, 0.0)])
def test_a_share_of_0_is_an_empty_part(validation, test):
    for parts in (stratified(np.arange(90) % 3, 0, validation, test), data.shuffled(90, 0, validation, test)):
        assert sorted(np.concatenate(parts).tolist()) == list(range(90))
        assert abs(len(parts.validation) - 90 * validation) < 1
        assert abs(len(parts.test) - 90 * test) < 1


def test_split_keeps_the_parts_that_are_there():
    rows = stratified(DIGITS.y, seed=2)
    parts = split({"train": DIGITS}, seed=2)
    assert list(parts) == ["train", "validation", "test"]
    for part, places in rows._asdict().items():
        np.testing.assert_array_equal(parts[part].x, DIGITS.x[places])
        np.testing.assert_array_equal(parts[part].y, DIGITS.y[places])
    own = data.take(DIGITS, np.arange(7))
    parts = split({"train": DIGITS, "test": own}, seed=2)
    assert parts["test"] is own
    assert [len(part.y) for part in parts.values()] == [1527, 270, 7]
    parts = split({"train": DIGITS, "test": own, "validation": own}, seed=2)
    assert list(parts) == ["train", "validation", "test"]
    np.testing.assert_array_equal(parts["train"].x, DIGITS.x)
    assert list(split({"train": DIGITS}, seed=2, validation=0.0, test=0.5)) == ["train", "test"]
    assert [len(part.y) for part in split(load("diabetes"), seed=2).values()] == [286, 67, 89]


def test_refused_parts():
    shares = r"validation and test must be shares from 0, of sum below 1; got "
    for validation, test in ((0.5, 0.5), (-0.1, 0.2), (float("nan"), 0.2)):
        with pytest.raises(ValueError, match=shares):
            stratified(np.zeros(10, np.int32), seed=0, validation=validation, test=test)
        with pytest.raises(ValueError, match=shares):
            data.shuffled(10, 0, validation, test)
    y = np.array([0] * 40 + [1] * 2, np.int32)
    dataset = data.Dataset("birds", np.zeros((42, 1), np.float32), y, ("cat", "bird"))
    message = r"class 'bird' has 2 rows; 3 parts need at least 3 of each class \(a share of 0 does without a part\)"
    with pytest.raises(ValueError, match=message):
        split({"train": dataset}, seed=0)
    assert len(split({"train": dataset}, seed=0, validation=0.0)["test"].y) == 9
    with pytest.raises(ValueError, match=r"class '1' has 4 rows; 3 parts need at least 5 .*the task regression"):
        stratified(np.array([0] * 40 + [1] * 4), 0, validation=0.1, test=0.8)
    with pytest.raises(ValueError, match=r"9 rows of 3 classes are too few for shares of 0.15 and 0.2"):
        stratified(np.arange(9) % 3, 0)
    with pytest.raises(ValueError, match=r"2 rows are too few for shares of 0.15 and 0.2"):
        data.shuffled(2, 0)


def test_standardisation():
    x = np.random.default_rng(0).normal(1e4, [1, 5, 0], (50, 3)).astype(np.float32)
    s = data.fit_standardisation(x)
    assert (s.mean.dtype, s.scale.dtype) == (np.float64, np.float64)
    np.testing.assert_allclose(s.mean, x.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(s.scale, [*x[:, :2].astype(np.float64).std(axis=0), 1], rtol=1e-9)
    z = data.standardise(s, x)
    assert (z.dtype, z.shape) == (np.float32, x.shape)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0), [1, 1, 0], atol=1e-6)
    back = data.restore(s, z)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, x, rtol=1e-7)


def test_refused_sources():
    bundled = "digits, iris, wine, breast_cancer, diabetes, linnerud"
    kinds = r"a file ending in .csv.*or .npz, or a folder of .npy files"
    message = rf"data must be one of {bundled}, mnist, openml:NAME, {kinds}; got 'digit'"
    with pytest.raises(ValueError, match=message):
        load("digit")
    with pytest.raises(ValueError, match=rf"data must be one of {bundled}; got 'mnist'"):
        data.load_bundled("mnist")
    with pytest.raises(FileNotFoundError, match=r"no such file: nowhere/iris.csv"):
        load("nowhere/iris.csv")
    with pytest.raises(ValueError, match=r"target goes with a .csv, .tsv or .txt file alone; got target 'x' with data"):
        load("iris", target="x")
    with pytest.raises(ValueError, match=r"header goes with a .csv, .tsv or .txt file alone; got header 'no'"):
        load("iris", header="no")
    with pytest.raises(ValueError, match=r"folder goes with data 'mnist' alone; got folder '/tmp' with data 'iris'"):
        load("iris", folder="/tmp")
    with pytest.raises(ValueError, match=r"data 'mnist' needs folder .* with train-images-idx3-ubyte, .*t10k"):
        load("mnist")


@pytest.mark.bad_input
def test_a_refused_task():
    for call in (lambda: load("iris", task="both"), lambda: data.encode(np.array([1, 2]), "both")):
        with pytest.raises(ValueError, match=r"task must be auto, classification or regression; got 'both'"):
            call()
