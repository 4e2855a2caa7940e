"""A run that goes on from a checkpoint is as if it had never stopped; what is damaged is passed over and named."""

import itertools
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import funcnet as fn
from funcnet.training import checkpoints as files
from funcnet.training import prepare, run
from funcnet.training.checkpoints import Checkpoints, positions
from funcnet.training.digests import digest
from funcnet.training.locks import in_use

NET = fn.MLP((6, 8, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy, dropout=0.2, l2=1e-3)
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(70, 6)).astype(np.float32), RANDOM.integers(0, 3, 70)
EPOCHS = 6


@pytest.fixture(scope="module")
def prepared():
    return prepare(jax.random.key(0), NET, optax.sgd(0.3, 0.9), (X, Y), validation=(X[:20], Y[:20]), batch_size=16)


@pytest.fixture(scope="module")
def unbroken(prepared):
    return run(prepared, EPOCHS)


@pytest.fixture
def kept(tmp_path):
    """A folder for a checkpoint after each epoch, and what is told."""
    told = []
    return Checkpoints(tmp_path / "run", {"network": "6-8-3", "data": "abc"}, 0.0, tell=told.append), told


def stop_after(epoch):
    return itertools.chain(itertools.repeat(False, epoch - 1), itertools.repeat(True)).__next__


def assert_same(result, expected):
    for part in ("params", "opt_state", "step"):
        for leaf, other in zip(*(jax.tree.leaves(getattr(r.state, part)) for r in (result, expected)), strict=True):
            np.testing.assert_array_equal(leaf, other)
    assert (jax.random.key_data(result.state.key) == jax.random.key_data(expected.state.key)).all()
    assert (result.epoch, result.stopped) == (expected.epoch, expected.stopped)
    for name in set(expected.history) - {"seconds", "compile_seconds"}:
        np.testing.assert_array_equal(result.history[name], expected.history[name])


@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_a_run_goes_on_bit_for_bit(prepared, unbroken, kept, epoch):
    first = run(prepared, EPOCHS, checkpoints=kept[0], interrupted=stop_after(epoch))
    assert (first.stopped, first.epoch) == ("interrupted", epoch)
    assert_same(run(prepared, EPOCHS, checkpoints=kept[0], resume=True), unbroken)
    assert positions(kept[0].folder) == [6, 5, 4]
    assert kept[1] == [f"going on after epoch {epoch}"]


def test_patience_and_the_best_epoch_go_on_too(prepared, kept):
    limits = {"patience": 3, "checkpoints": kept[0]}
    whole = run(prepared, 200, patience=3)
    assert whole.stopped == "patience"
    run(prepared, 200, **limits, interrupted=stop_after(whole.epoch + 1))
    again = run(prepared, 200, **limits, resume=True)
    assert_same(again, whole)
    assert_same(run(prepared, 200, **limits, resume=True), whole)  # which ends where it begins


def test_nothing_to_go_on_from_is_a_beginning(prepared, unbroken, kept):
    assert_same(run(prepared, EPOCHS, checkpoints=kept[0], resume=True), unbroken)


def break_digest(path):
    path.with_name(path.name + files.DIGEST).unlink()


def break_file(path):
    largest = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def cut_off(path):
    largest = max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])


def lose_file(path):
    shutil.rmtree(path / files.RUN)


def garble_digest(path):
    path.with_name(path.name + files.DIGEST).write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_digest, "it was not written to its end"),
        (break_file, "is damaged"),
        (cut_off, "is damaged"),
        (lose_file, "is missing"),
        (garble_digest, "its digest cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(prepared, unbroken, kept, damage, message):
    run(prepared, EPOCHS, checkpoints=kept[0], interrupted=stop_after(4))
    damage(kept[0].folder / "4")
    assert_same(run(prepared, EPOCHS, checkpoints=kept[0], resume=True), unbroken)
    assert kept[1][1:] == ["going on after epoch 3"]
    assert kept[1][0].startswith(f"checkpoint {kept[0].folder / '4'} is passed over: ")
    assert message in kept[1][0]


def test_a_checkpoint_of_another_run_is_refused(prepared, kept):
    run(prepared, EPOCHS, checkpoints=kept[0], interrupted=stop_after(1))
    other = kept[0]._replace(identity={"network": "6-9-3", "data": "abc"})
    with pytest.raises(ValueError, match="1 is of a run with another network: '6-8-3', not '6-9-3'"):
        run(prepared, EPOCHS, checkpoints=other, resume=True)


def test_a_checkpoint_that_cannot_be_written_stops_nothing_but_an_interruption(prepared, unbroken, kept, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    run(prepared, EPOCHS, checkpoints=kept[0], interrupted=stop_after(1))
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"2 cannot be written: \[Errno 28\] No space left on device"):
        run(prepared, EPOCHS, checkpoints=kept[0], resume=True, interrupted=stop_after(1))
    assert_same(run(prepared, EPOCHS, checkpoints=kept[0], resume=True), unbroken)
    assert kept[1][:2] == 2 * ["going on after epoch 1"]
    assert len(kept[1]) == 2 + EPOCHS - 1
    assert "5 cannot be written: [Errno 28] No space left on device; training goes on" in kept[1][-2]
    assert "6 cannot be written: [Errno 28] No space left on device; training is done" in kept[1][-1]
    monkeypatch.undo()
    assert positions(kept[0].folder) == [1]
    assert_same(run(prepared, EPOCHS, checkpoints=kept[0], resume=True), unbroken)


def test_how_often(prepared, kept):
    run(prepared, EPOCHS, checkpoints=kept[0]._replace(seconds=3600.0))
    assert positions(kept[0].folder) == [EPOCHS]
    run(prepared, EPOCHS, checkpoints=kept[0]._replace(keep=2))
    assert positions(kept[0].folder) == [6, 5]
    assert sorted(entry.name for entry in kept[0].folder.iterdir()) == ["5", "5.sha256.json", "6", "6.sha256.json"]


def test_a_digest_names_every_file_and_tells_changed_data(prepared, kept):
    run(prepared, 1, checkpoints=kept[0])
    path = kept[0].folder / "1"
    named = json.loads(path.with_name("1.sha256.json").read_text())
    assert set(named) == {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert digest(X, Y) == digest(X.copy(), Y)
    changed = X.copy()
    changed[3, 2] = np.nextafter(changed[3, 2], 1)
    assert len({digest(*each) for each in ((X, Y), (changed, Y), (X, Y[::-1]), (X.T, Y), (X,))}) == 5


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    with (
        in_use(tmp_path / "run"),
        pytest.raises(BlockingIOError, match=r"run is in use by another run, process \d+"),
        in_use(tmp_path / "run"),
    ):
        pass
    with in_use(tmp_path / "run"):
        pass
