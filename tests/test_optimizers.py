"""Optimizers by name, schedules, and the searches along a line, which run the closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import WIDE, X64, case, some
from scipy.optimize import minimize

import funcnet as fn
from funcnet.training import (
    OPTIMIZERS,
    Examples,
    Objective,
    epoch,
    exact_line_search,
    new_state,
    optimizer_by_name,
    prepare,
    run,
    schedule_by_name,
    step,
)
from funcnet.training.epoch import epoch_program

NET = fn.MLP((4, 6, 2), activation=fn.tanh, loss=fn.half_squared_error, l2=1e-2)


def regression(seed=0, n=40):
    """Two smooth functions of four numbers, with a little noise."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 4))
    y = np.stack([np.sin(x[:, 0]) + x[:, 1] * x[:, 2], x[:, 3] ** 2 - x[:, 0]], axis=1)
    return x.astype(WIDE), (y + 0.1 * random.normal(size=(n, 2))).astype(WIDE)


@pytest.mark.parametrize("name", some(OPTIMIZERS, 5))
def test_every_optimizer_trains(name, standard_promotion):
    whole = OPTIMIZERS[name].learning_rate is None
    optimizer = optimizer_by_name(name)
    assert optimizer is optimizer_by_name(name)
    data = regression()
    _, history = fn.fit(jax.random.key(0), NET, optimizer, data, epochs=40, batch_size=None if whole else 10)
    assert history["train_loss"][-1] < 0.9 * history["train_loss"][0]
    assert ("gradient_norm" in history) == whole


def scipy_evaluations(params, x, y):
    """How often SciPy's L-BFGS computes value and gradient until the gradient's norm is below 1e-6."""
    leaves, tree = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    compiled, norms = jax.jit(fn.value_and_grad), []

    def counted(flat):
        parts = [part.reshape(leaf.shape) for part, leaf in zip(np.split(flat, ends), leaves, strict=True)]
        value, grads = compiled(NET, jax.tree.unflatten(tree, parts), x, y)
        gradient = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])
        norms.append(np.linalg.norm(gradient))
        return float(value), gradient

    start = np.concatenate([np.ravel(leaf) for leaf in leaves])
    minimize(counted, start, jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9, "maxiter": 2000})
    return int(np.flatnonzero(np.array(norms) < 1e-6)[0]) + 1


if X64:  # a gradient norm of 1e-6 needs float64

    @pytest.mark.slow
    def test_lbfgs_needs_no_more_evaluations_than_scipy(standard_promotion):
        """Within 20 %, counted to a gradient norm below 1e-6 from the same start, on each of three problems."""
        optimizer = optimizer_by_name("lbfgs")
        for seed in range(3):
            x, y = regression(seed)
            params = fn.init(jax.random.key(seed), NET)
            prepared = prepare(jax.random.key(0), NET, optimizer, (x, y), batch_size=None, params=params)
            state, count, norm = prepared.state, 1, 1.0
            while norm >= 1e-6:
                state = epoch(NET, optimizer, None, state, prepared.train, "regression")[0]
                count += int(optax.tree.get(state.opt_state, "num_linesearch_steps"))
                norm = float(optax.tree.norm(optax.tree.get(state.opt_state, "grad")))
            assert float(optax.tree.norm(fn.value_and_grad(NET, state.params, x, y)[1])) < 1e-6
            assert count <= 1.2 * scipy_evaluations(params, x, y)


@pytest.mark.quick
def test_exact_line_search_ends_where_the_slope_is_zero():
    """|dφ/dα| is at most 1e-6 of its start, by the oracle; in float32 rounding is in the way of that."""
    net, params, x, y = case(fn.tanh, fn.half_squared_error, WIDE, l2=1e-2)
    optimizer = exact_line_search()
    state = new_state(jax.random.key(0), params, optimizer)
    advance = jax.jit(lambda s: step(net, optimizer, s, Examples(x, y, jnp.ones(9, WIDE)), None)[0])

    @jax.jit
    def slopes(params, alpha):
        g = jax.grad(fn.loss, argnums=1)(net, params, x, y)
        along = jax.grad(lambda a: fn.loss(net, jax.tree.map(lambda p, d: p - a * d, params, g), x, y))
        return along(jnp.zeros((), WIDE)), along(alpha)

    for _ in range(5):
        before, state = state, advance(state)
        found = state.opt_state
        start, end = slopes(before.params, found.learning_rate)
        assert abs(float(end)) <= (1.01e-6 if X64 else 3e-5) * abs(float(start))
        assert abs(float(found.slope_ratio)) == pytest.approx(abs(float(end / start)), abs=1e-5)
        value, grads = fn.value_and_grad(net, state.params, x, y)
        np.testing.assert_allclose(found.value, value, rtol=1e-5)
        assert float(value) < float(fn.loss(net, before.params, x, y))
        assert int(found.num_linesearch_steps) < 30
    np.testing.assert_allclose(found.grad[0].w, grads[0].w, rtol=1e-4, atol=1e-6)


