"""What makes an epoch fast changes nothing but its speed: bytes for floats, orders from the host, compiler options."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import X64, assert_close

import funcnet as fn
from funcnet import contractions
from funcnet.precision import transpose
from funcnet.training import Examples, epoch_in_order, evaluate, new_order, new_state, pixels, prepare, run
from funcnet.training import programs as compiler
from funcnet.training.order import block_starts, count_blocks

SGD = optax.sgd(0.1)
NET = fn.MLP((6, 5, 4, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy, dropout=0.3)


def images(n=60, d=6, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (n, d)).astype(np.uint8), random.integers(0, 3, n).astype(np.int32)


@pytest.mark.quick
def test_bytes_give_back_what_a_division_gives():
    k = np.arange(256, dtype=np.uint8)
    expected = k.astype(np.float32) / np.float32(255)
    for convert in (pixels.from_bytes, jax.jit(pixels.from_bytes)):
        np.testing.assert_array_equal(np.asarray(convert(jnp.asarray(k))), expected)


def test_only_what_bytes_can_hold_is_kept_in_bytes(monkeypatch):
    monkeypatch.setattr(pixels, "SIZE", 100)
    k, _ = images()
    x = k.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(np.asarray(pixels.in_bytes(x)), k)
    off = x.copy()
    off[-1, -1] = np.nextafter(off[-1, -1], np.float32(2))
    beyond = x.copy()
    beyond[3, 2] = -1 / 255
    for other in (off, beyond, 2 * x, x.astype(np.float64), x[:9]):
        kept = pixels.in_bytes(other)
        assert kept.dtype != jnp.uint8
        np.testing.assert_array_equal(np.asarray(kept), other.astype(kept.dtype))


@pytest.mark.parametrize("batch_size", [16, None])
def test_training_on_bytes_is_training_on_floats_bit_for_bit(batch_size, monkeypatch):
    k, y = images()
    x = k.astype(np.float32) / np.float32(255)
    results = []
    for size, dtype in ((100, "uint8"), (10**9, "float32")):
        monkeypatch.setattr(pixels, "SIZE", size)
        params = fn.init(jax.random.key(1), NET, dtype="float32")
        prepared = prepare(jax.random.key(0), NET, SGD, (x, y), batch_size=batch_size, validation=(x, y), params=params)
        assert prepared.train.x.dtype == prepared.validation.x.dtype == dtype
        results.append(run(prepared, 3))
    for got, expected in zip(*(jax.tree.leaves(result.state.params) for result in results), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    np.testing.assert_array_equal(results[0].history["validation_loss"], results[1].history["validation_loss"])


def test_a_loss_that_is_not_finite_is_found_among_bytes(monkeypatch):
    k, y = images()
    x = k.astype(np.float32) / np.float32(255)
    params = fn.init(jax.random.key(1), NET, dtype="float32")
    failures = []
    for size in (100, 10**9):
        monkeypatch.setattr(pixels, "SIZE", size)
        prepared = prepare(jax.random.key(0), NET, optax.sgd(1e38), (x, y), batch_size=16, params=params)
        failures.append(run(prepared, 2).failure)
    assert failures[0] is not None
    assert failures[0] == failures[1]


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (9, 9), (5, 1), (301, 24), (2**14 + 5, 32)])
def test_an_order_holds_every_example_once(n, batch_size):
    rows = new_order(jax.random.key(0), n, batch_size)
    assert rows.shape == (-(-n // batch_size), batch_size)
    assert rows.dtype == np.int32
    assert sorted(rows[rows >= 0]) == list(range(n))
    assert (rows[:-1] >= 0).all()  # only the last step is filled up
    assert (rows[-1] == -1).sum() == rows.size - n
    np.testing.assert_array_equal(rows, new_order(jax.random.key(0), n, batch_size))


@pytest.mark.parametrize(("n", "batch_size", "blocks"), [(301, 24, 8), (301, 4, 4), (2**14 + 5, 32, 32), (100, 16, 1)])
def test_each_step_takes_as_many_of_each_block(n, batch_size, blocks):
    assert count_blocks(n, batch_size) == blocks
    starts, share = block_starts(n, blocks), batch_size // blocks
    assert starts[-1] == n
    assert np.ptp(np.diff(starts)) <= 1
    rows = new_order(jax.random.key(1), n, batch_size)
    block = np.searchsorted(starts, rows[:-1], side="right") - 1
    np.testing.assert_array_equal(block, np.tile(np.repeat(np.arange(blocks), share), (len(rows) - 1, 1)))
    again = new_order(jax.random.key(2), n, batch_size)
    assert (rows != again).mean() > 0.5


def test_orders_differ_by_key_and_are_uniform():
    firsts = np.array([new_order(jax.random.key(seed), 4, 4)[0, 0] for seed in range(400)])
    counts = np.bincount(firsts, minlength=4)
    assert (np.abs(counts - 100) < 5 * np.sqrt(400 * 3 / 16)).all(), counts


def test_many_networks_share_one_order_under_vmap():
    k, y = images()
    data = Examples(jnp.asarray(k), jnp.asarray(y), jnp.ones(60, "float32"))
    rows = jnp.asarray(new_order(jax.random.key(0), 60, 16))
    states = [new_state(jax.random.key(s), fn.init(jax.random.key(s), NET, dtype="float32"), SGD) for s in range(3)]
    alone = jax.jit(lambda state: epoch_in_order(NET, SGD, rows, state, data)[0].params)
    found = jax.jit(jax.vmap(alone))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    for i, state in enumerate(states):
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], found), alone(state), terms=4)


def test_evaluation_reads_bytes():
    k, y = images()
    params = fn.init(jax.random.key(1), NET, dtype="float32")
    weights = jnp.ones(60, "float32")
    sums = evaluate(NET, params, Examples(jnp.asarray(k), jnp.asarray(y), weights), rows=16)
    assert_close(sums.loss / sums.weight, fn.loss(NET, params, k.astype(np.float32) / np.float32(255), y), terms=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7, 40, 3), (7, 3, 40), (7, 5, 5), (7, 64, 33), (1, 9, 1)])
def test_narrow_products_are_the_products(shape, dtype):
    if dtype == "float64" and not X64:
        pytest.skip("float64 needs x64, which is off in this run")
    n, i, o = shape
    random = np.random.default_rng(0)
    a, delta = (jnp.asarray(random.normal(0, 1, (n, k)), dtype) for k in (i, o))
    layer = jax.jit(contractions.gradient)(a, delta)
    assert_close(layer.w, np.asarray(a).T @ np.asarray(delta))
    many = jax.vmap(lambda d: contractions.gradient(a, d).w)(jnp.stack([delta, 2 * delta]))
    assert_close(many[1], 2 * np.asarray(a).T @ np.asarray(delta))


@pytest.mark.parametrize("shape", [(8, 5), (7, 3), (1, 4), (2, 1)])
def test_a_written_out_transpose_is_the_transpose_of_the_rounded_matrix(shape):
    a = jnp.asarray(np.random.default_rng(0).normal(0, 1, shape), "float32")
    for rounded in (transpose(a, "bfloat16"), jax.jit(lambda a: transpose(a, "bfloat16"))(a)):
        assert rounded.dtype == "float32"
        np.testing.assert_array_equal(np.asarray(rounded), np.asarray(a.astype("bfloat16").astype("float32")).T)
    np.testing.assert_array_equal(np.asarray(transpose(a)), np.asarray(a).T)


def test_options_that_the_compiler_does_not_know_are_left_out(monkeypatch):
    assert not compiler._known("xla_no_such_option", True)
    monkeypatch.setattr(compiler, "IN_PLACE", (("xla_no_such_option", True),))
    assert "xla_no_such_option" not in compiler.options_for(NET)


def test_options_change_nothing_beyond_rounding():
    k, y = images()
    data = Examples(jnp.asarray(k), jnp.asarray(y), jnp.ones(60, "float32"))
    rows = jnp.asarray(new_order(jax.random.key(0), 60, 16))
    state = new_state(jax.random.key(0), fn.init(jax.random.key(1), NET, dtype="float32"), SGD)
    known = [pair for pair in compiler.IN_PLACE + compiler.EIGEN if compiler._known(*pair)]
    results = [
        jax.jit(lambda state: epoch_in_order(NET, SGD, rows, state, data)[0].params, compiler_options=options)(state)
        for options in ({}, dict(known))
    ]
    assert_close(results[1], results[0], terms=4)
