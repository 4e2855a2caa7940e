"""Private training: samples, clipped sums, noise and ε, each against what it should be by definition."""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import assert_close, some

import funcnet as fn
from funcnet.training import Privacy, accounting, epsilon, gaussian_mechanism, noisy_mean, poisson_sum, private
from funcnet.training.epoch import new_state
from funcnet.training.objective import Examples
from funcnet.training.private import Keys, private_epoch, private_step, rows_at_once

N, DRAWS = 20, 2000
PLAN = Privacy(1.1, 1.0, 1e-3)
PLATEAU = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau())  # looks at the loss
NET = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy, l2=0.3)


def data(n=N, k=2):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(0, 1, (n, 3)), "float32")
    return Examples(x, jnp.asarray(np.arange(n) % k, "int32"), jnp.ones(n, "float32"))


def params_of(net, seed=1):
    return fn.init(jax.random.key(seed), net, dtype="float32")


def keys(seed):
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def members(seeds, batch_size, n=N):
    """Who is drawn: −∂ℓ_i/∂b = e_i where parameters are 0 and the target is the unit vector e_i."""
    net = fn.MLP((1, n), loss=fn.half_squared_error)
    zeros = (fn.Layer(jnp.zeros((1, n), "float32"), jnp.zeros(n, "float32")),)
    units = Examples(jnp.zeros((n, 1), "float32"), jnp.eye(n, dtype="float32"), jnp.ones(n, "float32"))

    def one(seed):
        clipped, sums = poisson_sum(net, zeros, units, Privacy(1.0, 10.0), batch_size, keys(seed), "regression")
        return -clipped[0].b, sums.weight

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jnp.asarray(seeds)))


@pytest.mark.parametrize(("rows", "batch_size"), [(3, 1), (3, 15), (8, 5), (N, 5)])
def test_each_example_is_drawn_by_itself_with_the_same_probability(monkeypatch, rows, batch_size):
    monkeypatch.setattr(private, "rows_at_once", lambda *_: rows)
    drawn, sizes = members(np.arange(DRAWS), batch_size)
    q = batch_size / N
    assert set(np.unique(drawn)) <= {0.0, 1.0}  # nobody twice
    np.testing.assert_array_equal(drawn.sum(1), sizes)
    deviation = math.sqrt(q * (1 - q) / DRAWS)
    assert np.abs(drawn.mean(0) - q).max() < 4.5 * deviation
    assert abs(sizes.var() - N * q * (1 - q)) < 6 * N * q * (1 - q) * math.sqrt(2 / DRAWS)
    pairs = np.cov(drawn.T)[np.triu_indices(N, 1)]
    assert np.abs(pairs).max() < 5 * q * (1 - q) / math.sqrt(DRAWS)


def test_a_sampler_that_is_wrong_is_noticed(monkeypatch):
    """The test above fails where gaps are off by one, or a chunk is cut off."""
    right = jax.random.geometric
    monkeypatch.setattr(jax.random, "geometric", lambda *a: right(*a) + 1)
    drawn, _ = members(np.arange(DRAWS), 5)
    assert np.abs(drawn.mean(0) - 5 / N).max() > 4.5 * math.sqrt(5 / N * 15 / N / DRAWS)


def test_with_as_many_as_there_are_everyone_is_drawn():
    drawn, sizes = members(np.arange(5), N)
    assert (drawn == 1).all()
    assert (sizes == N).all()


def test_room_for_most_samples_and_never_more_than_there_are():
    assert rows_at_once(128, 60_000) == 152
    assert rows_at_once(600, 60_000) == 648
    assert rows_at_once(10, 12) == 12
    assert rows_at_once(1, 1000) == 8


@pytest.mark.parametrize(("rows", "max_norm"), some([(3, 0.3), (N, 0.3), (3, 1e6), (N, 1e6)], 2))
def test_the_sum_is_that_of_the_gradients_of_those_drawn_clipped_one_by_one(monkeypatch, rows, max_norm):
    monkeypatch.setattr(private, "rows_at_once", lambda *_: rows)
    params, examples = params_of(NET), data()
    (drawn,), _ = members([7], 8)
    assert 3 < drawn.sum() < N

    def clipped(x, y):
        grad = jax.grad(lambda p: fn.per_example_losses(NET, p, x[None], y[None])[0])(params)
        return jax.tree.map(lambda g: g * jnp.minimum(1, max_norm / optax.tree.norm(grad)), grad)

    each = jax.jit(jax.vmap(clipped))(examples.x, examples.y)
    expected = jax.tree.map(lambda leaf: jnp.tensordot(drawn, leaf, 1), each)
    got, sums = poisson_sum(NET, params, examples, Privacy(1.0, max_norm), 8, keys(7))
    assert_close(got, expected, like=params, terms=4)
    losses = fn.per_example_losses(NET, params, examples.x, examples.y)
    penalty = 0.15 * sum(jnp.sum(layer.w**2) for layer in params)
    assert_close(sums.loss, jnp.sum(drawn * (losses + penalty)), terms=4)
    assert sums.weight == drawn.sum()