class Along:
    """A function of one number as an objective of a single layer's bias."""

    def __init__(self, value, slope):
        self.value, self.slope = value, slope

    def value_and_grad(self, params):
        b = params[0].b
        return self.value(b[0]), (fn.Layer(jnp.zeros_like(params[0].w), self.slope(b)),)


def search(value, slope, start, **options):
    """One exact line search on a function of one number."""
    params = (fn.Layer(jnp.zeros((1, 1), WIDE), jnp.full(1, start, WIDE)),)
    optimizer = exact_line_search(**options)
    objective = Along(value, slope)
    first, grads = objective.value_and_grad(params)
    updates, state = optimizer.update(
        grads, optimizer.init(params), params, value=first, grad=grads, value_fn=objective
    )
    return float(params[0].b[0] + updates[0].b[0]), state


def test_exact_line_search_at_kinks_slopes_without_end_and_minima():
    kink, state = search(lambda b: jnp.abs(b - 3), lambda b: jnp.sign(b - 3), 10.0)
    assert kink == pytest.approx(3, rel=1e-6)
    assert float(state.slope_ratio) <= 1
    far, state = search(lambda b: -b, lambda b: -jnp.ones_like(b), 0.0, max_steps=8)
    assert far == pytest.approx(2.0**7)
    assert int(state.num_linesearch_steps) == 8
    still, state = search(lambda b: b**2, lambda b: 2 * b, 0.0)
    assert still == 0
    assert int(state.num_linesearch_steps) == 0
    assert float(state.learning_rate) == 1
    over_a_hump, state = search(lambda b: jnp.where(b < 1, b**2, 50 - b), lambda b: jnp.where(b < 1, 2 * b, -1), -3.5)
    assert over_a_hump == pytest.approx(0, abs=1e-5)
    wall, state = search(lambda b: jnp.where(b > 2, jnp.nan, (b - 1.9) ** 2), lambda b: 2 * (b - 1.9), 0.0)
    assert wall == pytest.approx(1.9, rel=1e-5)


def test_a_line_search_is_compiled_once(standard_promotion):
    """Optax's first states hold weakly typed numbers, its later ones do not: two programs, were they left so."""
    net = fn.MLP((4, 5, 2), activation=fn.tanh, loss=fn.half_squared_error)
    program = epoch_program(net)
    before = program._cache_size()
    fn.fit(jax.random.key(0), net, optimizer_by_name("line_search"), regression(), epochs=3, batch_size=None)
    assert program._cache_size() == before + 1


@pytest.mark.parametrize("name", some(["line_search", "lbfgs", "exact_line_search"], 2))
def test_searches_differentiate_the_closed_form(name, standard_promotion):
    """With a slope that is wrong by a tenth, the gradient that a search leaves is the wrong one, not autodiff's."""
    wrong = fn.Activation(
        "wrong", fn.tanh.value, lambda z, h: 1.1 * fn.tanh.slope(z, h), fn.tanh.curvature, fn.tanh.third
    )
    net = fn.MLP((4, 6, 2), activation=wrong, loss=fn.half_squared_error)
    x, y = regression()
    state = run(prepare(jax.random.key(0), net, optimizer_by_name(name), (x, y), batch_size=None), 1).state
    found = optax.tree.get(state.opt_state, "grad")[0].w
    ours = fn.value_and_grad(net, state.params, x, y)[1][0].w
    autodiff = jax.grad(fn.loss, argnums=1)(net, state.params, x, y)[0].w
    np.testing.assert_allclose(found, ours, rtol=1e-4, atol=1e-6)
    assert not np.allclose(found, autodiff, rtol=1e-2)


def test_an_objective_is_the_loss_of_its_batch():
    net, params, x, y = case(fn.tanh, fn.half_squared_error, dropout=0.3)
    objective = Objective(net, Examples(x, y, jnp.ones(9, WIDE)), jax.random.key(1))
    expected, grads = fn.value_and_grad(net, params, x, y, key=jax.random.key(1))
    np.testing.assert_allclose(objective(params), expected, rtol=1e-6)
    np.testing.assert_allclose(objective.value_and_grad(params)[1][0].w, grads[0].w, rtol=1e-5)


