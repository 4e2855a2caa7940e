"""Runs: options to setup, what is kept is what was trained, and folders that are there whole or not at all."""

import csv
import json
from dataclasses import fields
from typing import get_args

import jax
import numpy as np
import pytest
from sklearn.metrics import r2_score

import funcnet as fn
from funcnet import runs
from funcnet.runs import Config, new_folder, read_run, set_up, write_run
from funcnet.runs.config import (
    DataOptions,
    NetworkOptions,
    OptimizerName,
    OptimizerOptions,
    ScheduleName,
    TrainingOptions,
)
from funcnet.training import OPTIMIZERS
from funcnet.training.optimizers import FULL_BATCH, SCHEDULES

SMALL = NetworkOptions(hidden=(6,))


def short(data="iris", **training):
    return Config(DataOptions(data), SMALL, training=TrainingOptions(epochs=3, **training))


def test_options_name_what_there_is():
    assert get_args(OptimizerName) == tuple(OPTIMIZERS)
    assert get_args(ScheduleName) == SCHEDULES
    names = [option.name for group in fields(Config) for option in fields(group.default_factory)]
    assert len(names) == len(set(names))
    assert set(Config().flat()) == set(names)


def test_defaults_depend_on_the_data_and_the_optimizer():
    digits = set_up(Config()).config.flat()
    assert (digits["hidden"], digits["dropout"], digits["loss"], digits["epochs"]) == (
        (512,),
        0.5,
        "label_smoothed(0.1)",
        60,
    )
    assert (digits["standardise"], digits["learning_rate"], digits["schedule"]) == (False, 2e-3, "cosine")
    diabetes = set_up(Config(DataOptions("diabetes"))).config.flat()
    assert (diabetes["hidden"], diabetes["dropout"], diabetes["loss"]) == ((64,), 0.1, "half_squared_error")
    assert (diabetes["standardise"], diabetes["epochs"]) == (True, 223)  # 9 steps in each
    for name in FULL_BATCH:
        whole = set_up(Config(DataOptions("iris"), optimization=OptimizerOptions(name))).config.flat()
        assert (whole["batch_size"], whole["dropout"], whole["epochs"], whole["schedule"]) == (None, 0.0, 300, None)


def test_scales_are_fitted_on_the_training_part_alone():
    setup = set_up(short("diabetes"))
    x, y = setup.arrays("train")
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-5)
    train, test = setup.parts["train"].x, setup.parts["test"].x
    expected = (test - train.mean(axis=0, dtype=float)) / train.std(axis=0, dtype=float)
    np.testing.assert_allclose(setup.arrays("test")[0], expected, rtol=1e-4, atol=1e-5)
    assert abs(setup.arrays("test")[0].mean(axis=0)).max() > 0.01


def test_labels_become_unit_vectors_for_a_loss_on_numbers():
    config = Config(DataOptions("iris"), NetworkOptions(hidden=(6,), loss="half_squared_error"))
    setup = set_up(config)
    x, y = setup.arrays("train")
    assert y.shape == (len(x), 3)
    np.testing.assert_array_equal(y.argmax(axis=1), setup.parts["train"].y)
    assert setup.task == "classification"
    assert setup.targets is None


def test_counts_are_numbers_for_poisson():
    setup = set_up(Config(DataOptions("linnerud"), NetworkOptions(loss="poisson")))
    assert (setup.task, setup.targets) == ("regression", None)
    assert set_up(Config(DataOptions("digits"), NetworkOptions(loss="poisson"))).net.widths == (64, 64, 1)


def trained(config):
    """A run without proof and progress."""
    setup = set_up(config)
    validation = setup.arrays("validation") if "validation" in setup.parts else None
    prepared = fn.training.prepare(
        jax.random.key(0),
        setup.net,
        setup.optimizer,
        setup.arrays("train"),
        batch_size=setup.config.training.batch_size,
        validation=validation,
        params=fn.init(jax.random.key(1), setup.net, dtype="float32"),
        task=setup.task,
    )
    result = fn.training.run(prepared, setup.epochs, patience=config.training.patience)
    return setup, result, setup.model(result.state.params)


@pytest.fixture(scope="module")
def numbers():
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield trained(short("linnerud"))
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.mark.quick
def test_a_kept_run_predicts_the_same_bits(numbers, tmp_path):
    setup, result, model = numbers
    with new_folder(tmp_path / "deep" / "run") as folder:
        write_run(folder, setup, result, model, {"epochs": 3, "test": {"r2": float("nan")}})
    run = read_run(tmp_path / "deep" / "run")
    x = setup.parts["test"].x
    np.testing.assert_array_equal(runs.predict(run.model, x).values, runs.predict(model, x).values)
    assert run.model.schema == model.schema
    assert run.model.net == model.net
    assert run.trained_on == 13
    assert run.config == json.loads(json.dumps(setup.config.flat()))
    names = {"config.json", "metrics.csv", "summary.json", "model.safetensors", "curves.png", "predictions.png"}
    assert {file.name for file in run_files(tmp_path / "deep" / "run")} == names
    assert [file.name for file in run_files(tmp_path / "deep")] == ["run"]
    with (tmp_path / "deep" / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name, values in result.history.items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], values)
    summary = json.loads((tmp_path / "deep" / "run" / "summary.json").read_text())
    assert summary == {"epochs": 3, "test": {"r2": None}}


def run_files(folder):
    return sorted(folder.iterdir())


