"""Data that is read part by part: the same training as in memory, in an order of its own."""

import itertools
import threading

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import funcnet as fn
from funcnet.data import open_npy
from funcnet.training import Examples, Stream, epoch_program, prepare, run
from funcnet.training.checkpoints import Checkpoints
from funcnet.training.metrics import variation
from funcnet.training.order import block_starts, count_blocks, count_parts, new_order, new_parts
from funcnet.training.streaming import ahead

pytestmark = pytest.mark.usefixtures("standard_promotion")

RANDOM = np.random.default_rng(0)
N = 301
X, Y = RANDOM.normal(size=(N, 6)).astype(np.float32), RANDOM.integers(0, 3, N)
TARGETS = RANDOM.normal(3.0, 2.0, size=(N, 2)).astype(np.float32)
WEIGHTS = RANDOM.uniform(0.5, 2, N).astype(np.float32)
NET = fn.MLP((6, 8, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy, dropout=0.2, l2=1e-3)
PLAIN = fn.MLP((6, 8, 2), activation=fn.tanh, loss=fn.half_squared_error)
SGD, GENTLE = optax.sgd(0.3, 0.9), optax.sgd(0.05)


def trained(data, net=NET, epochs=3, validation=None, batch_size=16, **options):
    params = fn.init(jax.random.key(1), net, dtype="float32")
    prepared = prepare(jax.random.key(0), net, SGD, data, batch_size=batch_size, validation=validation, params=params)
    return run(prepared, epochs, **options)


def assert_same(result, expected):
    for leaf, other in zip(*(jax.tree.leaves(r.state._replace(key=0)) for r in (result, expected)), strict=True):
        np.testing.assert_array_equal(leaf, other)
    assert (jax.random.key_data(result.state.key) == jax.random.key_data(expected.state.key)).all()
    assert set(result.history) == set(expected.history)
    for name in set(result.history) - {"seconds", "compile_seconds"}:
        np.testing.assert_array_equal(result.history[name], expected.history[name])


@settings(deadline=None)
@given(
    n=st.integers(1, 3000), batch_size=st.integers(1, 64), at_once=st.integers(1, 4000), seed=st.integers(0, 2**32 - 1)
)
def test_every_row_is_in_one_part_of_each_epoch(n, batch_size, at_once, seed):
    batch_size = min(n, batch_size)
    key, blocks = jax.random.wrap_key_data(np.array([0, seed], np.uint32)), count_blocks(n, batch_size)
    edges, parts = block_starts(n, blocks), new_parts(key, n, batch_size, at_once)
    assert len(parts) == count_parts(n, batch_size, at_once)
    seen = []
    for part in parts:
        assert part.n <= max(at_once, batch_size) or len(parts) == 1
        for block, (start, size) in enumerate(zip(part.starts, np.diff(block_starts(part.n, blocks)), strict=True)):
            assert edges[block] <= start
            assert start + size <= edges[block + 1]
            seen.extend(range(start, start + size))
    assert sorted(seen) == list(range(n))
    assert all(part.n % batch_size == 0 for part in parts[:-1])


def test_each_epoch_has_its_own_windows():
    def starts(seed):
        return [part.starts.tolist() for part in new_parts(jax.random.key(seed), 3001, 8, 100)]

    assert starts(0) == starts(0)
    assert starts(0) != starts(1)
    rest = {tuple(starts(seed)[-1]) for seed in range(20)}
    assert len(rest) == 20  # what does not fill windows comes from other places each time


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize(("net", "y"), [(NET, Y), (PLAIN, TARGETS)])
def test_a_stream_of_one_part_is_data_in_memory(net, y, weights):
    data = (X, y) if weights is None else (X, y, weights)
    in_memory = trained(data, net, validation=data)
    streamed = trained(Stream(X, y, weights), net, validation=data)
    assert_same(streamed, in_memory)


@pytest.mark.parametrize("part_size", [48, 100, 256])
def test_a_stream_is_its_parts_one_after_the_other(part_size):
    """An oracle of its own: all parts as one order of all examples, in memory."""
    key = jax.random.key(5)
    params = fn.init(jax.random.key(1), PLAIN, dtype="float32")
    prepared = prepare(key, PLAIN, GENTLE, Stream(X, TARGETS, WEIGHTS, part_size), batch_size=16, params=params)
    assert prepared.parts > 1
    result = run(prepared, 2)
    state, data, losses = prepared.state, Examples(X, TARGETS, WEIGHTS).on_device(), []
    for _ in range(2):
        rows = []
        for i, part in enumerate(new_parts(state.key, N, 16, part_size)):
            blocks = len(part.starts)
            shift = part.starts - block_starts(part.n, blocks)[:-1]
            local = new_order(jax.random.fold_in(state.key, i) if i else state.key, part.n, 16, blocks)
            steps = local.reshape(len(local), blocks, -1)
            rows.append(np.where(steps < 0, -1, steps + shift[:, None]).reshape(local.shape))
        order = np.concatenate(rows).astype(np.int32)
        assert sorted(order[order >= 0]) == list(range(N))
        state, report = epoch_program(PLAIN)(PLAIN, GENTLE, order, state, data, "regression")
        losses.append(float(report.sums.loss / report.sums.weight))
    assert fn.checking.compare(result.state.params, jax.device_get(state.params)).error <= 2
    np.testing.assert_allclose(result.history["train_loss"], losses, rtol=1e-6)
    assert (jax.random.key_data(result.state.key) == jax.random.key_data(state.key)).all()


def test_validation_can_be_streamed_too():
    data = X, TARGETS, WEIGHTS
    whole, piecewise = (trained(data, PLAIN, validation=v) for v in (data, Stream(*data, 70)))
    for name in ("validation_loss", "validation_r2", "validation_mean_absolute_error"):
        np.testing.assert_allclose(piecewise.history[name], whole.history[name], rtol=2e-6)


def test_r2_compares_with_the_variation_of_all_targets(monkeypatch):
    monkeypatch.setattr(fn.training.streaming, "TARGETS", 20)
    prepared = prepare(jax.random.key(0), PLAIN, SGD, Stream(X, TARGETS + 1e3, WEIGHTS), batch_size=16)
    np.testing.assert_allclose(prepared.variation[0], variation(TARGETS + 1e3, WEIGHTS), rtol=1e-12)


def test_files_of_any_dtype(tmp_path):
    pixels = RANDOM.integers(0, 256, (N, 2, 3)).astype(np.uint8)
    np.save(tmp_path / "y.npy", Y)
    found = []
    for name, x in (
        ("bytes", pixels),
        ("floats", pixels / np.float32(255)),
        ("doubles", pixels / np.float32(255) * 1.0),
    ):
        np.save(tmp_path / f"{name}.npy", x)
        stream = Stream(open_npy(tmp_path / f"{name}.npy"), open_npy(tmp_path / "y.npy"), part_size=100)
        found.append(trained(stream))
    mapped = np.load(tmp_path / "floats.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r")
    found.append(trained(Stream(*mapped, part_size=100)))
    for result in found[1:]:
        assert_same(result, found[0])


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_networks_of_other_dtypes(dtype):
    if dtype == "float64" and not jax.config.jax_enable_x64:
        pytest.skip("needs x64")
    params = fn.init(jax.random.key(1), NET, dtype=dtype)
    pixels = RANDOM.integers(0, 256, (N, 6)).astype(np.uint8)
    pair = []
    for data in (Stream(pixels, Y, part_size=1000), ((pixels / np.float32(255)).astype("float32"), Y)):
        prepared = prepare(jax.random.key(0), NET, SGD, data, batch_size=16, params=params)
        pair.append(run(prepared, 1))
    assert pair[0].state.params[0].w.dtype == dtype
    tolerance = 1e-6 if dtype == "float64" else 0
    np.testing.assert_allclose(pair[0].history["train_loss"], pair[1].history["train_loss"], rtol=tolerance)


def stop_after(parts):
    return itertools.chain(itertools.repeat(False, parts - 1), itertools.repeat(True)).__next__


@pytest.fixture
def kept(tmp_path):
    told = []
    return Checkpoints(tmp_path / "run", {"network": "6-8-3"}, 0.0, tell=told.append), told


@pytest.mark.parametrize("parts", [1, 4, 5, 7])
def test_a_run_goes_on_within_an_epoch(kept, parts):
    data = Stream(X, Y, part_size=80)
    prepared = prepare(jax.random.key(0), NET, SGD, data, batch_size=16, validation=(X, Y))
    assert prepared.parts == 4
    unbroken, calls = run(prepared, 3), []
    first = run(prepared, 3, checkpoints=kept[0], interrupted=stop_after(parts), on_part=calls.append)
    assert (first.stopped, first.epoch, first.part) == ("interrupted", *divmod(parts, 4))
    assert calls == [number / 4 for number in range(1, parts + 1)]
    assert len(first.history.get("train_loss", ())) == parts // 4
    again = run(prepared, 3, checkpoints=kept[0], resume=True)
    assert_same(again, unbroken)
    assert (again.epoch, again.part, again.stopped) == (3, 0, "epochs")
    assert len(kept[1]) == 1
    assert (
        kept[1][0]
        == {
            1: "going on after epoch 0, part 1 of the next",
            4: "going on after epoch 1",
            5: "going on after epoch 1, part 1 of the next",
            7: "going on after epoch 1, part 3 of the next",
        }[parts]
    )


def test_a_run_cannot_go_on_in_other_parts(kept):
    trained(Stream(X, Y, part_size=80), checkpoints=kept[0], interrupted=stop_after(2))
    with pytest.raises(ValueError, match="is of a run with another window: 10, not 12"):
        trained(Stream(X, Y, part_size=100), checkpoints=kept[0], resume=True)


def test_a_loss_that_is_not_finite_is_told_with_its_step():
    """The first steps of a part count those before it."""
    optimizer = optax.sgd(optax.piecewise_constant_schedule(0.1, {12: 1e37}))
    stream = Stream(X, TARGETS, part_size=80)
    params = fn.init(jax.random.key(1), PLAIN, dtype="float32")
    failure = run(prepare(jax.random.key(0), PLAIN, optimizer, stream, batch_size=16, params=params), 3).failure
    assert (failure.epoch, failure.step, failure.layer, failure.kept) == (1, 14, None, 0)


class Recorded:
    """Rows that tell what is read of them, and that may end early or change."""

    def __init__(self, array, rows=None):
        self.array, self.reads, self.rows = array, [], rows
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, rows):
        self.reads.append((rows.start, rows.stop, threading.current_thread() is threading.main_thread()))
        return self.array[: self.rows][rows]


