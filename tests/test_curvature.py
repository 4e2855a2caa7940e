"""Hessian and Gauss-Newton products, diagonals, factors and steps, against the matrices written out by autodiff."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    DTYPES,
    LOSSES,
    WIDE,
    N,
    assert_close,
    case,
    expected_to_fit,
    name_of,
    signed_weights,
    some,
)
from jax.flatten_util import ravel_pytree

import funcnet as fn
from funcnet import damped_step, sweeps
from funcnet.checking import compare, in_float64

KEY = jax.random.key(7)
DAMPING = 0.25


def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def like(params, seed=11):
    """A random direction."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 1, leaf.shape), leaf.dtype), params)


def positive_weights(dtype=WIDE):
    return jnp.asarray(np.abs(signed_weights("float32")), dtype)


def dense(net, params, x, y, weights=None, key=None):
    """∇L, its Hessian, the Gauss-Newton matrix, and the inputs of each layer, in float64."""

    def matrices(params):
        dtype = params[0].w.dtype
        net64 = dataclasses.replace(net, l2=None if net.l2 is None else jnp.asarray(net.l2, dtype))
        rows, unravel = ravel_pytree(params)
        data = x.astype(dtype), y.astype(dtype) if y.ndim > 1 else y
        given = {"weights": None if weights is None else weights.astype(dtype), "key": key}

        def total(v):
            return fn.loss(net64, unravel(v), *data, **given)

        def of_outputs(outputs, target):
            return net.loss.value(outputs[None], target[None])[0]

        outputs = fn.apply(net64, params, data[0], key=key)
        jacobian = jax.jacrev(lambda v: fn.apply(net64, unravel(v), data[0], key=key))(rows)
        inner = jax.vmap(jax.hessian(of_outputs))(outputs, data[1])
        w = jnp.ones(N, dtype) if weights is None else weights.astype(dtype)
        ggn = jnp.einsum("n,nkp,nkm,nmq->pq", w / jnp.sum(w), jacobian, inner, jacobian)
        if net.l2 is not None:
            on = ravel_pytree(tuple(fn.Layer(jnp.ones_like(p.w), jnp.zeros_like(p.b)) for p in params))[0]
            ggn = ggn + jnp.diag(net.l2 * on)
        inputs = sweeps.forward(net, params, data[0], key)[1].inputs
        return jax.grad(total)(rows), jax.hessian(total)(rows), ggn, inputs

    return jax.tree.map(np.asarray, in_float64(matrices, compiled=True)(params))


def found(net, params, x, y, weights=None, key=None, compiled=False):
    """What is wrong with each quantity of (net, params, x, y), by the matrices: nothing, where it is right."""
    grad, hessian, ggn, inputs = dense(net, params, x, y, weights, key)
    tangent, dtype = like(params), params[0].w.dtype
    t, of = np.asarray(flat(tangent), "float64"), flat(params)
    definite = weights is None or bool(jnp.all(weights >= 0))

    def all_of_them(params, x, y, weights):
        given = {"weights": weights, "key": key}
        return {
            "hvp": fn.hvp(net, params, x, y, tangent, **given),
            "ggn_vp": fn.ggn_vp(net, params, x, y, tangent, **given),
            "diagonal": fn.ggn_diagonal(net, params, x, y, **given),
            "step": fn.gauss_newton_step(net, params, x, y, DAMPING, **given) if definite else (),
            "factors": fn.kfac_factors(net, params, x, y, **given),
        }

    got = (jax.jit(all_of_them) if compiled else all_of_them)(params, x, y, weights)
    assert jax.tree.structure(got["hvp"]) == jax.tree.structure(params)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(got))
    expected = {"hvp": hessian @ t, "ggn_vp": ggn @ t, "diagonal": np.diag(ggn)}
    if definite:
        expected["step"] = np.linalg.solve(ggn + DAMPING * np.eye(len(t)), -grad)
    off = {
        name: expected_to_fit(compare(flat(got[name]), truth, like=of), 16 if name == "step" else 8)
        for name, truth in expected.items()
    }
    return off | {"factors": off_factors(params, inputs, weights, ggn, got["factors"])}


