"""Tables as text, further data that is to fit, and data to predict from."""

import gzip

import numpy as np
import pytest

from funcnet import data
from funcnet.data import load, load_as, read_csv, read_features, schema

FLOWERS = "length,width,kind\n1,2,rose\n3,4.5,lily\n-5e1,6,rose\n"
X = [[1, 2], [3, 4.5], [-50, 6]]


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv", pack=bytes):
        (tmp_path / name).write_bytes(pack(text.encode()))
        return tmp_path / name

    return write


@pytest.mark.quick
def test_a_table(write):
    table = read_csv(write(FLOWERS))
    assert (table.x.dtype, table.x.tolist()) == (np.float32, X)
    assert (table.feature_names, table.target_names) == (("length", "width"), ("kind",))
    assert table.y.tolist() == ["rose", "lily", "rose"]
    assert table.rows.tolist() == [2, 3, 4]
    assert not table.scaled
    flowers = load(write(FLOWERS))["train"]
    assert (flowers.name, flowers.class_names, flowers.y.tolist()) == ("table.csv", ("lily", "rose"), [1, 0, 1])


SPELLINGS = {
    "semicolons": FLOWERS.replace(",", ";"),
    "tabs": FLOWERS.replace(",", "\t"),
    "spaces": FLOWERS.replace(",", " , "),
    "a mark of byte order": "\ufeff" + FLOWERS,
    "Windows": FLOWERS.replace("\n", "\r\n"),
    "no last newline": FLOWERS.strip(),
    "quotes": FLOWERS.replace("rose", '"rose"').replace("length", '"length"'),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", SPELLINGS)
def test_spellings(write, case, pack):
    table = read_csv(write(SPELLINGS[case], "table.tsv", pack))
    assert table.x.tolist() == X
    assert table.feature_names == ("length", "width")
    assert table.y.tolist() == ["rose", "lily", "rose"]


def test_empty_lines_count_as_lines(write):
    table = read_csv(write("\n\na,b\n\n1,2\n  \n3,4\n"))
    assert table.rows.tolist() == [5, 7]
    table = read_csv(write('a,b\n1,"x\ny"\n3,z\n'))
    assert (table.y.tolist(), table.rows.tolist()) == (["x\ny", "z"], [3, 4])


@pytest.mark.parametrize(
    ("target", "place"),
    [("kind", 2), ("length", 0), ("2", 1), (2, 1), (None, 2)],
)
def test_the_target_column(write, target, place):
    table = read_csv(write("length,width,kind\n1,2,3\n4,5,6\n"), target)
    others = [i for i in range(3) if i != place]
    assert table.y.tolist() == [str(1 + place), str(4 + place)]
    assert table.x.tolist() == [[1 + i for i in others], [4 + i for i in others]]
    assert table.target_names == (("length", "width", "kind")[place],)


def test_a_name_comes_before_a_number(write):
    assert read_csv(write("2,1,x\n5,6,7\n"), "1", "yes").y.tolist() == ["6"]


HEADERS = {
    "no cell is a number": ("a,b\n1,2\n3,4\n", {}, 1),
    "all numbers": ("5,6\n1,2\n3,4\n", {}, 0),
    "all numbers, told": ("5,6\n1,2\n3,4\n", {"header": "yes"}, 1),
    "text labels": ("5,rose\n1,lily\n", {}, 0),
    "text labels first": ("rose,0,1\nlily,2,3\n", {"target": 1}, 0),
    "numbers for names": ("0,1,label\n1,2,3\n", {}, 1),
    "numbers for names, told otherwise": ("0,1,label\n1,2,3\n", {"header": "no"}, 0),
    "numbers for names, target first": ("label,0,1\n1,2,3\n", {"target": "label"}, 1),
}


@pytest.mark.parametrize("case", HEADERS)
def test_what_is_a_header(write, case):
    text, options, lines = HEADERS[case]
    table = read_csv(write(text), **options)
    assert len(table.x) == len(table.y) == len(text.splitlines()) - lines
    assert bool(table.feature_names) == bool(table.target_names) == bool(lines)


MANY = ",".join(f"c{i}" for i in range(12))
REFUSED = {
    "empty": ("", {}, "table.csv is empty; expected a table"),
    "empty lines": ("\n\n", {}, "table.csv is empty; expected a table"),
    "header alone": ("a,b\n", {}, "table.csv has a header and no rows"),
    "one column": ("a\n1\n", {}, "table.csv: a single column; expected features and a target, separated by comma"),
    "ragged": ("a,b\n1,2\n\n1\n", {}, "table.csv, row 4: 1 cells; expected 2 as in the first row"),
    "empty cell": ("a,b\n1,2\n,2\n", {}, "table.csv, row 3, column 'a': a value is missing$"),
    "NA": ("a,b\n1,2\nn/A,2\n", {}, r"table.csv, row 3, column 'a': a value is missing \(n/A\)"),
    "missing label": ("a,b\n1,x\n1, ?\n", {}, r"table.csv, row 3, column 'b': a value is missing \(\?\)"),
    "no header": ("1,2\n3,\n", {}, "table.csv, row 2, column 2: a value is missing$"),
    "text": (
        "a,b,c\n1,red,x\n",
        {},
        "row 2, column 'b': expected a number that float32 can hold; got 'red'; if it is what",
    ),
    "underscore": ("a,b\n1_000,x\n", {}, "row 2, column 'a': expected a number that float32 can hold; got '1_000'"),
    "infinite": ("a,b\n-inf,x\n", {}, "row 2, column 'a': expected a number that float32 can hold; got '-inf'"),
    "too large": ("a,b\n1e39,x\n", {}, "row 2, column 'a': expected a number that float32 can hold; got '1e39'"),
    "twice": ("a,b,a\n1,2,3\n", {}, "table.csv: several columns have the name 'a'"),
    "no name": (",b,c\n0,2,3\n", {}, "table.csv: column 1 has no name; leave it out if it numbers the rows"),
    "no such name": ("a,b\n1,2\n", {"target": "c"}, "table.csv: no column 'c' for the target; there are: a, b"),
    "many": (f"{MANY}\n{MANY}", {"target": "c"}, r"there are: c0, c1, .*, c9, … \(12 in all\)"),
    "no such number": ("1,2\n", {"target": 3}, "table.csv: no column 3 for the target; there are 2, without names"),
    "number 0": ("1,2\n", {"target": 0}, "table.csv: no column 0 for the target; there are 2, without names"),
    "huge cell": (f"a,b\n{'1' * 140000},2\n", {}, "table.csv, row 2: field larger than field limit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_tables(write, case):
    text, options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        read_csv(write(text), **options)


def test_refused_files(tmp_path, write):
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none.csv"):
        read_csv(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("a,b\n1,Bäume\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.csv is no text in UTF-8: invalid continuation byte"):
        read_csv(tmp_path / "latin.csv")
    packed = gzip.compress(FLOWERS.encode())[:-9]
    (tmp_path / "half.csv.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"half.csv.gz is a damaged gzip file: "):
        load(tmp_path / "half.csv.gz")
    with pytest.raises(ValueError, match=r"table.csv: y must hold at least 2 classes to learn from; got only '7'"):
        load(write("a,b\n1,7\n2,7\n"))


@pytest.mark.bad_input
@pytest.mark.parametrize("header", ["0,1,2,3", "1,2,3,4", "0,1,2,label"])
def test_a_header_that_counts_the_columns(write, header):
    """As pandas writes it where columns have no names."""
    table = read_csv(write(f"{header}\n0.5,1.5,2.5,3\n4,5,6,7\n"))
    assert table.x.tolist() == [[0.5, 1.5, 2.5], [4, 5, 6]]
    assert read_csv(write("1,2\n3,4\n")).x.tolist() == [[1], [3]]
    assert len(read_csv(write("1,2,4\n3,4,5\n")).x) == 2
    assert len(read_csv(write(f"{header}\n0.5,1.5,2.5,3\n"), header="no" if "l" not in header else "auto").x) in (1, 2)


def test_a_refused_header(write):
    with pytest.raises(ValueError, match=r"header must be auto, yes or no; got 'maybe'"):
        read_csv(write(FLOWERS), header="maybe")


@pytest.fixture
def flowers(write):
    return load(write(FLOWERS))["train"]


@pytest.fixture
def nameless(write):
    return load(write("1,2,rose\n3,4.5,lily\n"))["train"]


def test_further_examples_by_name(write, flowers):
    more = load_as(write("kind,note,width,length\nlily,x,7,8\nrose,,9,10\n", "more.csv"), flowers)
    assert (more.name, more.x.dtype, more.x.tolist()) == ("more.csv", np.float32, [[8, 7], [10, 9]])
    assert more.y.tolist() == [0, 1]
    assert (more.class_names, more.feature_names) == (flowers.class_names, flowers.feature_names)
    other = load_as(write("species,width,length\nlily,7,8\n"), flowers, target="species")
    assert (other.x.tolist(), other.y.tolist()) == ([[8, 7]], [0])


def test_further_examples_by_number(write, nameless, flowers):
    more = load_as(write("rose,7,8\n"), nameless, target=1)
    assert (more.x.tolist(), more.y.tolist()) == ([[7, 8]], [1])
    assert load_as(write("7,8,lily\n", "t.txt"), flowers).y.tolist() == [0]
    assert load_as(write(FLOWERS), nameless).x.tolist() == X


def test_numbers_to_predict(write):
    prices = load(write("a,b,price\n1,2,0.5\n3,4,1\n"))["train"]
    more = load_as(write("price,b,a\n7,8,9\n"), prices)
    assert (more.x.tolist(), more.y.dtype, more.y.tolist()) == ([[9, 8]], np.float32, [[7]])
    x, y = read_features(write("price,b,a\n?,8,9\n3,8,9\n"), schema(prices))
    assert x.tolist() == [[9, 8], [9, 8]]
    np.testing.assert_array_equal(y, [[np.nan], [3]])


def test_further_examples_that_do_not_fit(write, flowers, nameless, tmp_path):
    with pytest.raises(ValueError, match=r"table.csv: features are missing: length; there are: width, kind"):
        load_as(write("width,kind\n1,rose\n"), flowers)
    with pytest.raises(ValueError, match=r"table.csv: 4 columns; expected 2 features, alone or with a target"):
        load_as(write("5,2,3,rose\n"), flowers)
    with pytest.raises(ValueError, match=r"table.csv has no targets; expected them beside its features"):
        load_as(write("width,length\n1,2\n"), flowers)
    with pytest.raises(ValueError, match=r"table.csv: label 'bird' in row 2 is not among .* part: lily, rose"):
        load_as(write("1,2,rose\n1,2,bird\n"), nameless)
    with pytest.raises(ValueError, match=r"table.csv: no column 'sort' for the target; there are: length, width, kind"):
        load_as(write(FLOWERS), flowers, target="sort")
    with pytest.raises(ValueError, match=r"table.csv: column 'width' is a feature; it cannot be the target"):
        load_as(write(FLOWERS), flowers, target=2)
    np.savez(tmp_path / "wide.npz", x=np.ones((2, 12)), y=[0, 1])
    with pytest.raises(ValueError, match=r"wide.npz has 12 features; expected 2"):
        load_as(tmp_path / "wide.npz", nameless)
    np.savez(tmp_path / "deep.npz", x=np.ones((2, 2)), y=np.eye(2))
    with pytest.raises(ValueError, match=r"deep.npz has 2 targets; expected 1"):
        load_as(tmp_path / "deep.npz", nameless)
    with pytest.raises(ValueError, match=r"iris: features are missing: length, width; there are: sepal length"):
        load_as("iris", flowers)


def test_features_to_predict_from(write, flowers, nameless):
    x, y = read_features(write("note,width,length\nx,7,8\n"), schema(flowers))
    assert (x.dtype, x.tolist(), y) == (np.float32, [[8, 7]], None)
    x, y = read_features(write("kind,width,length\nbird,7,8\nrose,1,2\n,1,2\n"), schema(flowers))
    assert (x.tolist(), y.tolist()) == ([[8, 7], [2, 1], [2, 1]], [-1, 1, -1])
    for form in (schema(flowers), schema(nameless)):
        x, y = read_features(write("7,8\n9,10\n"), form)
        assert (x.tolist(), y) == ([[7, 8], [9, 10]], None)
        x, y = read_features(write("rose,7,8\n"), form, target=1)
        assert (x.tolist(), y.tolist()) == ([[7, 8]], [1])
    assert read_features(write("width,length,kind\n7,8,bird\n"), schema(flowers))[1] is None


def test_a_header_of_numbers_is_known_by_the_features(write):
    numbered = load(write("0,1,label\n1,2,3\n1,2,4\n"))["train"]
    assert read_features(write("1,0\n7,8\n"), schema(numbered))[0].tolist() == [[8, 7]]


def test_the_part_to_predict(tmp_path, nameless):
    x = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "parts.npz", x_train=x, y_train=["a", "b", "rose"], x_test=x[:1])
    got, y = read_features(tmp_path / "parts.npz", schema(nameless))
    assert (got.tolist(), y) == ([[0, 1]], None)
    got, y = read_features(tmp_path / "parts.npz", schema(nameless), part="train")
    assert (len(got), y.tolist()) == (3, [-1, -1, 1])
    with pytest.raises(ValueError, match=r"parts.npz has no validation part; it has: train, test"):
        read_features(tmp_path / "parts.npz", schema(nameless), part="validation")


def test_bundled_sets_to_predict(tmp_path):
    digits = load("digits")["train"]
    x, y = read_features("digits", schema(digits))
    np.testing.assert_array_equal(x, digits.x)
    np.testing.assert_array_equal(y, digits.y)
    with pytest.raises(ValueError, match=r"iris: features are missing: pixel_0_0, .*; there are: sepal length"):
        read_features("iris", schema(digits))
    np.savez(tmp_path / "ink.npz", x=digits.x[:3] * 16)
    with pytest.raises(ValueError, match=r"ink.npz: features must be from 0 to 1 as in training; got 0 to 1[56]"):
        read_features(tmp_path / "ink.npz", schema(digits))
    with pytest.raises(ValueError, match=r"folder goes with data 'mnist' alone"):
        read_features("iris", schema(data.take(digits, np.arange(3))), folder=tmp_path)
