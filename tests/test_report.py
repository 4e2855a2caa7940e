"""The page on a run: well-formed, self-contained, escaped, and true to the numbers of the run."""

import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import jax
import matplotlib.image
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, r2_score, recall_score
from test_runs import SMALL, trained

from funcnet import checking, runs
from funcnet.data import Dataset
from funcnet.runs import Config, Trained, check_report, measure, write_report
from funcnet.runs.config import DataOptions, NetworkOptions, OptimizerOptions, TrainingOptions
from funcnet.runs.model import Predictions, predict
from funcnet.runs.outcome import Outcome, class_shares, confusion_counts, most_uncertain, most_wrong
from funcnet.runs.proof import Proof
from funcnet.runs.report import report_page
from funcnet.runs.report.judged import confusion_section
from funcnet.runs.report.pixels import diverging, grey, png, side_of
from funcnet.runs.setup import learning_rates, set_up
from funcnet.training import Privacy, Sweep

HOSTILE = '"><script src="//evil">alert(1)</script> & $\\frac$ \x00\ud800'
VOID = ("meta", "img", "br")


def proof_of(net):
    """As if proven: the errors of layer i are i and i + ½."""

    def leaf(dtype, error):
        return checking.LeafComparison("", (), dtype, error, 1.0, (), 0.0, 0.0)

    errors = [0.25] + [error for i in range(1, net.n_layers + 1) for error in (i, i + 0.5)]
    return Proof(*(checking.Comparison(tuple(leaf(dtype, e) for e in errors), ()) for dtype in ("float64", "float32")))


def finished(config, setup_change=None):
    """A short run with all that its page needs."""
    setup, result, model = trained(config)
    setup = setup if setup_change is None else setup_change(setup)
    model = setup.model(result.state.params)
    summary = {
        "examples": {part: len(dataset.x) for part, dataset in setup.parts.items()},
        **{part: measure(model, dataset) for part, dataset in setup.parts.items()},
        "epochs": 3, "epochs_wanted": 3, "stopped": "epochs", "kept_epoch": result.epoch, "failure": None,
        "privacy": None, "compile_seconds": 1.5, "epoch_seconds": 0.25, "networks": 1, "examples_a_second": 1234.0,
        "training_seconds": 0.75, "seconds": 4.5,
    }  # fmt: skip
    return Trained(setup, result, model, summary, proof_of(setup.net))


def config(data, hidden=SMALL, **training):
    return Config(DataOptions(data), hidden, training=TrainingOptions(epochs=3, **training))


@pytest.fixture(scope="module")
def standard():
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="module")
def digits(standard):
    return finished(config("digits"))


@pytest.fixture(scope="module")
def linnerud(standard):
    return finished(config("linnerud"))


@pytest.fixture(scope="module")
def wine(standard):
    """Without a test part, and with names that would break out of a page."""

    def renamed(setup):
        names = (HOSTILE, "b", "c")
        parts = {
            part: dataset._replace(name=HOSTILE, class_names=names, feature_names=(HOSTILE,) * 13)
            for part, dataset in setup.parts.items()
        }
        return setup._replace(parts=parts)

    data = DataOptions("wine", test_share=0.0)
    return finished(Config(data, SMALL, training=TrainingOptions(epochs=3)), renamed)


