"""Norms, sums, moments and inner products of the examples' gradients, against these gradients written out."""

import dataclasses
import math
import re

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

import funcnet as fn
from funcnet.checking import compare, in_float64

KEY = jax.random.key(7)


def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def each(net, params, x, y, key=None):
    """∇ℓ_i in row i, in float64 where JAX has it."""

    def rows(params):
        jacobian = jax.jacrev(lambda p: fn.per_example_losses(net, p, x, y, key=key))(params)
        return jnp.concatenate([leaf.reshape(x.shape[0], -1) for leaf in jax.tree.leaves(jacobian)], axis=1)

    return in_float64(jax.jit(rows))(params)


def found(net, params, x, y, key=None, compiled=False):
    """What is wrong with every quantity of (net, params, x, y), by the rows: nothing, where it is right."""
    g = np.asarray(each(net, params, x, y, key))
    dtype = params[0].w.dtype
    norms = np.linalg.norm(g, axis=1)
    c = signed_weights(dtype)
    max_norm = float(np.median(norms)) * 1.01
    factors = np.asarray(c, "float64") * np.minimum(1, max_norm / np.where(norms == 0, 1, norms))

    def quantities(params, max_norm):
        """All in one program, since compiling is what takes time."""
        given = net, params, x, y
        total = fn.weighted_grad_sum(*given, c, key=key)
        assert jax.tree.structure(total) == jax.tree.structure(params)
        return (
            fn.per_example_grad_norms(*given, key=key),
            flat(total),
            flat(fn.clipped_grad_sum(*given, max_norm, weights=c, key=key)),
            flat(fn.grad_second_moment(*given, key=key)),
            fn.grad_gram(*given, key=key),
        )

    got = (jax.jit(quantities) if compiled else quantities)(params, max_norm)
    like = flat(params)
    expected = {
        "norms": (norms, jnp.zeros(N, dtype), 2),
        "sum": (np.asarray(c, "float64") @ g, like, 8),
        "clipped": (factors @ g, like, 8),
        "moment": (np.sum(g**2, axis=0), like, 4),
        "gram": (g @ g.T, jnp.zeros((N, N), dtype), 4),
    }
    return {
        name: expected_to_fit(compare(found, truth, like=of), terms)
        for (name, (truth, of, terms)), found in zip(expected.items(), got, strict=True)
    }


def check_all(*problem, **how):
    off = found(*problem, **how)
    assert not any(off.values()), "\n".join(off.values())


@pytest.mark.parametrize("activation", some(ACTIVATIONS, 3), ids=name_of)
def test_with_every_activation(activation):
    check_all(*case(activation), compiled=True)


@pytest.mark.parametrize("loss", some(LOSSES, 3), ids=name_of)
def test_with_every_loss(loss):
    check_all(*case(loss=loss), compiled=True)


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiled", some([True, False], 1), ids=["compiled", "eager"])
def test_in_every_dtype(dtype, compiled):
    check_all(*case(loss=fn.softmax_cross_entropy, dtype=dtype), compiled=compiled)


def test_with_dropout_and_without_l2():
    """The same key drops the same units as in the loss; the penalty is no example's."""
    check_all(*case(loss=fn.softmax_cross_entropy, dropout=0.4, l2=10.0), key=KEY, compiled=True)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_with_other_numbers_of_outputs(k):
    check_all(*case(k=k), compiled=True)


def test_a_sum_of_all_is_the_plain_gradient():
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    _, expected = fn.value_and_grad(net, params, x, y)
    got = jax.tree.map(lambda leaf: leaf / N, fn.weighted_grad_sum(net, params, x, y, jnp.ones(N)))
    assert_close(got, expected)
    assert_close(fn.clipped_grad_sum(net, params, x, y, jnp.inf), fn.weighted_grad_sum(net, params, x, y, jnp.ones(N)))


def test_rows_that_fill_a_batch_up_count_as_absent():
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    filled = jnp.concatenate([x, jnp.full((3, 5), jnp.nan, x.dtype)]), jnp.concatenate([y, jnp.full(3, -1, y.dtype)])
    weights = jnp.concatenate([jnp.ones(N), jnp.zeros(3)])

    @jax.jit
    def sums(x, y, weights):
        return (
            fn.clipped_grad_sum(net, params, x, y, 0.3, weights=weights),
            fn.weighted_grad_sum(net, params, x, y, weights),
        )

    assert_close(sums(*filled, weights), sums(x, y, jnp.ones(N)))


