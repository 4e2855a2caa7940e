"""scripts/predict.py: what was kept predicts the same numbers, from every kind of data, and says what does not fit."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
from cases import load_script

from funcnet.data import load
from funcnet.runs import predict, read_run

FAST = ["--hidden", "8", "--epochs", "2"]


@pytest.fixture(scope="module")
def script():
    return load_script("predict")


def table(text):
    header, *rows = list(csv.reader(io.StringIO(text)))
    return header, rows


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Two runs: a table of one's own with text labels, its target in the middle; and numbers of a bundled set."""
    path = tmp_path_factory.mktemp("runs")
    random = np.random.default_rng(0)
    kinds = np.array(["cat", "dog", "newt"])[np.arange(60) % 3]
    columns = zip(random.normal(size=60), kinds, random.normal(size=60), strict=True)
    lines = ["weight;kind;tail length"] + [f"{a + len(k):.4f};{k};{b:.4f}" for a, k, b in columns]
    (path / "animals.csv").write_text("\n".join(lines) + "\n")
    train = load_script("train")
    import jax

    jax.config.update("jax_numpy_dtype_promotion", "standard")
    own = ["--data", str(path / "animals.csv"), "--target", "kind", "--run-dir", str(path / "animals")]
    assert train.main([*own, *FAST]) == 0
    assert train.main(["--data", "diabetes", "--run-dir", str(path / "diabetes"), *FAST]) == 0
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    return path


@pytest.mark.quick
def test_classes_and_probabilities(script, kept, capsys):
    assert script.main([str(kept / "animals")]) == 0
    captured = capsys.readouterr()
    header, rows = table(captured.out)
    assert header == ["prediction", "probability_cat", "probability_dog", "probability_newt"]
    data = load(kept / "animals.csv", target="kind")["train"]
    model = read_run(kept / "animals").model
    labels, values = predict(model, data.x)
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), values)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    assert [row[0] for row in rows] == [data.class_names[label] for label in labels]
    right = int(np.sum(labels == data.y))
    assert f"accuracy {right / 60:.2%} ({right} of 60); those it was trained on are among them" in captured.err


def test_numbers_in_a_file(script, kept, tmp_path, capsys):
    out = tmp_path / "out.csv"
    assert script.main([str(kept / "diabetes"), "diabetes", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        r"R² .*, mean absolute error .* on 442 examples; those it was trained on are .*\n", captured.err
    )
    header, rows = table(out.read_text())
    assert header == ["prediction"]
    expected = predict(read_run(kept / "diabetes").model, load("diabetes")["train"].x).values
    np.testing.assert_array_equal(np.array(rows, np.float32), expected)
    assert script.main([str(kept / "diabetes"), "--out", str(out)]) == 2
    assert "is there already; choose another name" in capsys.readouterr().err


def test_features_are_found_by_name_and_targets_may_be_missing(script, kept, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("tail length,id,weight\n0.5,7,4.0\n-1,8,5.25\n")
    assert script.main([str(kept / "animals"), str(tmp_path / "new.csv")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    _, rows = table(captured.out)
    expected = predict(read_run(kept / "animals").model, np.array([[4, 0.5], [5.25, -1]], np.float32)).values
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), expected)
    (tmp_path / "some.csv").write_text("weight,kind,tail length\n4,cat,1\n4,unicorn,1\n")
    assert script.main([str(kept / "animals"), str(tmp_path / "some.csv")]) == 0
    assert "1 with labels that training never saw" in capsys.readouterr().err


def test_arrays(script, kept, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 2), np.float32))
    assert script.main([str(kept / "animals"), str(tmp_path / "x.npz")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def broken(kept, tmp_path, name):
    """A copy of a run with one thing wrong."""
    copy = tmp_path / "copy"
    shutil.copytree(kept / "animals", copy)
    model, config = copy / "model.safetensors", copy / "config.json"
    if name == "model":
        model.unlink()
    elif name == "config":
        config.unlink()
    elif name == "both":
        model.unlink()
        config.unlink()
    elif name == "cut":
        model.write_bytes(model.read_bytes()[:-9])
    elif name == "garbled":
        config.write_text("{")
    elif name == "foreign":
        shutil.copy(kept / "diabetes" / "model.safetensors", model)
    return copy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model", "is no whole run folder: it lacks model.safetensors"),
        ("config", "is no whole run folder: it lacks config.json"),
        ("both", "it lacks config.json and model.safetensors"),
        ("cut", "model.safetensors is no whole safetensors file"),
        ("garbled", "config.json is damaged"),
        ("foreign", "animals.csv: features are missing: age, sex, bmi"),
    ],
)
def test_runs_that_are_not_whole(script, kept, tmp_path, capsys, name, message):
    assert script.main([str(broken(kept, tmp_path, name))]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["animals", "iris"], "features are missing: weight, tail length"),
        (["animals", "x.npz"], "x.npz has 5 features; expected 2"),
        (["animals", "no.csv"], "no such file: no.csv"),
        (["nothing"], "no such run folder: nothing"),
        (["animals", "--part", "test"], "has no test part; it has: train"),
        (["animals", "--out", "no/such/folder/out.csv"], "no/such/folder/out.csv cannot be written: No such file"),
    ],
)
def test_data_that_do_not_fit(script, kept, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(kept)
    np.savez("x.npz", x=np.ones((2, 5), np.float32))
    assert script.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "iris", "linnerud"])
def test_every_bundled_set_is_trained_kept_and_predicted(script, name, tmp_path, capsys, standard_promotion):
    run = tmp_path / name
    assert load_script("train").main(["--data", name, "--run-dir", str(run)]) == 0
    capsys.readouterr()
    assert script.main([str(run)]) == 0
    header, rows = table(capsys.readouterr().out)
    data = load(name)["train"]
    labels, values = predict(read_run(run).model, data.x)
    skip = 0 if labels is None else 1
    np.testing.assert_array_equal(np.array([row[skip:] for row in rows], np.float32), values)
    assert len(header) == skip + values.shape[1]
    summary = json.loads((run / "summary.json").read_text())
    if labels is not None:
        whole = sum(summary[part]["accuracy"] * n for part, n in summary["examples"].items()) / len(data.x)
        assert np.mean(labels == data.y) == pytest.approx(whole)
        assert summary["test"]["accuracy"] > 0.9
