"""scripts/train.py as a user meets it: output, exit status, picture, and one-line answers to wrong values."""

import importlib.util
import sys
from pathlib import Path

import jax
import pytest
from cases import case

import funcnet as fn

SCRIPT = Path(__file__).parent.parent / "scripts" / "train.py"
FAST = ["--epochs", "3", "--hidden", "16", "--batch-size", "64"]


@pytest.fixture(scope="module")
def train():
    spec = importlib.util.spec_from_file_location("train", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train"] = module
    spec.loader.exec_module(module)
    return module


def test_run(train, standard_promotion, tmp_path, capsys):
    picture = tmp_path / "curves.png"
    assert train.main([*FAST, "--plot", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "against jax.grad in float64" in out
    assert "largest error, float32" in out
    assert "64 x 16" in out
    assert "16 x 10" in out
    assert "epoch 3/3" in out
    for part in ("train", "validation", "test"):
        assert f"{part} accuracy" in out
    assert "time to compile" in out
    assert "time of an epoch (median of 3)" in out
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.iterdir()) == [picture]


def test_a_loss_on_real_targets_learns_unit_vectors(train, standard_promotion, tmp_path, capsys):
    options = ["--loss", "half_squared_error", "--dropout", "0", "--l2", "1e-4", "--optimizer", "sgd"]
    assert train.main([*FAST, *options, "--plot", str(tmp_path / "curves.svg")]) == 0
    assert "mean_absolute_error" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--activation", "swosh"], "activation must be one of identity, relu"),
        (["--loss", "mse"], "loss must be one of half_squared_error"),
        (["--hidden", "0"], "widths must be at least 2 numbers of at least 1"),
        (["--epochs", "0"], "epochs must be at least 1; got 0"),
        (["--batch-size", "-3"], "batch_size must be at least 1; got -3"),
        (["--dropout", "1"], "dropout must be in [0, 1); got 1.0"),
        (["--learning-rate", "nan"], "learning_rate must be a positive finite number; got nan"),
        (["--seed", "-1"], "seed must be a whole number from 0 to 4294967295; got -1"),
        (["--plot", "curves.txt"], "plot must end in .png, .pdf or .svg; got curves.txt"),
        (["--plot", "no/such/folder/curves.png"], "plot must be a file in a folder that exists"),
    ],
)
def test_wrong_values_have_a_one_line_answer(train, arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_and_help(train, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--hiden", "3"])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    assert stop.value.code == 0
    assert "--learning-rate" in capsys.readouterr().out


def test_a_wrong_gradient_is_not_trained_on(train, tmp_path, capsys, monkeypatch):
    wrong = fn.Activation(
        "wrong", fn.relu.value, lambda z, h: 1.01 * fn.relu.slope(z, h), fn.relu.curvature, fn.relu.third
    )
    monkeypatch.setitem(fn.activations.ACTIVATIONS, "wrong", wrong)
    assert train.main([*FAST, "--activation", "wrong", "--plot", str(tmp_path / "curves.png")]) == 1
    assert "The gradient is wrong; nothing is trained." in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_the_proof_covers_value_and_every_leaf(train):
    net, params, x, y = case(fn.relu, fn.softmax_cross_entropy, "float32", dropout=0.5)
    formula, arithmetic = train.prove(net, params, x, y, None)
    assert len(formula.leaves) == len(arithmetic.leaves) == 1 + 2 * net.n_layers
    assert {leaf.dtype for leaf in formula.leaves} == {"float64"}
    assert {leaf.dtype for leaf in arithmetic.leaves} == {"float32"}
    assert train.holds(formula)
    assert train.holds(arithmetic)


@pytest.mark.slow
def test_digits_reach_98_percent_as_the_mean_of_five_seeds(train, standard_promotion):
    shares = []
    for seed in range(5):
        options = train.Options(seed=seed)
        setup = train.set_up(options)
        keys = jax.random.split(jax.random.key(seed), 3)
        state, _ = fn.fit(
            keys[2],
            setup.net,
            setup.optimizer,
            setup.data("train"),
            epochs=options.epochs,
            batch_size=options.batch_size,
            validation=setup.data("validation"),
            params=fn.init(keys[0], setup.net, dtype="float32"),
        )
        shares.append(train.accuracies(setup, state.params)["test"])
    assert sum(shares) / 5 >= 0.98, shares