def off_factors(params, inputs, weights, ggn, factors):
    """What is wrong with the Kronecker factors: G is the biases' block of the matrix, A the inputs' second moment."""
    start, texts = 0, []
    w = np.ones(N) if weights is None else np.asarray(weights, "float64")
    for layer, a, factor in zip(params, inputs, factors, strict=True):
        start += layer.w.size
        block = ggn[start : start + layer.b.size, start : start + layer.b.size]
        start += layer.b.size
        rows = np.where(w[:, None] == 0, 0, np.asarray(a, "float64"))
        for got, expected in ((factor.a, rows.T @ np.diag(w / w.sum()) @ rows), (factor.g, block)):
            like = jnp.zeros(expected.shape, params[0].w.dtype)
            texts.append(expected_to_fit(compare(got, expected, like=like), 8))
    return "\n".join(text for text in texts if text)


def check_all(*problem, **how):
    off = found(*problem, **how)
    assert not any(off.values()), "\n".join(f"{name}: {text}" for name, text in off.items() if text)


@pytest.mark.parametrize("activation", some(ACTIVATIONS, 3), ids=name_of)
def test_with_every_activation(activation):
    check_all(*case(activation, output_activation=fn.tanh), compiled=True)


@pytest.mark.parametrize("loss", some(LOSSES, 4), ids=name_of)
def test_with_every_loss(loss):
    check_all(*case(loss=loss), compiled=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiled", some([True, False], 1), ids=["compiled", "eager"])
def test_in_every_dtype(dtype, compiled):
    check_all(*case(loss=fn.softmax_cross_entropy, dtype=dtype), compiled=compiled)


@pytest.mark.parametrize("k", some([1, 2, 5], 1))
def test_with_other_numbers_of_outputs(k):
    check_all(*case(k=k, output_activation=fn.sigmoid), compiled=True)


@pytest.mark.parametrize("weights", [positive_weights, signed_weights], ids=["positive", "of both signs"])
def test_with_weights_l2_and_dropout(weights):
    problem = case(loss=fn.softmax_cross_entropy, l2=0.3, dropout=0.4)
    check_all(*problem, weights=weights(), key=KEY, compiled=True)


def test_a_network_of_one_layer():
    net = fn.MLP((5, 3), loss=fn.softmax_cross_entropy)
    _, _, x, y = case(loss=fn.softmax_cross_entropy)
    check_all(net, fn.init(KEY, net, dtype=WIDE), x, y, compiled=True)


def test_target_distributions():
    net, params, x, _ = case(loss=fn.softmax_cross_entropy)
    y = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(3), N), WIDE)
    check_all(net, params, x, y, compiled=True)


@pytest.mark.parametrize("loss", [fn.softmax_cross_entropy, fn.half_squared_error], ids=name_of)
def test_every_entry_of_both_matrices(loss):
    output = fn.identity if loss.logits else fn.softplus
    net, params, x, y = case((fn.tanh, fn.relu), loss, l2=0.2, output_activation=output)
    _, hessian, ggn, _ = dense(net, params, x, y)
    rows, unravel = ravel_pytree(params)
    for fun, expected in ((fn.hvp, hessian), (fn.ggn_vp, ggn)):

        def column(v, fun=fun):
            return ravel_pytree(fun(net, params, x, y, unravel(v)))[0]

        matrix = jax.jit(jax.vmap(column))(jnp.eye(rows.size, dtype=rows.dtype))
        assert_close(matrix, expected.astype(WIDE), terms=8)
    assert not np.allclose(hessian, ggn, atol=1e-3)


@pytest.mark.quick
def test_a_label_out_of_range_does_not_count():
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    outside, tangent = y.at[2].set(-1), like(params)
    weights = jnp.ones(N, WIDE).at[2].set(0)
    for fun in (fn.hvp, fn.ggn_vp):
        got = fun(net, params, x, outside, tangent)
        expected = fun(net, params, x, y, tangent, weights=weights)
        assert_close(jax.tree.map(lambda leaf: leaf * N / (N - 1), got), expected, terms=4)


@pytest.mark.parametrize("activation", [fn.relu, fn.leaky_relu], ids=name_of)
def test_of_piecewise_linear_networks_it_is_the_hessians_diagonal(activation):
    problem = case(activation, loss=fn.softmax_cross_entropy, l2=0.1)
    _, hessian, *_ = dense(*problem)
    assert_close(flat(fn.ggn_diagonal(*problem)), np.diag(hessian), like=flat(problem[1]), terms=8)