def test_examples_without_a_gradient():
    net, params, x, _ = case()
    y = fn.apply(net, params, x).at[1:].add(1.0)
    norms = fn.per_example_grad_norms(net, params, x, y)
    assert norms[0] == 0
    assert jnp.all(norms[1:] > 0)
    for max_norm in (0.0, 1e-30, 0.5, math.inf):
        got = fn.clipped_grad_sum(net, params, x, y, max_norm)
        assert_close(got, fn.clipped_grad_sum(net, params, x[1:], y[1:], max_norm))
    assert jnp.all(flat(fn.clipped_grad_sum(net, params, x, y, 0.0)) == 0)


def test_tiny_gradients_have_norms():
    """Where a classifier is sure, gradients are far smaller than the square root of the smallest number."""
    net = fn.MLP((2, 2), loss=fn.softmax_cross_entropy)
    params = (fn.Layer(jnp.asarray([[60.0, 0.0], [0.0, 0.0]], "float32"), jnp.zeros(2, "float32")),)
    x, y = jnp.ones((1, 2), "float32"), jnp.zeros(1, "int32")
    expected = math.exp(-60) * math.sqrt(2 * 3)
    assert expected**2 < np.finfo("float32").tiny
    norm = fn.per_example_grad_norms(net, params, x, y)
    assert float(norm[0]) == pytest.approx(expected, rel=1e-5)
    got = flat(fn.clipped_grad_sum(net, params, x, y, expected / 2))
    assert float(jnp.max(jnp.abs(got))) == pytest.approx(math.exp(-60) / 2, rel=1e-5)


@pytest.mark.parametrize("max_norm", [1e-3, 0.2])
def test_no_example_keeps_more_than_the_largest_norm(max_norm):
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    clipped, norms = jax.jit(fn.clipped_grad_sum), fn.per_example_grad_norms(net, params, x, y)
    for i, norm in enumerate(map(float, norms[:3])):
        one = flat(clipped(net, params, x[i : i + 1], y[i : i + 1], jnp.asarray(max_norm)))
        assert float(jnp.linalg.norm(one)) == pytest.approx(min(norm, max_norm), rel=1e-5)


@pytest.mark.parametrize("chunk_size", some([2, 1, N, 100], 2))
def test_inner_products_in_chunks(chunk_size):
    net, params, x, y = case(loss=fn.softmax_cross_entropy)

    @jax.jit
    def both(params):
        sizes = chunk_size, None
        grams = [fn.grad_gram(net, params, x, y, chunk_size=size) for size in sizes]
        return grams, [fn.empirical_ntk(net, params, x, x[:4], chunk_size=size) for size in sizes]

    for chunked, whole in both(params):
        assert_close(chunked, whole)


@pytest.mark.parametrize("dtype", some(DTYPES, 2))
def test_the_kernel_of_the_outputs(dtype):
    net, params, x, _ = case(fn.gelu, dtype=dtype, output_activation=fn.tanh, dropout=0.3)

    def jacobian(params):
        jacobian = jax.jacrev(lambda p: fn.apply(net, p, x, key=KEY))(params)
        return jnp.concatenate([leaf.reshape(N, 3, -1) for leaf in jax.tree.leaves(jacobian)], axis=2)

    j = np.asarray(in_float64(jax.jit(jacobian))(params))
    got = jax.jit(fn.empirical_ntk)(net, params, x, x[:4], key=KEY)
    assert_close(got, np.einsum("icp,jep->ijce", j, j[:4]), like=jnp.zeros((N, 4, 3, 3), dtype), terms=4)


def test_the_noise_scale():
    net, params, x, y = case()
    x, y = x[:1] + x / 2, y[:1] + y / 4
    g = np.asarray(each(net, params, x, y))
    mean, m = g.mean(axis=0), np.sum(g**2) / N
    signal = (N * mean @ mean - m) / (N - 1)
    noise = np.sum(np.var(g, axis=0, ddof=1))
    assert signal > 0
    assert float(fn.gradient_noise_scale(net, params, x, y)) == pytest.approx(noise / signal, rel=1e-4)


def test_the_noise_scale_of_noise_alone_is_infinite():
    net, params, x, _ = case()
    x, outputs = jnp.tile(x[:1], (4, 1)), fn.apply(net, params, jnp.tile(x[:1], (4, 1)))
    sign = jnp.asarray([1.0, -1.0, 1.0, -1.0], x.dtype)[:, None]
    assert fn.gradient_noise_scale(net, params, x, outputs + sign) == jnp.inf
    assert fn.gradient_noise_scale(net, params, x, outputs) == jnp.inf  # no signal, no noise: as good as none