def test_noise_has_the_deviation_of_the_sum_divided_by_the_expected_size():
    zeros = (fn.Layer(jnp.zeros((1000, 300), "float32"), jnp.zeros(1000, "float32")),)
    (noise,) = noisy_mean(jax.random.key(0), zeros, 1.5, 4.0, 60)
    for leaf in noise:
        assert abs(float(jnp.std(leaf)) / (1.5 * 4.0 / 60) - 1) < 4 / math.sqrt(2 * leaf.size)
        assert abs(float(jnp.mean(leaf))) < 4 * 0.1 / math.sqrt(leaf.size)
    flat = np.sort(np.asarray(noise.w).ravel() / 0.1)
    normal = np.array([math.erf(v / math.sqrt(2)) / 2 + 0.5 for v in flat[::100]])
    assert np.abs(normal - np.arange(0, flat.size, 100) / flat.size).max() < 2 / math.sqrt(flat.size)
    assert abs(np.corrcoef(noise.w[:, 0], noise.b)[0, 1]) < 0.15  # of their own


def test_without_noise_the_mean_is_the_sum_divided():
    params = params_of(NET)
    assert_close(noisy_mean(jax.random.key(0), params, 0.0, 4.0, 8), jax.tree.map(lambda p: p / 8, params))


def test_nobody_drawn_is_a_step_of_pure_noise():
    _, sizes = members(np.arange(200), 1)
    seed = int(np.flatnonzero(sizes == 0)[0])
    net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    params, settings = params_of(net), Privacy(2.0, 0.5)
    state = new_state(jax.random.key(0), params, optax.sgd(1.0))
    after, sums = private_step(net, optax.sgd(1.0), settings, 1, state, data(), keys(seed))
    zeros = jax.tree.map(jnp.zeros_like, params)
    noise = noisy_mean(keys(seed).noise, zeros, 2.0, 0.5, 1)
    assert sums.weight == 0
    assert_close(after.params, jax.tree.map(jnp.subtract, params, noise))


def test_an_epoch_is_its_steps_with_keys_of_their_own():
    settings, optimizer, examples = Privacy(1.0, 0.5), optax.sgd(0.5), data()
    state = new_state(jax.random.key(3), params_of(NET), optimizer)
    after, report = jax.jit(private_epoch, static_argnums=(1, 3))(NET, optimizer, settings, 6, state, examples)
    key, *kinds = jax.random.split(state.key, 4)
    params, drawn = state.params, 0.0
    for each in map(Keys, *(jax.random.split(kind, 4) for kind in kinds)):
        clipped, sums = poisson_sum(NET, params, examples, settings, 6, each)
        mean = noisy_mean(each.noise, clipped, 1.0, 0.5, 6)
        params = tuple(
            fn.Layer(p.w - 0.5 * (g.w + 0.3 * p.w), p.b - 0.5 * g.b) for p, g in zip(params, mean, strict=True)
        )
        drawn += float(sums.weight)
    assert_close(after.params, params, terms=8)
    assert float(report.sums.weight) == drawn
    assert after.step == 4
    assert (jax.random.key_data(after.key) == jax.random.key_data(key)).all()
    data_of = [jax.random.key_data(kind).tolist() for kind in (key, *kinds)]
    assert len({str(one) for one in data_of}) == 4


def test_without_noise_and_clipping_and_with_everyone_it_is_gradient_descent():
    x, y, _ = data()
    plain, _ = fn.fit(jax.random.key(0), NET, optax.sgd(0.5), (x, y), epochs=5, batch_size=None)
    settings = Privacy(0.0, 1e6)
    same, history = fn.fit(jax.random.key(0), NET, optax.sgd(0.5), (x, y), epochs=5, batch_size=N, privacy=settings)
    assert_close(same.params, plain.params, terms=16)
    assert (history["epsilon"] == math.inf).all()


def test_fit_tells_epsilon_after_each_epoch_and_repeats_itself():
    x, y, _ = data()
    settings = Privacy(1.1, 1.0, 1e-3)

    def run(seed):
        net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy, dropout=0.2)
        return fn.fit(
            jax.random.key(seed),
            net,
            optax.sgd(0.1, 0.9),
            (x, y),
            epochs=3,
            batch_size=8,
            validation=(x, y),
            privacy=settings,
        )

    (state, history), (again, _), (other, _) = run(0), run(0), run(1)
    expected = [epsilon(settings, 8 / N, 3 * epoch) for epoch in (1, 2, 3)]
    np.testing.assert_array_equal(history["epsilon"], expected)
    assert 0 < expected[0] < expected[1] < expected[2]
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (state.params, again.params)), strict=True))
    assert not (state.params[0].w == other.params[0].w).all()