@pytest.mark.quick
def test_schedules(standard_promotion):
    constant = schedule_by_name("constant", 0.3, 10)
    assert constant == 0.3
    cosine = schedule_by_name("cosine", 0.3, 10)
    np.testing.assert_allclose(
        [cosine(t) for t in range(11)], 0.15 * (1 + np.cos(np.pi * np.arange(11) / 10)), atol=1e-7
    )
    warm = schedule_by_name("constant", 0.3, 10, warmup=4)
    np.testing.assert_allclose([warm(t) for t in range(6)], [0.075, 0.15, 0.225, 0.3, 0.3, 0.3], rtol=1e-6)
    warm = schedule_by_name("cosine", 0.3, 10, warmup=4)
    np.testing.assert_allclose([warm(t) for t in (3, 4, 7, 10)], [0.3, 0.3, 0.15, 0], atol=1e-6)
    one_cycle = schedule_by_name("one_cycle", 0.5, 100)
    rates = np.array([one_cycle(t) for t in range(101)])
    assert rates.argmax() == 30
    np.testing.assert_allclose(rates[[0, 30, 100]], [0.02, 0.5, 0.5 / 25e4], rtol=1e-5)
    assert all(np.isfinite(schedule_by_name("one_cycle", 0.5, 4)(t)) for t in range(5))
    assert schedule_by_name("one_cycle", 0.5, 1) == 0.5


def one_update(optimizer):
    params = (fn.Layer(jnp.full((2, 2), 3.0), jnp.full(2, 3.0)),)
    grads = (fn.Layer(jnp.full((2, 2), 40.0), jnp.full(2, 40.0)),)
    return optimizer.update(grads, optimizer.init(params), params)[0][0]


@pytest.mark.quick
def test_settings(standard_promotion):
    clipped = one_update(optimizer_by_name("sgd", learning_rate=1.0, clip_norm=0.5))
    assert float(optax.tree.norm(clipped)) == pytest.approx(0.5)
    decayed = one_update(optimizer_by_name("adamw", learning_rate=0.1, weight_decay=0.5))
    np.testing.assert_allclose(decayed.b, -0.1, rtol=1e-4)
    np.testing.assert_allclose(decayed.w, -0.1 - 0.1 * 0.5 * 3, rtol=1e-4)
    heavy = optimizer_by_name("momentum", learning_rate=1.0, momentum=0.25)
    params = (fn.Layer(jnp.ones((1, 1)), jnp.ones(1)),)
    _, state = heavy.update(params, heavy.init(params), params)
    assert float(heavy.update(params, state, params)[0][0].b[0]) == -1.25
    ahead = optimizer_by_name("nesterov", learning_rate=1.0, momentum=0.25)
    assert float(ahead.update(params, ahead.init(params), params)[0][0].b[0]) == -1.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rmsprob",), "optimizer must be one of sgd, momentum, nesterov, rmsprop, .*; got 'rmsprob'"),
        (
            ("lbfgs", "learning_rate", 0.1),
            "learning_rate is not for lbfgs: it finds the length of its steps itself; got 0.1",
        ),
        (("exact_line_search", "clip_norm", 1.0), "clip_norm is not for exact_line_search: it finds"),
        (("adam", "momentum", 0.5), "momentum is not for adam; got 0.5"),
        (("sgd", "weight_decay", 0.5), "weight_decay is not for sgd; got 0.5"),
        (("momentum", "momentum", 1.0), r"momentum must be in \[0, 1\); got 1.0"),
        (("adamw", "weight_decay", -1.0), "weight_decay must be a finite number of at least 0; got -1.0"),
        (("sgd", "learning_rate", float("nan")), "learning_rate must be a positive finite number; got nan"),
        (("sgd", "clip_norm", 0.0), "clip_norm must be a positive finite number; got 0.0"),
        (("sgd", "schedule", "linear"), "schedule must be one of constant, cosine, one_cycle; got 'linear'"),
        (("sgd", "warmup", 10), "warmup must be from 0 to less than the 10 steps there are; got 10"),
    ],
)
def test_wrong_settings(arguments, message):
    name, *setting = arguments
    with pytest.raises(ValueError, match=message):
        optimizer_by_name(name, steps=10, **({setting[0]: setting[1]} if setting else {}))
    with pytest.raises(ValueError, match="steps, the number of steps in all, is needed for the schedule cosine"):
        optimizer_by_name("adam", schedule="cosine")
    with pytest.raises(ValueError, match="warmup must be 0 with one_cycle"):
        schedule_by_name("one_cycle", 0.1, 10, 3)
    with pytest.raises(TypeError, match="exact_line_search needs params"):
        exact_line_search().update(
            (), exact_line_search().init((fn.Layer(jnp.ones((1, 1)), jnp.ones(1)),)), value=1.0, value_fn=len
        )