def test_the_noise_scale_does_not_depend_on_the_scale():
    net, params, x, y = case(dtype="float32")
    x, y = x[:1] + x / 2, y[:1] + y / 4
    outputs = fn.apply(net, params, x)
    far, near = (fn.gradient_noise_scale(net, params, x, outputs + step * (y - outputs)) for step in (1.0, 2.0**-10))
    assert float(near) == pytest.approx(float(far), rel=1e-2)


SHAPE = re.compile(r"\b[a-z]+\d+\[([\d,]*)\]")


def largest_buffer(fun, *args):
    """Elements of the largest array in a compiled program, its arguments and results left out of account."""
    text = jax.jit(fun).lower(*args).compile().as_text()
    lines = [line for line in text.splitlines() if "parameter(" not in line and "ROOT" not in line]
    return max(math.prod(map(int, shape.split(","))) for line in lines for shape in SHAPE.findall(line) if shape)


def test_no_program_holds_every_examples_gradient():
    """n · min_l(n_in · n_out) elements would be those of the smallest layer alone."""
    n, net = 64, fn.MLP((30, 40, 50), activation=fn.relu, loss=fn.softmax_cross_entropy)
    params = fn.init(jax.random.key(0), net)
    x, y = jnp.ones((n, 30), params[0].w.dtype), jnp.arange(n) % 50
    forbidden = n * 30 * 40
    for fun in (fn.per_example_grad_norms, fn.grad_second_moment, fn.grad_gram, fn.gradient_noise_scale):
        assert largest_buffer(fun, net, params, x, y) < forbidden, fun.__name__
    for fun in (fn.weighted_grad_sum, fn.clipped_grad_sum):
        last = jnp.ones(n, x.dtype) if fun is fn.weighted_grad_sum else 0.5
        assert largest_buffer(fun, net, params, x, y, last) < forbidden, fun.__name__

    def explicit(params, x, y):
        one = jax.grad(lambda p, x, y: fn.loss(net, p, x[None], y[None]))
        rows = jax.vmap(one, (None, 0, 0))(params, x, y)
        return sum(jnp.sum(jnp.square(leaf.reshape(n, -1)), axis=1) for leaf in jax.tree.leaves(rows))

    assert largest_buffer(explicit, params, x, y) >= forbidden


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("max_norm", "error", "message"),
    [
        (-1.0, ValueError, "max_norm must be at least 0; got -1.0"),
        (math.nan, ValueError, "max_norm must be at least 0; got nan"),
        ("1", TypeError, "max_norm must be a number; got '1'"),
        (None, TypeError, "max_norm must be a number; got None"),
        (np.ones(N), ValueError, r"max_norm must be one number; got shape \(9,\)"),
    ],
)
def test_a_largest_norm_that_cannot_be(max_norm, error, message):
    net, params, x, y = case()
    with pytest.raises(error, match=message):
        fn.clipped_grad_sum(net, params, x, y, max_norm)


@pytest.mark.bad_input
def test_bad_arguments():
    net, params, x, y = case()
    with pytest.raises(ValueError, match=r"coefficients must have shape \(9,\), one for each example; got \(4,\)"):
        fn.weighted_grad_sum(net, params, x, y, jnp.ones(4))
    with pytest.raises(TypeError, match="coefficients must be a JAX or NumPy array; got NoneType"):
        fn.weighted_grad_sum(net, params, x, y, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"weights must have shape \(9,\)"):
        fn.clipped_grad_sum(net, params, x, y, 1.0, weights=jnp.ones(4))
    with pytest.raises(ValueError, match="chunk_size must be at least 1; got 0"):
        fn.grad_gram(net, params, x, y, chunk_size=0)
    with pytest.raises(TypeError, match=r"chunk_size must be a whole number; got 2.5"):
        fn.empirical_ntk(net, params, x, x, chunk_size=2.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="x2 must have 5 features to match"):
        fn.empirical_ntk(net, params, x, jnp.ones((2, 4), WIDE))
    with pytest.raises(ValueError, match="x must hold at least 2 examples to tell noise from signal; got 1"):
        fn.gradient_noise_scale(net, params, x[:1], y[:1])
    for fun in (fn.per_example_grad_norms, fn.grad_second_moment, fn.grad_gram, fn.gradient_noise_scale):
        with pytest.raises(ValueError, match="x must have 5 features"):
            fun(net, params, x[:, :4], y)


def test_a_wrong_slope_is_found_in_each():
    tanh = dataclasses.replace(fn.tanh, slope=lambda z, h: 1.001 * fn.tanh.slope(z, h))
    off = found(*case(tanh, dtype="float32"), compiled=True)
    assert all(off.values()), off