@pytest.mark.quick
def test_predictions_are_in_the_units_of_the_data(numbers):
    """Against NumPy: standardised features in, numbers times their deviation plus their mean out."""
    setup, _, model = numbers
    test = setup.parts["test"]
    h = (test.x - model.features.mean) / model.features.scale
    for i, layer in enumerate(model.params):
        h = h @ np.asarray(layer.w, np.float64) + np.asarray(layer.b, np.float64)
        h = np.maximum(h, 0) if i == 0 else h
    expected = h * model.targets.scale + model.targets.mean
    values = runs.predict(model, test.x).values
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    found = runs.measure(model, test)
    assert found["mean_absolute_error"] == pytest.approx(np.mean(abs(expected - test.y)), rel=1e-4)
    assert found["r2"] == pytest.approx(r2_score(test.y, expected), rel=1e-3)


def test_predictions_in_blocks(numbers):
    _, _, model = numbers
    x = np.random.default_rng(0).normal(size=(2500, 3)).astype(np.float32)
    whole = runs.predict(model, x).values
    assert whole.shape == (2500, 3)
    for start in (0, 1000, 2100, 2499):
        np.testing.assert_array_equal(runs.predict(model, x[start : start + 7]).values, whole[start : start + 7])
    assert runs.predict(model, x[:0]).values.shape == (0, 3)
    with pytest.raises(ValueError, match=r"x must have 3 features to fit the model; got shape \(5, 4\)"):
        runs.predict(model, np.zeros((5, 4), np.float32))


def test_absolute_errors_of_one_target_are_in_its_unit(numbers):
    one = set_up(short("diabetes"))
    metrics = {"train_loss": 1.0, "train_mean_absolute_error": 0.5, "train_r2": 0.25}
    unit = one.parts["train"].y.std()
    assert one.in_units(metrics) == {**metrics, "train_mean_absolute_error": pytest.approx(0.5 * unit)}
    assert numbers[0].in_units(metrics) == metrics


def fill(folder, content="{}"):
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_text(content)


def broken_off(path, overwrite=False):
    with new_folder(path, overwrite) as folder:
        fill(folder, "half")
        raise RuntimeError


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(RuntimeError):
        broken_off(path)
    assert run_files(tmp_path) == []
    path.mkdir()
    with new_folder(path) as folder:  # an empty folder is as good as none
        fill(folder, "first")
    assert (path / "config.json").read_text() == "first"
    with pytest.raises(FileExistsError, match=r"holds a run already; choose another folder or add --overwrite"):
        new_folder(path).__enter__()
    with pytest.raises(RuntimeError):
        broken_off(path, overwrite=True)
    assert (path / "config.json").read_text() == "first"
    with new_folder(path, overwrite=True) as folder:
        fill(folder, "second")
    assert (path / "config.json").read_text() == "second"
    assert run_files(tmp_path) == [path]


def test_notes_beside_a_run_are_not_overwritten(tmp_path):
    with new_folder(tmp_path / "run") as folder:
        fill(folder)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"run holds notes\.txt beside a run; choose another folder"):
        new_folder(tmp_path / "run", overwrite=True).__enter__()
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_what_a_run_that_was_killed_had_begun_is_removed_by_the_next(tmp_path):
    """But not what one that is at work has begun."""
    left = tmp_path / ".run.unfinished-0a1b2c3d"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    with new_folder(tmp_path / "run", overwrite=True) as first:
        assert not left.exists()
        fill(first, "first")
        with new_folder(tmp_path / "run") as second:
            assert first.is_dir()
            fill(second, "second")
    assert run_files(tmp_path) == [tmp_path / "run"]
    assert (tmp_path / "run" / "config.json").read_text() == "first"


def test_folders_that_are_none_of_ours_stay(tmp_path):
    path = tmp_path / "thesis"
    path.mkdir()
    (path / "chapter.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="holds something else than a run; choose another folder"):
            new_folder(path, overwrite).__enter__()
        with pytest.raises(FileExistsError, match="is a file"):
            new_folder(path / "chapter.txt", overwrite).__enter__()
    with pytest.raises(OSError, match=r"run_dir .*run cannot be written: File exists: .*chapter.txt"):
        new_folder(path / "chapter.txt" / "run").__enter__()
    assert (path / "chapter.txt").read_text() == "years of work"


def test_early_stopping_shows_the_epoch_that_was_kept(standard_promotion):
    setup, result, _ = trained(short("iris", patience=1))
    shifted = result._replace(epoch=1)
    figure = runs.run_curves(setup, shifted)
    assert any("kept: epoch 1" in str(line.get_label()) for line in figure.axes[0].get_lines())
    assert not any(
        "kept" in str(line.get_label()) for line in runs.run_curves(setup, result._replace(epoch=3)).axes[0].lines
    )


def test_confusion_counts_every_example():
    truth, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    figure = runs.pictures.confusion(truth, predicted, ("a", "b", "c"), "test")
    axes = figure.axes[0]
    cells = {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1", (0, 1): "1", (1, 1): "1", (2, 2): "2", (2, 0): "1"}
    assert axes.get_title() == "test part: 4 of 6 right"


def test_names_are_no_formulas(tmp_path):
    """Of classes and targets; Matplotlib reads what stands between dollars, and refuses what it cannot read."""
    name = r"$\frac$"
    truth = np.array([0, 1])
    figure = runs.pictures.confusion(truth, truth, (name, r"\$ $"), "test")
    runs.pictures.write_figure(figure, tmp_path / "confusion.png")
    numbers = np.ones((3, 1))
    figure = runs.pictures.predicted_against_true(numbers, numbers, (name,), "test")
    runs.pictures.write_figure(figure, tmp_path / "predictions.png")
    assert figure.axes[0].get_xlabel() == r"\$\frac\$, true"
