"""Gauss-Newton and K-FAC as Optax transformations, against the systems that they stand for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import WIDE, X64, assert_close, case, some
from jax.flatten_util import ravel_pytree

import funcnet as fn
from funcnet.training import Examples, Objective, fit_many, gauss_newton, kfac, new_state, scale_by_kfac, step

KEY = jax.random.key(5)


def objective(net, x, y, weights=None, key=None):
    return Objective(net, Examples(x, y, jnp.ones(len(x), x.dtype) if weights is None else weights), key)


def update(optimizer, problem, state=None, **given):
    """One update, by all that `funcnet.training.step` hands over."""
    net, params, x, y = problem
    f = objective(net, x, y, **given)
    value, grads = f.value_and_grad(params)
    state = optimizer.init(params) if state is None else state
    return jax.jit(lambda v, g, s, p: optimizer.update(g, s, p, value=v, grad=g, value_fn=f))(
        value, grads, state, params
    )


def regression(n=60):
    x = np.linspace(-1, 1, n)[:, None]
    return x.astype(WIDE), np.sin(5 * x).astype(WIDE)


@pytest.mark.quick
def test_a_step_solves_its_system():
    net, params, x, y = problem = case(fn.tanh, fn.half_squared_error, l2=0.1)
    moved, state = update(gauss_newton(0.5), problem)
    assert_close(moved, fn.gauss_newton_step(net, params, x, y, 0.5), like=params)
    before, after = (fn.loss(net, p, x, y) for p in (params, optax.apply_updates(params, moved)))
    promised = -ravel_pytree(fn.value_and_grad(net, params, x, y)[1])[0] @ ravel_pytree(moved)[0]
    promised -= 0.5 * ravel_pytree(fn.ggn_vp(net, params, x, y, moved))[0] @ ravel_pytree(moved)[0]
    ratio = float((before - after) / promised)
    assert float(state.ratio) == pytest.approx(ratio, rel=1e-3)
    assert float(state.damping) == pytest.approx(0.5 * max(1 / 3, 1 - (2 * ratio - 1) ** 3), rel=1e-3)
    assert int(state.tries) == 1


@pytest.mark.parametrize("loss", some([fn.half_squared_error, fn.softmax_cross_entropy], 1), ids=lambda loss: loss.name)
def test_conjugate_gradients_solve_the_system_to_their_tolerance(loss):
    net, params, x, y = problem = case(fn.tanh, loss, l2=0.1, dropout=0.3)
    moved, _ = update(gauss_newton(0.5, exact_size=1, cg_tolerance=1e-3), problem, key=KEY)
    product, grads = fn.ggn_vp(net, params, x, y, moved, key=KEY), fn.value_and_grad(net, params, x, y, key=KEY)[1]
    residual = jax.tree.map(lambda p, s, g: p + 0.5 * s + g, product, moved, grads)
    assert optax.tree.norm(residual) <= 1.01e-3 * optax.tree.norm(grads)


def test_a_step_that_fails_is_tried_again_with_more_damping():
    """Far from a minimum, of a loss that saturates, and with hardly any damping, the first steps lead too far."""
    net, params, x, y = problem = case(fn.tanh, fn.softmax_cross_entropy)
    far = jax.tree.map(lambda leaf: 4 * leaf, params)
    moved, state = update(gauss_newton(1e-8), (net, far, x, y))
    assert int(state.tries) > 1
    assert float(state.damping) > 1e-8
    assert fn.loss(net, optax.apply_updates(far, moved), x, y) < fn.loss(net, far, x, y)
    still, last = update(gauss_newton(1e-8, max_tries=1), (net, far, x, y))
    assert int(last.tries) == 1
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(still))
    assert problem[0] == net


def test_the_loss_never_rises():
    net = fn.MLP((1, 8, 8, 1), activation=fn.tanh, loss=fn.half_squared_error)
    _, history = fn.fit(KEY, net, gauss_newton(), regression(), epochs=40, batch_size=None)
    losses = history["train_loss"]
    assert (np.diff(losses) <= 0).all()
    assert losses[-1] < 1e-3 * losses[0]


if X64:

    @pytest.mark.slow
    def test_regressions_are_fitted_far_below_what_adam_reaches(standard_promotion):
        net = fn.MLP((1, 20, 20, 1), activation=fn.tanh, loss=fn.half_squared_error)
        x, y = regression(200)
        ends = []
        for optimizer, epochs in ((gauss_newton(), 100), (optax.adam(3e-3), 5000)):
            _, history = fn.fit(KEY, net, optimizer, (x, y), epochs=epochs, batch_size=None)
            ends.append(history["train_loss"][-1])
        assert ends[0] < 1e-3 * ends[1]


def test_kfac_is_the_solution_by_damped_kronecker_factors():
    net, params, x, y = problem = case(fn.tanh, fn.softmax_cross_entropy)
    damping = 0.01
    optimizer = scale_by_kfac(damping, norm_constraint=1e9)
    moved, state = update(optimizer, problem)
    a, _ = (np.asarray(m) for m in state.factors[0])
    ones = np.concatenate([np.asarray(x), np.ones((len(x), 1))], axis=1)
    np.testing.assert_allclose(a, ones.T @ ones / len(x), rtol=1e-5)
    grads = fn.value_and_grad(net, params, x, y)[1]
    for own, grad, (a, g) in zip(moved, grads, state.factors, strict=True):
        pi = np.sqrt(np.trace(a) / len(a) / (np.trace(g) / len(g)))
        damped = a + pi * np.sqrt(damping) * np.eye(len(a)), g + np.sqrt(damping) / pi * np.eye(len(g))
        rows = np.concatenate([grad.w, grad.b[None]])
        expected = np.linalg.solve(np.kron(*damped), rows.ravel()).reshape(rows.shape)
        np.testing.assert_allclose(own.w, expected[:-1], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(own.b, expected[-1], rtol=1e-3, atol=1e-6)


def test_kfac_averages_factors_and_keeps_inverses():
    problem = case(fn.tanh, fn.softmax_cross_entropy)
    optimizer = scale_by_kfac(decay=0.5, invert_every=3)
    states = [update(optimizer, problem)[1]]
    for _ in range(3):
        states.append(update(optimizer, problem, states[-1])[1])
    g = [np.asarray(state.factors[-1].g) for state in states]
    assert not np.allclose(g[0], g[1])  # another sample
    assert_close(states[1].inverses, states[0].inverses)
    assert_close(states[2].inverses, states[0].inverses)
    assert not np.allclose(states[3].inverses[-1].g, states[0].inverses[-1].g)
    assert_close(states[3].factors[0].a, states[0].factors[0].a, terms=4)  # inputs do not change


@pytest.mark.quick
def test_kfac_keeps_steps_short():
    _, params, *_ = problem = case(fn.tanh, fn.softmax_cross_entropy)
    limit = 1e-4
    whole, moved = (update(scale_by_kfac(norm_constraint=c), problem)[0] for c in (1e9, limit))
    grads = objective(problem[0], *problem[2:]).value_and_grad(params)[1]
    share = np.sqrt(limit / float(ravel_pytree(whole)[0] @ ravel_pytree(grads)[0]))
    assert share < 1
    assert_close(moved, jax.tree.map(lambda leaf: share * leaf, whole), terms=4)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: gauss_newton(0.0), ValueError, "damping must be a positive finite number; got 0.0"),
        (lambda: gauss_newton(max_tries=0), ValueError, "max_tries must be at least 1; got 0"),
        (lambda: scale_by_kfac(-1.0), ValueError, "damping must be a positive finite number; got -1.0"),
        (lambda: scale_by_kfac(decay=1.0), ValueError, r"decay must be in \[0, 1\); got 1.0"),
        (lambda: scale_by_kfac(invert_every=0), ValueError, "invert_every must be at least 1; got 0"),
        (lambda: kfac(-0.1), ValueError, "learning_rate must be a finite number of at least 0; got -0.1"),
        (lambda: kfac(0.1, 1.0), ValueError, r"momentum must be in \[0, 1\); got 1.0"),
        (lambda: kfac(0.1, None), TypeError, "momentum must be a number; got None"),
        (lambda: kfac(0.1, seed=-1), ValueError, "seed must be a whole number from 0 to 4294967295; got -1"),
        (lambda: kfac(0.1, seed="a"), TypeError, "seed must be a whole number; got 'a'"),
        (lambda: kfac("fast"), TypeError, "learning_rate must be a number; got 'fast'"),
    ],
)
def test_settings_that_cannot_be(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.bad_input
@pytest.mark.parametrize("optimizer", [gauss_newton(), scale_by_kfac()], ids=["gauss_newton", "kfac"])
def test_both_want_the_examples(optimizer):
    net, params, x, y = case()
    grads = fn.value_and_grad(net, params, x, y)[1]
    given = {"value": jnp.zeros(()), "value_fn": objective(net, x, y)}
    other = fn.MLP((5, 3), loss=fn.half_squared_error)
    for changes, error, message in (
        ({"value_fn": lambda p: 0.0}, TypeError, "a funcnet.training.Objective as value_fn; got function"),
        ({"value_fn": None}, TypeError, "a funcnet.training.Objective as value_fn; got NoneType"),
        ({"value_fn": Objective(net, Examples(x, y, None), None)}, TypeError, r"batch is Examples\(x, y, weights\)"),
        ({"value_fn": objective(other, x, y)}, ValueError, "params must have 1 layers"),
    ):
        with pytest.raises(error, match=message):
            optimizer.update(grads, optimizer.init(params), params, **{**given, **changes})
    with pytest.raises(TypeError, match="needs params; got None"):
        optimizer.update(grads, optimizer.init(params), **given)


@pytest.mark.bad_input
def test_gauss_newton_wants_the_value():
    net, params, x, y = case()
    grads, optimizer = fn.value_and_grad(net, params, x, y)[1], gauss_newton()
    for value, error, message in ((None, TypeError, "needs value"), (jnp.ones(3), ValueError, r"got shape \(3,\)")):
        with pytest.raises(error, match=message):
            optimizer.update(grads, optimizer.init(params), params, value=value, value_fn=objective(net, x, y))


@pytest.mark.parametrize("optimizer", [gauss_newton(), scale_by_kfac()], ids=["gauss_newton", "kfac"])
def test_half_precision_parameters_keep_their_dtype(optimizer, standard_promotion):
    net, params, x, y = case(dtype="bfloat16")
    state = new_state(KEY, params, optimizer)
    examples = Examples(x, y, jnp.ones(len(x), "bfloat16"))
    state, _ = jax.jit(step, static_argnums=1)(net, optimizer, state, examples, None)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("l2", [None, 1e-4])
def test_where_nothing_is_left_to_gain_it_costs_little_and_new_data_are_learned(l2, standard_promotion):
    """λ stays in bounds where steps gain less than the loss' rounding, and gets down again."""
    net = fn.MLP((1, 8, 1), activation=fn.tanh, loss=fn.half_squared_error, l2=l2)
    x, y = (jnp.asarray(array, "float32") for array in regression())
    optimizer = gauss_newton(1.0)
    advance = jax.jit(lambda state, examples: step(net, optimizer, state, examples, None))
    state = new_state(KEY, fn.init(KEY, net, dtype="float32"), optimizer)
    ends = []
    for targets in (0 * y + 0.5, y):
        examples, tries = Examples(x, targets, jnp.ones(len(x), "float32")), []
        for _ in range(150):
            state, sums = advance(state, examples)
            tries.append(int(state.opt_state.tries))
            assert 0 < float(state.opt_state.damping) < 1e9
        ends.append(float(sums.loss / sums.weight))
        assert np.mean(tries[50:]) < 4
    assert ends[1] < 0.05 * float(jnp.mean(y * y))
    assert ends[0] < (1e-10 if l2 is None else 1e-3)