def test_a_private_run_that_leaves_the_finite_numbers_stops_at_the_epoch_before():
    x, y, _ = data()
    optimizer = optax.sgd(lambda count: jnp.where(count > 6, jnp.inf, 0.1))
    with pytest.warns(
        fn.training.NonFiniteLoss, match=r"the loss is not finite at epoch 3, step \d; training stopped"
    ) as told:
        state, history = fn.fit(
            jax.random.key(0), NET, optimizer, (x, y), epochs=5, batch_size=8, privacy=Privacy(1.0, 1.0, 1e-3)
        )
    assert "the parameters after epoch 2 are kept" in str(told[0].message)
    assert len(history["epsilon"]) == 3
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(state.params))
    assert state.step == 6


def test_optax_transformation_draws_new_noise_each_time():
    params = params_of(NET)
    zeros = jax.tree.map(jnp.zeros_like, params)
    mechanism = gaussian_mechanism(jax.random.key(5), 1.5, 2.0, 10)
    first, state = mechanism.update(zeros, mechanism.init(params))
    second, _ = mechanism.update(zeros, state)
    following, now = jax.random.split(jax.random.key(5))
    assert_close(first, noisy_mean(now, zeros, 1.5, 2.0, 10))
    assert_close(second, noisy_mean(jax.random.split(following)[1], zeros, 1.5, 2.0, 10))
    assert not (first[0].w == second[0].w).any()


@pytest.mark.parametrize(
    ("n", "batch_size", "noise", "epochs", "delta", "published"),
    [
        (60_000, 150, 1.3, 15, 1e-5, 0.7242234026109595),
        (100_000, 100, 1.0, 30, 1e-7, 1.4154988495444845),
    ],
)
def test_epsilon_is_what_tensorflow_privacy_publishes(n, batch_size, noise, epochs, delta, published):
    steps = math.ceil(epochs * n / batch_size)
    assert epsilon(Privacy(noise, 1.0, delta), batch_size / n, steps) == pytest.approx(published, rel=1e-7)


def test_epsilon_is_no_more_than_the_moments_accountant_gave():
    """Abadi et al. 2016, section 5.1: q = 0.01, σ = 4, δ = 1e-5 and 10,000 steps are (1.26, 1e-5)-private."""
    assert 1.0 < epsilon(Privacy(4.0, 1.0, 1e-5), 0.01, 10_000) < 1.26


def call(**changed):
    x, y, _ = data()
    given = {"batch_size": 8, "epochs": 1, "privacy": Privacy(1.0, 1.0, 1e-3)} | changed
    examples = given.pop("data", (x, y))
    return lambda: fn.fit(jax.random.key(0), NET, optax.sgd(0.1), examples, **given)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (call(privacy=1.0), TypeError, "privacy must be a funcnet.training.Privacy; got 1.0"),
        (call(privacy=Privacy(-1.0)), ValueError, "noise_multiplier must be a finite number of at least 0; got -1.0"),
        (call(privacy=Privacy(1.0, 0.0, 1e-3)), ValueError, "max_norm must be a positive finite number; got 0.0"),
        (call(privacy=Privacy("1")), TypeError, "noise_multiplier must be a number; got '1'"),
        (call(privacy=Privacy(1.0, 1.0, 0.1)), ValueError, r"delta must be below 1 / n for n = 20 examples, 0.05"),
        (call(batch_size=None), ValueError, "batch_size must be a number in private training"),
        (call(patience=1, epochs=2), ValueError, "patience needs validation data in private training"),
        (
            call(data=(data().x, data().y, jnp.arange(1.0, N + 1))),
            ValueError,
            "weights must be 0 or 1 in private training, where no example may count for more; got 2",
        ),
        (
            lambda: fn.fit(jax.random.key(0), NET, PLATEAU, data()[:2], epochs=1, batch_size=8, privacy=PLAN),
            TypeError,
            "optimizer must do with gradients in private training, without the examples",
        ),
        (lambda: epsilon(1.1, 0.1, 10), TypeError, "privacy must be a funcnet.training.Privacy; got 1.1"),
        (lambda: epsilon(PLAN, 0.1, 2.5), TypeError, "steps"),
        (lambda: epsilon(PLAN, 0.1, -10), ValueError, "steps must be at least 1; got -10"),
        (lambda: epsilon(PLAN, 2.0, 10), ValueError, "rate must be a probability above 0; got 2.0"),
        (lambda: epsilon(Privacy(1.1, 1.0, 2.0), 0.1, 10), ValueError, "delta must be below 1"),
        (lambda: gaussian_mechanism(0, 1.0, 1.0, 8), TypeError, "key"),
        (lambda: gaussian_mechanism(jax.random.key(0), 1.0, -1.0, 8), ValueError, "max_norm must be a positive"),
        (lambda: gaussian_mechanism(jax.random.key(0), 1.0, 1.0, 0), ValueError, "batch_size must be a positive"),
    ],
)
def test_what_cannot_be_private_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_missing_package_is_named(monkeypatch):
    accounting._divergences.cache_clear()
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ModuleNotFoundError, match="private training needs dp_accounting: pip install dp-accounting"):
        call()()
