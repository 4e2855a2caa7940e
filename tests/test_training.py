"""fit: one compiled program an epoch, every example once, the same key the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import WIDE, assert_close, case, some
from sklearn.metrics import r2_score

import funcnet as fn
from funcnet.training import Examples, epoch, evaluate, new_order, new_state, prepare, run, step
from funcnet.training.epoch import epoch_program
from funcnet.training.metrics import scores

SGD = optax.sgd(0.1)


def data(n=50, k=3, seed=0):
    """Three overlapping blobs in five dimensions."""
    random = np.random.default_rng(seed)
    y = random.integers(0, k, n)
    return (random.normal(0, 1, (n, 5)) + 2 * np.eye(5)[y]).astype(np.float32), y.astype(np.int32)


def network(**fields):
    return fn.MLP((5, 7, 3), **({"activation": fn.tanh, "loss": fn.softmax_cross_entropy} | fields))


@pytest.fixture(scope="module")
def fitted():
    return fn.fit(jax.random.key(0), network(), SGD, data(), epochs=20, batch_size=16, validation=data(40, seed=1))


@pytest.mark.quick
def test_history(fitted):
    state, history = fitted
    names = {f"{part}_{metric}" for part in ("train", "validation") for metric in ("loss", "accuracy")}
    assert set(history) == names | {"seconds", "compile_seconds"}
    assert all(values.shape == (20,) for values in history.values())
    assert state.step == 20 * 4
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert history["validation_accuracy"][-1] > 0.7
    assert (history["compile_seconds"][1:] == 0).all()


def test_same_key_same_bits(fitted):
    again = fn.fit(jax.random.key(0), network(), SGD, data(), epochs=20, batch_size=16, validation=data(40, seed=1))
    for got, expected in zip(jax.tree.leaves(again[0].params), jax.tree.leaves(fitted[0].params), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    np.testing.assert_array_equal(again[1]["train_loss"], fitted[1]["train_loss"])
    other, _ = fn.fit(jax.random.key(1), network(), SGD, data(), epochs=1, batch_size=16)
    assert not np.array_equal(other.params[0].w, fitted[0].params[0].w)


def test_final_metrics_are_those_of_the_params(fitted):
    state, history = fitted
    x, y = data(40, seed=1)
    outputs = np.asarray(fn.apply(network(), state.params, x))
    assert history["validation_accuracy"][-1] == pytest.approx(np.mean(outputs.argmax(axis=1) == y))
    assert history["validation_loss"][-1] == pytest.approx(float(fn.loss(network(), state.params, x, y)), rel=1e-5)


def arrays(n=9):
    net, params, x, y = case(loss=fn.softmax_cross_entropy, l2=0.1)
    return net, params, Examples(x[:n], y[:n], jnp.ones(n, WIDE))


def test_a_step_is_the_optimizer_on_the_closed_form_gradient():
    net, params, batch = arrays()
    state = new_state(jax.random.key(0), params, SGD)
    after, sums = step(net, SGD, state, batch, None)
    value, grads = fn.value_and_grad(net, params, batch.x, batch.y)
    assert_close(after.params, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads))
    assert_close(sums.loss / sums.weight, value)
    assert after.step == 1


def test_an_epoch_of_one_batch_is_one_step_whatever_the_order():
    net, params, batch = arrays()
    expected, _ = step(net, SGD, new_state(jax.random.key(0), params, SGD), batch, None)
    got, _ = epoch(net, SGD, 9, new_state(jax.random.key(0), params, SGD), batch)
    assert_close(got.params, expected.params)


def test_every_example_counts_once():
    """With a gradient that is linear in the examples and frozen parameters, the epoch's sums are those of the data."""
    net, params, batch = arrays()
    frozen = optax.sgd(0.0)
    for size in (1, 4, 9):
        state, report = epoch(net, frozen, size, new_state(jax.random.key(size), params, frozen), batch)
        sums = report.sums
        assert float(sums.weight) == 9
        assert report.losses.shape == (-(-9 // size),)
        assert bool(report.finite)
        assert_close(sums.loss / sums.weight, fn.loss(net, params, batch.x, batch.y), terms=2)
        assert state.step == -(-9 // size)


def test_ragged_last_batch_is_a_mean_over_its_own_examples():
    """Ten examples in batches of 9: the last step sees one example, and its gradient is not diluted by the filling."""
    net, params, x, y = case(loss=fn.half_squared_error)
    x, y = jnp.concatenate([x, x[:1]]), jnp.concatenate([y, y[:1]])
    batch = Examples(x, y, jnp.ones(10, WIDE))
    key = jax.random.key(3)
    got, _ = epoch(net, SGD, 9, new_state(key, params, SGD), batch)
    order = new_order(key, 10, 9).ravel()
    expected = params
    for rows in (order[:9], order[9:10]):
        _, grads = fn.value_and_grad(net, expected, x[rows], y[rows])
        expected = jax.tree.map(lambda p, g: p - 0.1 * g, expected, grads)
    assert_close(got.params, expected, terms=2)


def test_epochs_are_shuffled_anew():
    net, params, batch = arrays()
    one, _ = epoch(net, SGD, 2, new_state(jax.random.key(0), params, SGD), batch)
    two, _ = epoch(net, SGD, 2, new_state(jax.random.key(1), params, SGD), batch)
    assert not np.array_equal(one.params[0].w, two.params[0].w)
    assert not np.array_equal(jax.random.key_data(one.key), jax.random.key_data(jax.random.key(0)))


def test_nothing_recompiles():
    """Neither in later epochs nor for another key and l2. (What other tests compiled may leave the cache meanwhile.)"""
    program, sizes = epoch_program(network(l2=0.0)), []

    def count(number, metrics):
        sizes.append(program._cache_size())

    for seed in (0, 1):
        fn.fit(jax.random.key(seed), network(l2=0.1 * seed), SGD, data(33), epochs=3, batch_size=8, on_epoch=count)
    assert len(sizes) == 6
    assert 0 < sizes[0] == max(sizes)


@pytest.mark.parametrize("rows", [1, 4, 9, 1024])
def test_evaluation_in_blocks(rows):
    net, params, batch = arrays()
    weights = jnp.arange(9).astype(WIDE)
    sums = evaluate(net, params, batch._replace(weights=weights), "classification", rows)
    assert_close(sums.loss / sums.weight, fn.loss(net, params, batch.x, batch.y, weights=weights), terms=2)
    right = np.asarray(fn.apply(net, params, batch.x)).argmax(axis=1) == np.asarray(batch.y)
    assert float(sums.scores[0]) == pytest.approx(float(np.sum(right * np.arange(9))))


def test_weights_reach_the_gradient():
    """Weight 0 leaves a row out, NaN and all; weight 2 is the row twice."""
    x, y = data(12)
    bad = np.concatenate([x, np.full((1, 5), np.nan, np.float32)])
    net, key = network(), jax.random.key(0)
    whole = {"epochs": 2, "batch_size": 100}
    weights = np.ones(13)
    weights[12] = 0
    plain, _ = fn.fit(key, net, SGD, (x, y), **whole)
    masked, _ = fn.fit(key, net, SGD, (bad, np.append(y, 7), weights), **whole)
    assert_close(masked.params, plain.params, terms=4)
    twice, _ = fn.fit(key, net, SGD, (np.concatenate([x, x[:1]]), np.append(y, y[0])), **whole)
    weighted, _ = fn.fit(key, net, SGD, (x, y, np.append(2.0, np.ones(11))), **whole)
    assert_close(weighted.params, twice.params, terms=4)


@pytest.mark.parametrize(
    ("loss", "task"),
    some(
        [
            (fn.half_squared_error, "regression"),
            (fn.half_squared_error, "classification"),
            (fn.poisson, "regression"),
            (fn.sigmoid_cross_entropy, None),
        ],
        2,
    ),
    ids=lambda case: getattr(case, "name", case),
)
def test_other_losses(loss, task, standard_promotion):
    x, labels = data()
    y = np.eye(3, dtype=np.float32)[labels]
    net = network(loss=loss)
    state, history = fn.fit(
        jax.random.key(0), net, optax.adam(0.02), (x, y), epochs=15, batch_size=16, validation=(x, y), task=task
    )
    outputs = np.asarray(fn.apply(net, state.params, x))
    predicted = np.asarray(loss.inverse_link(outputs))
    if task == "regression":
        assert history["validation_mean_absolute_error"][-1] == pytest.approx(abs(predicted - y).mean(), rel=1e-5)
        assert history["validation_r2"][-1] == pytest.approx(r2_score(y, predicted), rel=1e-5)
    else:
        right = outputs.argmax(axis=1) == labels if task else ((predicted > 0.5) == (y > 0.5)).mean()
        assert history["validation_accuracy"][-1] == pytest.approx(np.mean(right), rel=1e-5)
    assert history["train_loss"][-1] < history["train_loss"][0]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int32"])
def test_scores_of_narrow_labels(dtype):
    """A predicted class beyond the range of the labels' dtype is not taken for a label."""
    y = jnp.array([0, 1, 1, 0]).astype(dtype)
    outputs = jnp.zeros((4, 300)).at[jnp.arange(4), jnp.array([256, 257, 1, 0])].set(1)
    net = fn.MLP((1, 300), loss=fn.softmax_cross_entropy)
    assert scores(net, outputs, y, "classification").tolist() == [[0], [0], [1], [1]]
    assert scores(fn.MLP((1, 3), loss=net.loss), jnp.eye(3)[jnp.array([2, 2, 1, 0])], y, "classification").tolist() == [
        [0],
        [0],
        [1],
        [1],
    ]


def test_any_optimizer_and_dropout(standard_promotion):
    net = network(dropout=0.3, l2=1e-3)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))
    _, history = fn.fit(jax.random.key(0), net, optimizer, data(), epochs=20, batch_size=16)
    assert history["train_accuracy"][-1] > 0.7


def test_keys_of_the_old_kind():
    """An old-style key draws what the new-style key of the same seed draws."""
    new, old = (
        fn.fit(key(0), network(dropout=0.2), SGD, data(), epochs=2, batch_size=16)[0]
        for key in (jax.random.key, jax.random.PRNGKey)
    )
    np.testing.assert_array_equal(np.asarray(new.params[0].w), np.asarray(old.params[0].w))


def test_half_precision_parameters_train():
    params = fn.init(jax.random.key(0), network(), dtype="bfloat16")
    state, history = fn.fit(jax.random.key(0), network(), SGD, data(), epochs=10, batch_size=16, params=params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.params)} == {"bfloat16"}
    assert history["train_loss"][-1] < history["train_loss"][0]


def test_given_parameters_are_left_alone():
    net = network()
    params = fn.init(jax.random.key(5), net)
    before = jax.tree.map(np.array, params)
    prepared = prepare(jax.random.key(0), net, SGD, data(), batch_size=16, params=params)
    first, second = run(prepared, 2).state, run(prepared, 2).state
    for leaf, old in zip(jax.tree.leaves(params), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(np.asarray(leaf), old)
    np.testing.assert_array_equal(np.asarray(first.params[0].w), np.asarray(second.params[0].w))


def test_callback_sees_every_epoch():
    seen = []
    fn.fit(jax.random.key(0), network(), SGD, data(), epochs=3, on_epoch=lambda n, m: seen.append((n, m["train_loss"])))
    assert [n for n, _ in seen] == [1, 2, 3]


def test_data_is_passed_in_not_closed_over():
    """No large constant stands in the compiled program."""
    net = network()
    prepared = prepare(jax.random.key(0), net, SGD, data(5000), batch_size=100)
    rows = new_order(jax.random.key(0), 5000, 100)
    text = epoch_program(net).lower(net, SGD, rows, prepared.state, prepared.train).as_text()
    assert len(text) < 200_000
