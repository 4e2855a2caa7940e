"""Several devices: the numbers of one, and no more sent between them than the mathematics needs."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import funcnet as fn
from funcnet.checking import TOLERANCE
from funcnet.training import device_mesh
from funcnet.training.placement import parameter_axes

MESHES = ("1", "2", "4", "8", "4 x 2", "1 x 4")
DEFAULT = ("8", "4 x 2")
"""What the default run looks at; the others are slow tests."""
FUNCTIONS = (
    "value_and_grad",
    "value_and_grad, weighted",
    "per_example_grad_norms",
    "clipped_grad_sum",
    "ggn_vp",
    "hvp",
)
RUNS = ("adam, None", "adam, 0.3", "lbfgs, None")
BOUND = 8 * TOLERANCE["float32"]
"""Of parameters after 30 steps: rounding of so many sums in another order."""
NET = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)


@pytest.fixture(scope="module")
def found(request, tmp_path_factory):
    """What a program of its own finds on eight devices, since their number is fixed before JAX starts; run once for
    all workers."""
    short = "slow" not in request.config.option.markexpr.replace("not slow", "")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    kept = folder / "on_devices.json"
    with (folder / "on_devices.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(on_devices(short))
    return json.loads(kept.read_text())


def on_devices(short):
    devices = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, Path(__file__).with_name("on_devices.py"), *["--short"][:short]]
    done = subprocess.run(command, env=devices, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def slow_but(names):
    return [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("mesh", ["8", "4 x 2"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_give_the_numbers_of_one_device(found, mesh, function):
    assert found[mesh]["functions"][function]["error"] <= TOLERANCE["float32"]


@pytest.mark.parametrize("mesh", slow_but(MESHES))
def test_training_gives_the_numbers_of_one_device(found, mesh):
    result = found[mesh]["training"]["adam, None"]
    assert result["error"] <= (0 if mesh == "1" else BOUND)
    assert result["losses"] <= 1e-6
    assert result["devices"] == np.prod([int(size) for size in mesh.split(" x ")])
    assert result["split"] == (" x " in mesh)
    assert result["blocks"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS[1:])
@pytest.mark.parametrize("mesh", ["8", "4 x 2"])
def test_and_so_does_training_with_dropout_and_on_all_examples(found, mesh, run):
    result = found[mesh]["training"][run]
    assert result["error"] <= BOUND
    assert result["losses"] <= 1e-6
    if (mesh, run) == ("8", "adam, 0.3"):
        assert result["sent"] == {"all-reduce": 2}


def test_a_stream_on_devices_gives_the_numbers_of_one(found):
    result = found["streaming"]
    assert result["error"] <= BOUND
    assert result["losses"] <= 1e-6
    assert (result["parts"], result["blocks"]) == (4, 8)


def test_a_gradient_is_summed_over_devices_once(found):
    """One sum for all of it; one more for Σ w where weights differ; none where each example keeps its own number."""
    sent = {name: result["sent"] for name, result in found["8"]["functions"].items()}
    assert sent["value_and_grad"] == sent["clipped_grad_sum"] == {"all-reduce": 1}
    assert sent["value_and_grad, weighted"] == {"all-reduce": 2}
    assert sent["per_example_grad_norms"] == {}


@pytest.mark.parametrize("mesh", slow_but(["2", "4", "8"]))
def test_an_epoch_sends_the_gradient_and_once_the_weights(found, mesh):
    assert found[mesh]["training"]["adam, None"]["sent"] == {"all-reduce": 2}


def test_pairs_of_layers_are_summed_between_not_within(found):
    """Four layers are two pairs: a sum behind each on the way out, one between them on the way back, the gradient,
    the weights, and whether all is finite."""
    assert found["4 x 2"]["training"]["adam, None"]["sent"] == {"all-reduce": 6}


def test_a_loss_that_is_not_finite_is_told_as_on_one_device(found):
    several, one = found["nonfinite"]
    assert several == one
    assert "not finite at epoch 1, step 2" in one


def test_which_layers_are_split():
    def axes(widths, model):
        net = fn.MLP(widths, activation=fn.tanh, loss=fn.half_squared_error)
        return ["|" if w[1] else "-" if w[0] else "." for w, _ in parameter_axes(net, model)]

    assert axes((3, 4, 4, 4, 2), 2) == ["|", "-", "|", "-"]
    assert axes((3, 4, 4, 2), 2) == ["|", "-", "."]
    assert axes((3, 5, 4, 4, 2), 2) == [".", ".", "|", "-"]
    assert axes((3, 4, 2), 1) == [".", "."]


X, Y = np.ones((8, 3), np.float32), np.arange(8) % 2


@pytest.mark.parametrize(
    ("mesh", "error", "message"),
    [
        (2, TypeError, "mesh must be a jax.sharding.Mesh such as funcnet.training.device_mesh"),
        (
            Mesh(np.array(jax.devices()[:1]), ("rows",)),
            ValueError,
            'mesh must have axes "data" and "model" alone; got rows',
        ),
    ],
)
def test_meshes_that_are_none(mesh, error, message):
    with pytest.raises(error, match=message):
        fn.fit(jax.random.key(0), NET, optax.sgd(0.1), (X, Y), epochs=1, mesh=mesh)


def test_a_model_axis_that_splits_nothing():
    mesh = Mesh(np.array(3 * jax.devices()[:1]), ("model",))
    with pytest.raises(ValueError, match=r"a model axis that divides a width .* can be split by, of \(4,\); got 3"):
        fn.fit(jax.random.key(0), NET, optax.sgd(0.1), (X, Y), epochs=1, mesh=mesh)


def test_more_devices_than_there_are():
    with pytest.raises(ValueError, match=r"mesh data=64,model=2 must have no more devices than there are, .*; got 128"):
        device_mesh(64, 2)
    with pytest.raises(ValueError, match="model must be at least 1"):
        device_mesh(1, 0)


def test_private_training_is_of_one_device():
    privacy = fn.training.Privacy(1.0, 1.0)
    with pytest.raises(ValueError, match="mesh is not for private training"):
        fn.fit(
            jax.random.key(0), NET, optax.sgd(0.1), (X, Y), epochs=1, batch_size=2, privacy=privacy, mesh=device_mesh()
        )
