"""How a run ends: out of epochs, for want of progress, at a small gradient, or at a value that is not finite."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import X64, assert_close

import funcnet as fn
from funcnet.training import NonFiniteLoss, optimizer_by_name, prepare, run
from funcnet.training.metrics import means, scores, variation

SGD = optax.sgd(0.5)
NET = fn.MLP((5, 7, 6, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy)


def noise(n=24, seed=0):
    """Labels that features say nothing of: training loss falls, validation loss soon rises."""
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (n, 5)).astype(np.float32), random.integers(0, 3, n).astype(np.int32)


def test_patience_gives_the_best_parameters_back():
    prepared = prepare(jax.random.key(0), NET, SGD, noise(), batch_size=8, validation=noise(seed=1))
    result = run(prepared, 300, patience=5)
    losses = result.history["validation_loss"]
    assert result.stopped == "patience"
    assert result.epoch == losses.argmin() + 1 == len(losses) - 5
    assert int(result.state.step) == 3 * result.epoch
    x, y = noise(seed=1)
    assert float(fn.loss(NET, result.state.params, x, y)) == pytest.approx(losses.min(), rel=1e-5)
    again = run(prepared, result.epoch)
    assert_close(again.state.params, result.state.params)
    unhurried = run(prepared, 3)
    assert (unhurried.stopped, unhurried.epoch, int(unhurried.state.step)) == ("epochs", 3, 9)


def test_patience_without_validation_data_looks_at_the_training_loss():
    prepared = prepare(jax.random.key(0), NET, optax.sgd(0.0), noise(), batch_size=None)
    result = run(prepared, 50, patience=3)
    assert (result.stopped, result.epoch, len(result.history["train_loss"])) == ("patience", 0, 4)


@pytest.mark.quick
def test_tolerance_ends_a_run_on_all_examples():
    prepared = prepare(jax.random.key(0), NET, SGD, noise(), batch_size=None)
    norms = run(prepared, 30).history["gradient_norm"]
    tolerance = float(norms[11])
    result = run(prepared, 30, tolerance=tolerance)
    assert result.stopped == "tolerance"
    assert len(result.history["seconds"]) == np.flatnonzero(norms <= tolerance)[0] + 1
    with pytest.raises(ValueError, match="tolerance needs batch_size=None"):
        fn.fit(jax.random.key(0), NET, SGD, noise(), epochs=1, batch_size=8, tolerance=1e-3)


def poisoned(layer: int, at: int) -> optax.GradientTransformation:
    """Plain descent that puts a NaN into one layer's update number `at`."""

    def update(grads: Any, count: Any, params: Any = None) -> Any:
        bad = jnp.where(count == at, jnp.nan, -0.1)
        steps = [
            jax.tree.map(lambda g, i=i: g * jnp.where(i == layer, bad, -0.1).astype(g.dtype), grads[i])
            for i in range(3)
        ]
        return tuple(steps), count + 1

    return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)


@pytest.mark.parametrize(("layer", "at", "epoch", "step"), [(0, 4, 2, 3), (2, 6, 3, 2), (1, 2, 1, 3)])
def test_a_broken_update_is_found(layer, at, epoch, step):
    """Update number `at`, from 0, is poisoned: the step behind it is the first to see that layer broken."""
    optimizer = poisoned(layer, at)
    prepared = prepare(jax.random.key(0), NET, optimizer, noise(), batch_size=8)
    with pytest.warns(NonFiniteLoss, match=f"epoch {epoch}, step {step}, first in the parameters of layer {layer + 1}"):
        state, history = fn.fit(jax.random.key(0), NET, optimizer, noise(), epochs=9, batch_size=8)
    result = run(prepared, 9)
    assert result.failure is not None
    assert result.failure[:4] == (epoch, step, layer + 1, "parameters")
    assert result.failure.kept == epoch - 1
    assert len(history["train_loss"]) == epoch
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert int(state.step) == 3 * (epoch - 1)


def test_outputs_that_overflow_are_found():
    """The second hidden layer's activation has a pole, which large steps come to."""
    pole = fn.Activation(
        "pole",
        lambda z: jnp.where(jnp.abs(z) > 3, jnp.inf, z),
        lambda z, h: jnp.ones_like(z),
        lambda z, h: jnp.zeros_like(z),
        lambda z, h: jnp.zeros_like(z),
    )
    net = fn.MLP((5, 7, 6, 3), activation=(fn.tanh, pole), loss=fn.half_squared_error)
    x, labels = noise()
    data = (x, 9 * np.eye(3, dtype=np.float32)[labels])
    prepared = prepare(jax.random.key(0), net, optax.sgd(0.1), data, batch_size=8)
    result = run(prepared, 40)
    assert result.stopped == "non-finite"
    assert result.failure is not None
    assert result.failure.layer == 2
    assert result.failure.what == "outputs"
    assert "of layer 2" in str(result.failure)
    losses = run(prepared, result.failure.epoch - 1).history["train_loss"] if result.failure.epoch > 1 else np.ones(1)
    assert np.isfinite(losses).all()


def test_a_loss_that_overflows_on_finite_outputs():
    net = fn.MLP((5, 7, 3), activation=fn.tanh, loss=fn.half_squared_error)
    x, labels = noise()
    huge = 1e30 if not X64 else 1e200
    data = (x.astype("float64" if X64 else "float32"), huge * np.eye(3)[labels])
    with pytest.warns(NonFiniteLoss, match="first in the loss of outputs that still are; .* before training are kept"):
        state, _ = fn.fit(
            jax.random.key(0), net, SGD, data, epochs=2, batch_size=None, params=fn.init(jax.random.key(3), net)
        )
    assert_close(state.params, fn.init(jax.random.key(3), net))


@pytest.mark.quick
def test_the_best_epoch_before_the_failure_is_kept():
    optimizer = poisoned(0, 3 * 60)
    prepared = prepare(jax.random.key(0), NET, optimizer, noise(), batch_size=8, validation=noise(seed=1))
    result = run(prepared, 100)
    losses = result.history["validation_loss"]
    assert result.failure is not None
    assert result.epoch == result.failure.kept == np.nanargmin(losses) + 1 < len(losses)


def test_r2_of_a_target_that_does_not_vary():
    net = fn.MLP((1, 2), loss=fn.half_squared_error)
    y, weights = jnp.array([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0]]), jnp.ones(3)
    varied = variation(y, weights)
    assert varied is not None
    np.testing.assert_allclose(varied, [2, 0])
    for off, expected in ((0.0, 1.0), (1.0, 0.5)):
        columns = jnp.sum(scores(net, y + jnp.array([[0.0, off]]), y, "regression"), axis=0)
        sums = fn.training.metrics.Sums(jnp.zeros(()), columns, jnp.full((), 3.0))
        assert means("regression", "train", sums, varied)["train_r2"] == expected


def test_refusals():
    data, key = noise(), jax.random.key(0)
    for arguments, message in (
        ({"patience": 0}, "patience must be at least 1; got 0"),
        ({"tolerance": -1.0, "batch_size": None}, "tolerance must be a positive finite number; got -1.0"),
        ({"task": "ranking"}, "task must be one of classification, questions, regression; got 'ranking'"),
        ({"task": "regression"}, "task must be classification for softmax_cross_entropy; got 'regression'"),
    ):
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            fn.fit(key, NET, SGD, data, epochs=1, **arguments)
    with pytest.raises(ValueError, match="optimizer must be one of sgd, momentum"):
        optimizer_by_name("sdg")