@pytest.mark.parametrize("loss", [fn.half_squared_error, fn.softmax_cross_entropy], ids=name_of)
def test_samples_are_unbiased(loss):
    problem = case(loss=loss, l2=0.1)
    draws = 4000
    keys = jax.random.split(jax.random.key(0), draws)

    def both(key):
        factors = fn.kfac_factors(*problem, sample=key)
        return fn.ggn_diagonal(*problem, sample=key), tuple(factor.g for factor in factors)

    drawn = jax.jit(jax.vmap(both))(keys)
    exact = fn.ggn_diagonal(*problem), tuple(factor.g for factor in fn.kfac_factors(*problem))
    for sample, truth in zip(jax.tree.leaves(drawn), jax.tree.leaves(exact), strict=True):
        mean, deviation = jnp.mean(sample, axis=0), jnp.std(sample, axis=0) / math.sqrt(draws)
        assert jnp.all(jnp.abs(mean - truth) < 5 * deviation + 1e-6)
    assert float(jnp.std(drawn[0][0].w)) > 0


def sized(n, widths=(3, 4, 2), **fields):
    net = fn.MLP(widths, activation=fn.tanh, loss=fn.softmax_cross_entropy, **fields)
    random = np.random.default_rng(5)
    x, y = jnp.asarray(random.normal(0, 1, (n, widths[0])), WIDE), jnp.asarray(random.integers(0, widths[-1], n))
    return net, fn.init(KEY, net, dtype=WIDE), x, y.astype("int32")


@jax.jit
def step_and_system(net, params, x, y, damping, weights):
    rows, unravel = ravel_pytree(params)
    basis = jnp.eye(rows.size, dtype=rows.dtype)
    ggn = jax.vmap(lambda v: ravel_pytree(fn.ggn_vp(net, params, x, y, unravel(v), weights=weights))[0])(basis)
    _, grads = fn.value_and_grad(net, params, x, y, weights=weights)
    return flat(fn.gauss_newton_step(net, params, x, y, damping, weights=weights)), ggn, flat(grads)


def stepped(net, params, x, y, damping, weights=None):
    """The step, and that of the matrix written out, of any number of examples."""
    step, ggn, grads = step_and_system(net, params, x, y, damping, weights)
    expected = np.linalg.solve(np.asarray(ggn) + damping * np.eye(grads.size), -np.asarray(grads))
    return step, expected.astype(WIDE)


@pytest.mark.parametrize("n", [2, 5, 40], ids=["n k < P", "n k near P", "n k > P"])
@pytest.mark.parametrize("l2", some([0.2, None], 1))
def test_steps_by_the_smaller_side(n, l2):
    got, expected = stepped(*sized(n, l2=l2), DAMPING)
    assert_close(got, expected, terms=16)


def test_both_sides_agree(monkeypatch):
    problem = sized(13)
    by_parameters, _ = stepped(*problem, 0.1)
    chosen = []
    monkeypatch.setattr(damped_step, "_by_parameters", lambda *_: chosen.append(1))
    assert_close(*stepped(*sized(12), 0.1), terms=16)
    assert not chosen
    assert by_parameters.shape == (26,)


@pytest.mark.parametrize("n", some([5, 40], 1))
def test_steps_with_negative_weights(n):
    """Definite, and so solved; not definite, and so refused."""
    problem = sized(n)
    few = jnp.ones(n, WIDE).at[0].set(-0.1)
    assert_close(*stepped(*problem, 1.0, few), terms=16)
    with pytest.raises(ValueError, match="damping must be large enough for a positive definite"):
        fn.gauss_newton_step(*problem, 1e-4, weights=jnp.ones(n, WIDE).at[0].set(1.5 - n))


def test_damping_of_zero():
    net, params, x, _ = case(k=1)
    net = fn.MLP((2, 1), loss=fn.half_squared_error)
    params, x, y = (
        fn.init(KEY, net, dtype=WIDE),
        x[:, :2],
        jnp.asarray(np.random.default_rng(0).normal(0, 1, (N, 1)), WIDE),
    )
    step = fn.gauss_newton_step(net, params, x, y, 0)
    solved = jax.tree.map(jnp.add, params, step)
    best, *_ = np.linalg.lstsq(np.hstack([x, np.ones((N, 1))]), np.asarray(y), rcond=None)
    assert_close(jnp.concatenate([solved[0].w, solved[0].b[None]]), best.astype(WIDE), terms=16)
    assert_close(jax.jit(fn.gauss_newton_step)(net, params, x, y, 0.0), step, terms=16)
    with pytest.raises(ValueError, match="with 0 it is singular"):
        fn.gauss_newton_step(*sized(5), 0)
    with pytest.raises(ValueError, match=r"with 0\.0 it is singular"):
        fn.gauss_newton_step(*sized(40, (3, 9, 2)), 0.0)  # two classes: softmax's own direction is flat
    assert jnp.all(jnp.isnan(flat(jax.jit(fn.gauss_newton_step)(*sized(5), 0.0))))