def test_features_are_read_a_part_at_a_time_by_a_thread_of_its_own():
    x = Recorded(X)
    trained(Stream(x, Y, part_size=80), epochs=1)
    assert max(stop - start for start, stop, _ in x.reads) == 5 * 2  # rows of a block in a part
    assert sum(not on_main for *_, on_main in x.reads) > 4 * 8
    assert threading.active_count() < 20


def test_no_more_is_loaded_than_what_comes_next():
    loaded, used = [], []
    for item in itertools.islice(ahead(lambda i: loaded.append(i) or i, itertools.count()), 5):
        used.append(item)
        assert len(loaded) <= len(used) + 1
    assert used == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda i: 1 // i, [2, 1, 0]))


BAD = X.copy()
BAD[200, 3] = np.inf


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        (Stream(BAD, Y), ValueError, r"data: x must be finite; got inf at \[200, 3\]"),
        (Stream(X[:, :5], Y), ValueError, "data: x must have 6 features to match"),
        (Stream(X.astype(int), Y), TypeError, "data: x must be floating point"),
        (Stream(X[:0], Y[:0]), ValueError, "data: x must have at least one example"),
        (Stream(X, Y[:-1]), ValueError, "data: y must be labels of shape"),
        (Stream(X, Y * 2), ValueError, "data: y must be labels from 0 to 2.* got 4 at example"),
        (Stream(X, Y * 0), ValueError, "data: y must hold at least 2 classes to learn from; got only class 0"),
        (Stream(X, Y, WEIGHTS - 0.6), ValueError, "data: weights of a stream must be positive; got -0"),
        (Stream(X, Y, WEIGHTS[:-1]), ValueError, "data: weights must have shape"),
        (Stream(X, Y, WEIGHTS * np.nan), ValueError, "data: weights must be finite"),
        (Stream(list(X), Y), TypeError, "data: x must be an array, or read by slices like one; got list"),
        (Stream("x.npy", Y), TypeError, "data: x must be an array, or read by slices like one; got str"),
        (Stream(X, Y, part_size=0), ValueError, "data: part_size must be at least 1"),
        (Stream(X, Y, part_size=1.5), TypeError, "data: part_size must be"),
        (Stream(Recorded(X, 250), Y), ValueError, r"data: x must have rows up to \d+; got 250"),
        (Stream(X, Recorded(Y, 250)), ValueError, "data: y must have rows up to 301; got 250"),
    ],
)
def test_streams_that_cannot_be_trained_on(stream, error, message):
    with pytest.raises(error, match=message):
        trained(stream, epochs=1)


@pytest.mark.bad_input
def test_what_takes_data_in_memory():
    stream, key, privacy = Stream(X, Y), jax.random.key(0), fn.training.Privacy(1.0, 1.0)
    with pytest.raises(ValueError, match=r"data must be arrays in memory for batch_size=None, .*; got a Stream"):
        fn.fit(key, NET, SGD, stream, epochs=1, batch_size=None)
    with pytest.raises(ValueError, match="data must be arrays in memory for private training; got a Stream"):
        fn.fit(key, NET, SGD, stream, epochs=1, batch_size=16, privacy=privacy)
    with pytest.raises(TypeError, match=r"data must be \(x, y\) or \(x, y, weights\); got Stream"):
        fn.training.fit_many(key, NET, SGD, stream, {"l2": np.array([0.1, 0.2])}, epochs=1, validation=stream)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = open_npy(tmp_path / "x.npy")
    prepared = prepare(jax.random.key(0), NET, SGD, Stream(x, Y, part_size=80), batch_size=16)
    with (tmp_path / "x.npy").open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(ValueError, match=r"x\.npy has changed since it was opened"):
        run(prepared, 1)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(FileNotFoundError):
        run(prepared, 1)
