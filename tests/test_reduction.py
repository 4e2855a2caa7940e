"""One reduction: what weights mean, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import WIDE, N, against_oracle, assert_close, case, expected_to_fit, signed_weights, some

import funcnet as fn

LOSSES = [fn.softmax_cross_entropy, fn.huber(0.3)]


@pytest.fixture(params=LOSSES, ids=lambda loss: loss.name)
def arguments(request):
    return case(fn.gelu, request.param, l2=0.05)


def test_weight_two_equals_the_row_twice(arguments):
    net, params, x, y = arguments
    twice = fn.value_and_grad(net, params, jnp.concatenate([x, x[2:3]]), jnp.concatenate([y, y[2:3]]))
    weights = jnp.ones(N, WIDE).at[2].set(2)
    assert_close(fn.value_and_grad(net, params, x, y, weights=weights), twice)


@pytest.mark.parametrize("held", some([0.0, 100.0, np.inf, np.nan], 2))
def test_weight_zero_equals_the_row_absent(arguments, held):
    net, params, x, y = arguments
    weights = signed_weights()
    present = np.asarray(weights != 0)
    absent = fn.value_and_grad(net, params, x[present], y[present], weights=weights[present])
    filled = x.at[4].set(held)
    y = y.at[4].set(held if y.ndim > 1 else -1)
    assert_close(fn.value_and_grad(net, params, filled, y, weights=weights), absent)
    dx = fn.input_gradient(net, params, filled, y, weights=weights)
    assert not np.asarray(dx[4]).any()
    assert not expected_to_fit(against_oracle(net, params, filled, y, weights=weights))


def test_scaling_all_weights_changes_nothing(arguments):
    weights = signed_weights()
    assert_close(fn.value_and_grad(*arguments, weights=3 * weights), fn.value_and_grad(*arguments, weights=weights))


def test_weights_that_sum_to_zero_give_a_data_term_of_zero(arguments):
    net, params, x, y = arguments
    for weights in (jnp.zeros(N, WIDE), jnp.zeros(N, WIDE).at[0].set(1).at[1].set(-1)):
        value, grads = fn.value_and_grad(net, params, x, y, weights=weights)
        penalty = 0.5 * 0.05 * sum(jnp.sum(layer.w**2) for layer in params)
        assert_close((value, grads), (penalty, tuple(fn.Layer(0.05 * p.w, 0 * p.b) for p in params)))


def test_an_empty_batch_has_a_data_term_of_zero(arguments):
    net, params, x, y = arguments
    assert_close(
        fn.value_and_grad(net, params, x[:0], y[:0]), fn.value_and_grad(net, params, x, y, weights=jnp.zeros(N, WIDE))
    )


def test_mean_of_per_example_losses(arguments):
    net, params, x, y = arguments
    losses = fn.per_example_losses(net, params, x, y)
    assert losses.shape == (N,)
    penalty = 0.5 * 0.05 * sum(jnp.sum(layer.w**2) for layer in params)
    assert_close(fn.loss(net, params, x, y), jnp.mean(losses) + penalty)


def test_order_of_examples_and_of_hidden_units(arguments):
    net, params, x, y = arguments
    order = jnp.asarray(np.random.default_rng(0).permutation(N))
    expected = fn.value_and_grad(net, params, x, y)
    assert_close(fn.value_and_grad(net, params, x[order], y[order]), expected)
    units = jnp.asarray(np.random.default_rng(0).permutation(7))

    def permuted(p):
        return (fn.Layer(p[0].w[:, units], p[0].b[units]), fn.Layer(p[1].w[units], p[1].b), *p[2:])

    assert_close(fn.value_and_grad(net, permuted(params), x, y), (expected[0], permuted(expected[1])))


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_weights_of_other_dtypes(arguments, dtype):
    weights = jnp.array([1, 0, 1, 1, 0, 1, 1, 1, 0])
    expected = fn.value_and_grad(*arguments, weights=weights.astype(WIDE))
    assert_close(fn.value_and_grad(*arguments, weights=weights.astype(dtype)), expected)


def test_l2_is_the_documented_formula_whatever_the_batch_and_the_weights():
    net, params, x, y = case()
    penalised, *_ = case(l2=0.7)
    for rows, weights in ((slice(None), None), (slice(0, 4), None), (slice(None), 5 * signed_weights())):
        plain = fn.value_and_grad(net, params, x[rows], y[rows], weights=weights)
        value, grads = fn.value_and_grad(penalised, params, x[rows], y[rows], weights=weights)
        assert_close(value - plain[0], 0.35 * sum(jnp.sum(layer.w**2) for layer in params), terms=4)
        for got, before, layer in zip(grads, plain[1], params, strict=True):
            assert_close(got.w - before.w, 0.7 * layer.w, terms=4)
            assert jnp.array_equal(got.b, before.b)


def test_dropout_of_a_padded_batch():
    """Row i keeps its mask however many rows follow."""
    net, params, x, y = case(loss=fn.softmax_cross_entropy, dropout=0.5)
    padded = (jnp.concatenate([x, x[:3]]), jnp.concatenate([y, y[:3]]))
    weights = jnp.concatenate([jnp.ones(N, WIDE), jnp.zeros(3, WIDE)])
    key = jax.random.key(11)
    expected = fn.value_and_grad(net, params, x, y, key=key)
    assert_close(fn.value_and_grad(net, params, *padded, weights=weights, key=key), expected)