@pytest.mark.quick
def test_damping_below_zero():
    problem = sized(5)
    for damping in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="damping must be a finite number of at least 0; got"):
            fn.gauss_newton_step(*problem, damping)
        assert jnp.all(jnp.isnan(flat(jax.jit(fn.gauss_newton_step)(*problem, damping))))


def test_an_exact_step_of_a_linear_problem_leads_to_its_minimum():
    net, params, x, y = case(fn.identity, l2=0.1)
    net = fn.MLP((5, 3), loss=fn.half_squared_error, l2=0.1)
    params = fn.init(KEY, net, dtype=WIDE)
    step = fn.gauss_newton_step(net, params, x, y, 1e-6)
    _, grads = fn.value_and_grad(net, jax.tree.map(jnp.add, params, step), x, y)
    assert float(jnp.max(jnp.abs(flat(grads)))) < 1e-5


@pytest.mark.quick
def test_many_networks_at_once():
    """jax.vmap over parameters."""
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    other, tangent = like(params), like(params, 12)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)
    for fun, args in (
        (fn.hvp, (tangent,)),
        (fn.ggn_vp, (tangent,)),
        (fn.ggn_diagonal, ()),
        (fn.kfac_factors, ()),
        (fn.gauss_newton_step, (DAMPING,)),
    ):
        one = jax.jit(lambda p, fun=fun, args=args: fun(net, p, x, y, *args))
        got = jax.vmap(one)(both)
        for i, own in enumerate((params, other)):
            assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], got), one(own), terms=16)


@pytest.mark.quick
@pytest.mark.bad_input
def test_bad_arguments():
    net, params, x, y = case()
    with pytest.raises(TypeError, match=r"tangent must be a tuple of funcnet.Layer\(w, b\), as params; got list"):
        fn.hvp(net, params, x, y, list(params))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="tangent must have 3 layers, as params; got 2"):
        fn.ggn_vp(net, params, x, y, params[:2])
    with pytest.raises(ValueError, match=r"tangent\[1\].w must have shape \(7, 6\), as params; got \(6, 7\)"):
        fn.hvp(net, params, x, y, (params[0], fn.Layer(params[1].w.T, params[1].b), params[2]))
    with pytest.raises(TypeError, match=r"tangent\[0\].w must be .*, as params; got float16"):
        fn.hvp(net, params, x, y, jax.tree.map(lambda leaf: leaf.astype("float16"), params))
    with pytest.raises(TypeError, match="sample must be a random key"):
        fn.ggn_diagonal(net, params, x, y, sample=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="damping must be a number; got '1'"):
        fn.gauss_newton_step(net, params, x, y, "1")
    with pytest.raises(ValueError, match="x must have 5 features"):
        fn.kfac_factors(net, params, x[:, :4], y)


def test_a_wrong_curvature_is_found():
    tanh = dataclasses.replace(fn.tanh, curvature=lambda z, h: 1.001 * fn.tanh.curvature(z, h))
    off = found(*case(tanh, dtype="float32"), compiled=True)
    assert {name for name, text in off.items() if text} == {"hvp"}


def test_a_wrong_factor_is_found():
    loss = dataclasses.replace(
        fn.half_squared_error, hessian_factor=lambda z, y: 1.001 * fn.half_squared_error.hessian_factor(z, y)
    )
    off = found(*case(loss=loss, dtype="float32"), compiled=True)
    assert {name for name, text in off.items() if text} == {"diagonal", "factors"}  # a true product refines the step


def test_a_wrong_action_is_found():
    loss = dataclasses.replace(
        fn.half_squared_error, hessian_action=lambda z, y, v: 1.001 * fn.half_squared_error.hessian_action(z, y, v)
    )
    off = found(*case(loss=loss, dtype="float32"), compiled=True)
    assert {name for name, text in off.items() if text} >= {"hvp", "ggn_vp"}