def test_a_loss_that_no_step_lowers_leaves_everything_as_it_was():
    net, params, x, y = problem = case(fn.tanh, fn.half_squared_error)
    wrong = jax.tree.map(jnp.negative, fn.value_and_grad(net, params, x, y)[1])  # uphill
    f = objective(net, x, y)
    optimizer = gauss_newton(0.5, max_tries=3)
    state = optimizer.init(params)
    moved, after = optimizer.update(wrong, state, params, value=f(params), value_fn=f)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(moved))
    assert int(after.tries) == 3
    assert float(after.damping) == 0.5 * 2 * 4 * 8  # where the next step goes on
    assert problem[0] == net


def test_other_labels_are_learned_after_a_long_time_at_the_end(standard_promotion):
    """Where logits saturate GGN vanishes, and λ with it; tries go on from where those of the last step ended."""
    net = fn.MLP((4, 5, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 4)), "float32")
    y = jnp.argmax(x[:, :3], axis=1)
    optimizer = gauss_newton()
    state = new_state(KEY, fn.init(KEY, net, dtype="float32"), optimizer)
    advance = jax.jit(lambda state, y: step(net, optimizer, state, Examples(x, y, jnp.ones(40, "float32")), None))
    for labels in (y, (y + 1) % 3):
        for _ in range(100):
            state, sums = advance(state, labels)
        assert float(sums.loss / sums.weight) < 1e-3