class Nesting(HTMLParser):
    """Whether the tags of HTML open and close in turn, and all that refers to somewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.references += [(tag, value) for name, value in given.items() if name in ("src", "href", "xlink:href")]
        self.ids += [given["id"]] if "id" in given else []

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def tree(page):
    """The page as XML, after what every page must be."""
    text = page.decode()
    assert text.startswith("<!DOCTYPE html>\n")
    found = Nesting()
    found.feed(text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    for tag, value in found.references:
        assert value.startswith("data:image/png;base64,") or value[1:] in found.ids, (tag, value)
    assert not re.search(r"https?://|@import|url\((?!#)|<(script|link|iframe|object)", text)
    root = ElementTree.fromstring(text)
    assert root.get("lang") == "en"
    for image in root.iter("img"):
        assert "alt" in image.attrib
    for drawing in root.iter("svg"):
        assert drawing.get("aria-label")
    for table in root.iter("table"):
        assert table.find("caption") is not None
        assert {head.get("scope") for head in table.iter("th")} <= {"col", "row"}
    return root


def words(node):
    return "".join(node.itertext())


def facts(root):
    return {words(pair[0]): words(pair[1]) for pair in root.iter("div") if pair.find("dt") is not None}


def section(root, name):
    return next(part for part in root.iter("section") if part.get("id") == name)


def rows(table, part="tbody"):
    return [[words(cell) for cell in row] for row in table.iterfind(f"{part}/tr")]


def test_the_numbers_are_those_of_the_run(digits):
    root = tree(report_page(digits))
    shown = facts(root)
    for part in ("test", "validation", "train"):
        assert shown[f"{part} accuracy"] == f"{digits.summary[part]['accuracy']:.2%}"
        assert shown[f"examples, {part}"] == f"{len(digits.setup.parts[part].x):,}"
    assert shown["validation loss"] == f"{digits.result.history['validation_loss'][-1]:.4f}"
    assert (shown["epochs"], shown["seconds in all"], shown["training examples a second"]) == ("3", "4.5", "1,234")
    assert (shown["to compile"], shown["of an epoch (mean)"], shown["of training"]) == ("1.50 s", "0.2500 s", "0.8 s")
    assert words(root.find("body/main/header/p[2]")).startswith("A network of 64 inputs, 6 hidden relu units and 10 cl")
    assert "460 parameters" in words(root.find("body/main/header"))  # 65 · 6 + 7 · 10
    assert [link.get("href")[1:] for link in root.iter("a")] == [part.get("id") for part in root.iter("section")]


def test_every_option_has_its_value(digits):
    options = facts(section(tree(report_page(digits)), "options"))
    given = digits.setup.config.flat()
    assert set(options) == set(given)
    assert {name for name, value in options.items() if value == "none"} == {k for k, v in given.items() if v is None}
    assert (options["learning_rate"], options["hidden"], options["batch_size"]) == ("0.002", "6", "32")


def test_the_confusion_matrix_is_scikit_learns(digits):
    table = section(tree(report_page(digits)), "confusion").find("div/table")
    test = digits.setup.parts["test"]
    labels = predict(digits.model, test.x).labels
    body = rows(table)
    counts = np.array([[int(cell) for cell in row[1:11]] for row in body])
    np.testing.assert_array_equal(counts, confusion_matrix(test.y, labels, labels=range(10)))
    assert counts.sum() == len(test.x) == sum(int(row[11]) for row in body)
    recall = recall_score(test.y, labels, average=None, labels=range(10), zero_division=np.nan)
    precision = precision_score(test.y, labels, average=None, labels=range(10), zero_division=np.nan)
    assert [row[12] for row in body] == [f"{share:.1%}" for share in recall]
    assert rows(table, "tfoot")[0][1:11] == ["–" if np.isnan(share) else f"{share:.1%}" for share in precision]
    assert [row[0] for row in body] == list(test.class_names)


def test_wrong_examples_are_wrong(digits):
    root = tree(report_page(digits))
    test = digits.setup.parts["test"]
    labels, values = predict(digits.model, test.x)
    most, uncertain = section(root, "examples").findall("div")
    assert len(most) == len(uncertain) == 16
    found = [re.match(r"example (\d+): (\S+), predicted (\S+)", image.get("alt")) for image in most.iter("img")]
    for number, true, said in (match.groups() for match in found):
        i = int(number) - 1
        assert (test.class_names[test.y[i]], test.class_names[labels[i]]) == (true, said)
        assert true != said
    places = [int(match[1]) - 1 for match in found]
    ahead = values[np.arange(len(labels)), labels] - values[np.arange(len(labels)), test.y]
    np.testing.assert_allclose(ahead[places], np.sort(ahead)[::-1][:16])
    leading = np.sort(values, axis=1)
    places = [int(image.get("alt").split()[1][:-1]) - 1 for image in uncertain.iter("img")]
    np.testing.assert_allclose((leading[:, -1] - leading[:, -2])[places], np.sort(leading[:, -1] - leading[:, -2])[:16])
    captions = [words(caption) for caption in uncertain.iter("figcaption")]
    for said, (second, first) in zip(captions, leading[places, -2:], strict=True):
        assert f"{first:.2f} against {second:.2f}" in said
    for image, place in zip(uncertain.iter("img"), places, strict=True):
        pixels = decoded(image)
        np.testing.assert_array_equal(pixels, np.round(255 * (1 - test.x[place].reshape(8, 8))))


def decoded(image):
    content = base64.b64decode(image.get("src").split(",")[1])
    return np.round(255 * matplotlib.image.imread(io.BytesIO(content)))


def test_units_are_the_first_layer(digits):
    units = section(tree(report_page(digits)), "units")
    w = np.asarray(digits.model.params[0].w)
    tiles = list(units.iter("img"))
    assert len(tiles) == 6
    pixels = decoded(tiles[2])
    assert pixels.shape == (8, 8, 4)
    mine = w[:, 2].reshape(8, 8)
    np.testing.assert_array_equal(pixels[..., 0] > pixels[..., 2], mine > 0)  # red is positive
    limit = np.quantile(abs(w), 0.995)
    np.testing.assert_allclose(pixels[..., 3] / 255, np.minimum(abs(mine) / limit, 1), atol=0.003)
    assert words(units.find("p[2]")) == f"−{limit:.2g}+{limit:.2g}"


def test_the_proof_stands_beside_what_is_allowed(digits):
    proof = section(tree(report_page(digits)), "proof")
    assert rows(proof.find("div/table")) == [
        ["loss", "", "0.25", "16", "0.25", "16"],
        ["1", "64\xa0×\xa06", "1.50", "16", "1.50", "16"],
        ["2", "6\xa0×\xa010", "2.50", "16", "2.50", "16"],
    ]


def test_residuals_of_several_targets(linnerud):
    root = tree(report_page(linnerud))
    test = linnerud.setup.parts["test"]
    values = predict(linnerud.model, test.x).values
    residuals = section(root, "residuals")
    table = rows(residuals.find("div/table"))
    assert [row[0] for row in table] == list(test.target_names)
    expected = r2_score(test.y, values, multioutput="raw_values")
    assert [row[1] for row in table] == [f"{r2:.4g}" for r2 in expected]
    errors = np.mean(abs(values.astype(float) - test.y), axis=0)
    assert [row[2] for row in table] == [f"{error:.4g}" for error in errors]
    assert len(list(residuals.iter("svg"))) == 6
    shown = facts(root)
    assert shown["test R²"] == f"{linnerud.summary['test']['r2']:.4g}"
    assert shown["test mean absolute error"] == f"{linnerud.summary['test']['mean_absolute_error']:.4g}"
    table = section(root, "examples").find("div/table")
    distance = np.mean(abs(values - test.y) / test.y.std(axis=0), axis=1)
    assert [int(row[0]) - 1 for row in rows(table)] == list(np.argsort(-distance))
    assert rows(table, "thead")[0][:3] == ["example", "true", "predicted"]
    assert not [part for part in root.iter("section") if part.get("id") in ("units", "sweep", "confusion")]


def test_hostile_names_are_text_and_the_validation_part_serves_without_a_test_part(wine):
    page = report_page(wine)
    assert b"<script" not in page
    root = tree(page)
    title = words(root.find("body/main/header/h1"))
    assert title == '"><script src="//evil">alert(1)</script> & $\\frac$ \ufffd\ufffd'
    confusion = section(root, "confusion")
    assert "Validation part" in words(confusion.find("p"))
    assert rows(confusion.find("div/table"))[0][0] == title
    counts = [int(cell) for row in rows(confusion.find("div/table")) for cell in row[1:4]]
    assert sum(counts) == len(wine.setup.parts["validation"].x)
    assert "test accuracy" not in facts(root)


def test_a_sweep_shows_its_networks(wine):
    history = {
        "validation_accuracy": np.array([[0.1, 0.1], [0.5, 0.75]]),
        "validation_loss": np.array([[2.0, 2.0], [1.0, 0.5]]),
        "train_loss": np.array([[2.0, 2.0], [0.9, 0.4]]),
    }
    sweep = Sweep(None, history, {"learning_rate": np.array([0.1, 0.01])}, 1, 1.0, np.ones(2))
    table = section(tree(report_page(wine._replace(sweep=sweep))), "sweep").find("div/table")
    assert rows(table) == [["0.01", "0.7500", "0.5000", "0.4000"], ["0.1", "0.5000", "1.0000", "0.9000"]]
    assert table.find("tbody/tr").get("class") == "best"


def test_a_private_run_shows_no_examples(digits):
    private = digits._replace(setup=digits.setup._replace(privacy=Privacy(1.0, 1.0, 1e-5)))
    summary = digits.summary | {"privacy": {"epsilon": 2.5, "delta": 1e-5, "noise_multiplier": 1.0, "max_norm": 1.0}}
    root = tree(report_page(private._replace(summary=summary)))
    assert facts(root)["ε at δ = 1e-05"] == "2.5"
    assert list(section(root, "examples").iter("img")) == []


def test_many_classes_are_told_by_their_mistakes():
    names = tuple(f"class {i}" for i in range(40))
    truth = np.arange(400, dtype=np.int32) % 40
    labels = np.where(np.arange(400) < 200, truth, 7).astype(np.int32)
    data = Dataset("many", np.zeros((400, 2), np.float32), truth, names)
    found = Outcome("test", data, Predictions(labels, np.eye(40)[labels]))
    tables = confusion_section(found).findall("div/table")
    mistakes, classes = (rows(table) for table in tables)
    assert len(mistakes) == len(classes) == 30
    assert mistakes[0] == ["class 0", "class 7", "5"]
    assert ["class 7", "10", "100.0%", "4.9%"] not in classes  # of the lowest recall, of which it has the highest
    assert classes[0] == ["class 0", "10", "50.0%", "100.0%"]


def test_shares_without_examples_are_none():
    counts = confusion_counts(np.array([0, 0, 2]), np.array([0, 2, 2]), 4)
    shares = class_shares(counts)
    np.testing.assert_array_equal(shares.recall, [0.5, np.nan, 1.0, np.nan])
    np.testing.assert_array_equal(shares.precision, [1.0, np.nan, 0.5, np.nan])


def test_order_of_examples_by_hand():
    values = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.45, 0.45], [0.8, 0.1, 0.1]])
    data = Dataset("some", np.zeros((4, 1), np.float32), np.array([0, 0, 2, 1], np.int32), ("a", "b", "c"))
    found = Outcome("test", data, Predictions(values.argmax(axis=1).astype(np.int32), values))
    assert list(most_wrong(found, 9)) == [3, 1, 2]
    assert list(most_uncertain(found, 2)) == [2, 0]


def test_pictures_of_pixels():
    shades = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    read = matplotlib.image.imread(io.BytesIO(png(shades)))
    np.testing.assert_array_equal(np.round(read * 255), shades)
    x = np.array([0.0, 1.0, 0.2, 2.0], np.float32)
    np.testing.assert_array_equal(grey(x, 2, ink=True), [[255, 0], [204, 0]])
    np.testing.assert_array_equal(grey(x, 2, ink=False), [[0, 255], [51, 255]])
    weights = diverging(np.array([0.5, -0.25, 0.0, 9.0]), 2, 0.5)
    np.testing.assert_array_equal(weights[..., 3], [[255, 128], [0, 255]])
    images = Dataset("i", np.zeros((3, 64), np.float32), np.zeros(3, np.int32), ("a",), scaled=True)
    assert side_of(images) == 8
    assert side_of(images._replace(scaled=False)) is None
    assert side_of(images._replace(x=np.zeros((3, 63), np.float32))) is None
    assert side_of(images._replace(x=np.zeros((3, 49), np.float32))) is None


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant"])
def test_learning_rates_at_the_ends_of_epochs(schedule, standard):
    options = Config(
        DataOptions("iris"),
        NetworkOptions(hidden=()),
        OptimizerOptions("sgd", learning_rate=0.5, schedule=schedule),
        TrainingOptions(epochs=4, batch_size=16),
    )
    rates = learning_rates(set_up(options), 4)
    if schedule == "constant":
        assert rates is None
        return
    steps = -(-98 // 16)
    done = (steps * np.arange(1, 5) - 1) / (4 * steps)
    if schedule == "cosine":
        np.testing.assert_allclose(rates, 0.25 * (1 + np.cos(np.pi * done)), rtol=1e-5)
    else:  # up in 30 % of the steps, down in the others
        assert rates.argmax() == 0
        assert rates[-1] < 0.01


def test_a_page_is_written_whole_or_not_at_all(digits, tmp_path, monkeypatch):
    path = tmp_path / "training.html"
    check_report(path)
    write_report(path, digits)
    tree(path.read_bytes())
    check_report(path)  # one of ours may be written again
    assert path.stat().st_size < 200_000
    before = path.read_bytes()
    monkeypatch.setattr(runs.report.page, "proof_section", lambda trained: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(path, digits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_report_is_not_overwritten(tmp_path):
    path = tmp_path / "thesis.html"
    path.write_text("<!DOCTYPE html><p>years of work</p>")
    with pytest.raises(FileExistsError, match=r"thesis\.html is no report of a run, and would be overwritten"):
        check_report(path)
    with pytest.raises(FileExistsError, match="is no report"):
        check_report(tmp_path)
