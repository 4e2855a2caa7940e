"""Many networks at once are what each is alone; scripts/train.py --sweep keeps the best."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import WIDE, assert_close, load_script, some
from test_training import SGD, data, network

import funcnet as fn
from funcnet.runs import read_run
from funcnet.training import epoch_in_order, fit_many, grid, new_order, new_state
from funcnet.training.checks import check_data
from funcnet.training.sweep import ranking

SETTINGS = {
    "learning_rate": [0.1, 0.3, 0.1, 0.1],
    "l2": [0.0, 0.0, 0.01, 0.0],
    "dropout": [0.0, 0.2, 0.2, 0.0],
    "seed": [0, 0, 1, 7],
}
MOMENTUM = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0, momentum=0.9)


@pytest.fixture(scope="module")
def sweep():
    with jax.numpy_dtype_promotion("standard"):
        return fit_many(
            jax.random.key(0),
            network(),
            MOMENTUM,
            data(),
            SETTINGS,
            epochs=2,
            batch_size=16,
            validation=data(40, seed=1),
        )


def alone(number):
    """The same by one network after the other."""
    order_key, seed_key = jax.random.split(jax.random.key(0))
    init_key, key = jax.random.split(jax.random.fold_in(seed_key, SETTINGS["seed"][number]))
    net = dataclasses.replace(network(), **{name: SETTINGS[name][number] for name in ("l2", "dropout")})
    optimizer = optax.sgd(SETTINGS["learning_rate"][number], momentum=0.9)
    state = new_state(key, fn.init(init_key, net), optimizer)
    examples = check_data(net, data(), state.params[0].w.dtype).on_device()
    losses = []
    for epoch in (1, 2):
        rows = jnp.asarray(new_order(jax.random.fold_in(order_key, epoch), 50, 16))
        state, report = epoch_in_order(net, optimizer, rows, state, examples)
        losses.append(report.sums.loss / report.sums.weight)
    return net, state, jnp.stack(losses)


@pytest.mark.parametrize("number", some(range(4), 2))
def test_each_network_is_what_it_is_alone(sweep, number, standard_promotion):
    net, state, losses = alone(number)
    assert_close(sweep.params(number), state.params, terms=8)
    assert_close(jnp.asarray(sweep.history["train_loss"][:, number], losses.dtype), losses, terms=4)
    x, y = data(40, seed=1)
    expected = fn.loss(net, state.params, x, y)
    assert sweep.history["validation_loss"][-1, number] == pytest.approx(float(expected), rel=1e-5)


def test_the_best_has_the_best_metric(sweep):
    scores = sweep.history["validation_accuracy"][-1]
    assert scores[sweep.best] == scores.max()
    assert sweep.history["train_loss"].shape == (2, 4)
    assert sweep.seconds.shape == (2,)


def test_ranking_puts_what_is_not_finite_last_and_breaks_ties_by_the_loss():
    history = {
        "validation_accuracy": np.array([[0.9, 0.9, np.nan, 0.5, 1.0]]),
        "validation_loss": np.array([[0.3, 0.2, 0.1, 0.1, np.inf]]),
    }
    assert ranking(history, "classification").tolist()[:3] == [1, 0, 3]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "at least one number"),
        ({"l2": []}, "at least one number"),
        ({"l2": [0.1], "seed": [0, 1]}, "as many of each"),
        ({"l2": [0.1, np.nan]}, r"settings\['l2'\] must be a list of finite"),
        ({"l2": 5}, r"settings\['l2'\] must be a list of finite numbers; got 5"),
        ({"l2": [0.1, -1.0]}, "l2 must be a finite number of at least 0"),
        ({"dropout": [0.1, 1.0]}, r"dropout must be in \[0, 1\)"),
        ({"seed": [0.5]}, r"settings\['seed'\] must be whole numbers"),
        ({"momentum": [0.5]}, "no hyperparameter of the optimizer; it has none"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        fit_many(jax.random.key(0), network(), SGD, data(), settings, epochs=1, validation=data())


@pytest.mark.bad_input
def test_a_swept_hyperparameter_must_not_follow_a_schedule(standard_promotion):
    scheduled = optax.inject_hyperparams(optax.sgd)(learning_rate=optax.cosine_decay_schedule(1e-2, 100))
    settings = {"learning_rate": [1e-6, 1.0]}
    with pytest.raises(ValueError, match=r"settings\['learning_rate'\] must be a constant .* it follows a schedule"):
        fit_many(jax.random.key(0), network(), scheduled, data(), settings, epochs=1, validation=data())


@pytest.mark.bad_input
def test_arguments_of_another_kind():
    arguments = jax.random.key(0), network(), SGD, data()
    with pytest.raises(TypeError, match=r"settings must be a dict such as .* got \[0.1\]"):
        fit_many(*arguments, [0.1], epochs=1, validation=data())
    with pytest.raises(TypeError, match=r"on_epoch must be a function .* got 3"):
        fit_many(*arguments, {"seed": [0]}, epochs=1, validation=data(), on_epoch=3)
    for listed in (0.1, "0.1"):
        with pytest.raises(TypeError, match=r"l2 must be a list of numbers; got '?0.1'?"):
            grid(l2=listed)


def test_networks_that_diverge_are_told_of(standard_promotion):
    settings = {"learning_rate": [0.1, 1e30 if WIDE == "float32" else 1e200, 0.1]}
    net = dataclasses.replace(network(), activation=fn.relu)
    with pytest.warns(fn.training.NonFiniteLoss, match="1 of 3 networks ended with a loss that is not finite: 1$"):
        sweep = fit_many(jax.random.key(0), net, MOMENTUM, data(), settings, epochs=3, validation=data())
    assert sweep.best != 1


def test_grid():
    assert grid(a=[1, 2], b=[3]) == {"a": [1, 2], "b": [3, 3]}


@pytest.fixture
def train(standard_promotion):
    return load_script("train")


def test_the_best_of_a_sweep_is_kept(train, tmp_path, capsys):
    words = ["learning_rate=0.00001,0.02", "dropout=0,0.1"]
    options = ["--data", "iris", "--hidden", "8", "--epochs", "6", "--run-dir", str(tmp_path / "run")]
    assert train.main([*options, "--sweep", *words]) == 0
    with (tmp_path / "run" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(float(row["learning_rate"]), float(row["dropout"])) for row in rows] == [
        (1e-5, 0.0), (1e-5, 0.1), (0.02, 0.0), (0.02, 0.1),
    ]  # fmt: skip
    best = max(rows, key=lambda row: (float(row["validation_accuracy"]), -float(row["validation_loss"])))
    run = read_run(tmp_path / "run")
    assert run.config["learning_rate"] == float(best["learning_rate"]) == 0.02
    assert run.config["dropout"] == float(best["dropout"])
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["validation"]["accuracy"] == pytest.approx(float(best["validation_accuracy"]))
    assert summary["networks"] == 4
    assert "4 networks, the best first" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sweep", "depth=1,2"], "got 'depth=1,2': depth is not one of these"),
        (["--sweep", "l2"], "got 'l2': l2 is without values"),
        (["--sweep", "l2=0", "l2=1"], "got 'l2=1': l2 is named twice"),
        (["--sweep", "l2=a"], "sweep must give numbers for l2"),
        (["--sweep", "seed=0.5"], "sweep must give whole numbers for seed"),
        (["--sweep", "learning_rate=0,1"], "sweep must give positive learning rates"),
        (["--sweep", "dropout=0,2"], "dropout must be in [0, 1)"),
        (["--sweep", "--optimizer", "lbfgs"], "sweep is not for lbfgs"),
        (["--sweep", "--patience", "3"], "patience is not for a sweep"),
        (["--sweep", "--validation-share", "0"], "sweep needs a validation part"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_one_line(train, options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(["--data", "iris", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