def test_inputs_of_any_size_are_learned():
    net = fn.MLP((3, 8, 1), activation=fn.relu, loss=fn.half_squared_error)
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    params = fn.init(KEY, net, dtype="float32")
    for scale in (1e7, 1e15):
        data = np.float32(scale) * x, np.sin(x[:, :1])
        _, history = fn.fit(KEY, net, gauss_newton(), data, epochs=60, batch_size=None, params=params)
        assert history["train_loss"][-1] < 0.1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("dropout", "batch_size", "message"),
    [
        (None, 20, "batch_size must be None, all 60 examples, for gauss_newton, .*; got 20"),
        (0.5, None, "dropout must be None .*; got 0.5"),
    ],
)
def test_gauss_newton_wants_the_same_loss_in_each_step(dropout, batch_size, message):
    net = fn.MLP((1, 8, 1), activation=fn.tanh, loss=fn.half_squared_error, dropout=dropout)
    with pytest.raises(ValueError, match=message):
        fn.fit(KEY, net, optax.chain(optax.identity(), gauss_newton()), regression(), epochs=1, batch_size=batch_size)
    injected = optax.inject_hyperparams(gauss_newton, static_args=("exact_size", "max_tries", "cg_steps"))(damping=0.1)
    with pytest.raises(ValueError, match="gauss_newton has no hyperparameters to inject"):
        fit_many(
            KEY, dataclasses.replace(net, dropout=None), injected, regression(), {"damping": [0.1, 1.0]},
            epochs=1, validation=regression(), batch_size=None,
        )  # fmt: skip
    if batch_size is not None:
        with pytest.raises(ValueError, match=message):
            fit_many(
                KEY, net, gauss_newton(), regression(), {"seed": [0]},
                epochs=1, validation=regression(), batch_size=batch_size,
            )  # fmt: skip


def test_kfac_with_hyperparameters_injected_trains_many_networks(standard_promotion):
    """Each as it would be alone, and inverses are computed when due, one network after the other."""
    net = fn.MLP((1, 8, 1), activation=fn.tanh, loss=fn.half_squared_error)
    x, y = regression(32)
    settings = {"learning_rate": [0.05, 0.2], "damping": [0.01, 0.1], "seed": [0, 0]}
    optimizer = optax.inject_hyperparams(kfac)(learning_rate=0.1, invert_every=3)
    sweep = fit_many(KEY, net, optimizer, (x, y), settings, epochs=5, validation=(x, y), batch_size=8)
    for i in range(2):
        plain = kfac(settings["learning_rate"][i], damping=settings["damping"][i], invert_every=3)
        alone = fit_many(KEY, net, plain, (x, y), {"seed": [0]}, epochs=5, validation=(x, y), batch_size=8)
        assert_close(sweep.params(i), alone.params(0), terms=100)
    assert not np.allclose(sweep.params(0)[0].w, sweep.params(1)[0].w)
