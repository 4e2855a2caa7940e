"""Jacobian and Laplacian in the inputs, and the Laplacian's gradient, against nested autodiff."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ACTIVATIONS, DTYPES, WIDE, N, assert_close, case, expected_to_fit, name_of, some

import funcnet as fn
from funcnet.checking import compare, in_float64

KEY = jax.random.key(7)


def cotangent(k, dtype):
    return jnp.asarray(np.random.default_rng(4).normal(0, 1, (N, k)), dtype)


def reference(net, params, x, key=None):
    """Jacobian, Laplacian, and the gradient of Σ cotangent · laplacian, in float64 where JAX has it."""

    def each(params):
        dtype = params[0].w.dtype
        rows, bar = x.astype(dtype).reshape(N, -1), cotangent(net.widths[-1], dtype)

        def outputs(params, rows):
            return fn.apply(net, params, rows, key=key)

        def laplacian(params):
            total = jnp.zeros((N, net.widths[-1]), dtype)
            for unit in jnp.eye(rows.shape[1], dtype=dtype):
                along = jnp.broadcast_to(unit, rows.shape)

                def slope(rows, along=along):
                    return jax.jvp(lambda rows: outputs(params, rows), (rows,), (along,))[1]

                total = total + jax.jvp(slope, (rows,), (along,))[1]
            return total

        units = jnp.eye(rows.shape[1], dtype=dtype)
        columns = [
            jax.jvp(lambda r: outputs(params, r), (rows,), (jnp.broadcast_to(unit, rows.shape),))[1] for unit in units
        ]
        grads = jax.grad(lambda params: jnp.sum(bar * laplacian(params)))(params)
        return jnp.stack(columns, axis=2), laplacian(params), grads

    return in_float64(each)(params)


def found(net, params, x, y=None, key=None, compiled=False, chunk_size=None):
    """What is wrong with each derivative: nothing, where it is right."""
    jacobian, laplacian, grads = reference(net, params, x, key)
    dtype = params[0].w.dtype

    def gradient(net, params, x):
        values, pullback = fn.laplacian_vjp(net, params, x, key=key, chunk_size=chunk_size)
        return values, pullback(cotangent(net.widths[-1], dtype))

    def run(fun):
        return (jax.jit(fun) if compiled else fun)(net, params, x)

    values, got = run(gradient)
    assert jax.tree.structure(got) == jax.tree.structure(params)
    shape = jnp.zeros(laplacian.shape, dtype)
    pairs = {
        "jacobian": (run(lambda *a: fn.input_jacobian(*a, key=key)), jacobian, jnp.zeros(jacobian.shape, dtype), 4),
        "laplacian": (run(lambda *a: fn.laplacian(*a, key=key, chunk_size=chunk_size)), laplacian, shape, 8),
        "values": (values, laplacian, shape, 8),
        "gradient": (got, grads, params, 16),
    }
    return {
        name: expected_to_fit(compare(got, expected, like=of), terms)
        for name, (got, expected, of, terms) in pairs.items()
    }


def check_all(*problem, **how):
    off = found(*problem, **how)
    assert not any(off.values()), "\n".join(f"{name}: {text}" for name, text in off.items() if text)


@pytest.mark.parametrize("activation", some(ACTIVATIONS, 3), ids=name_of)
def test_with_every_activation(activation):
    check_all(*case(activation), compiled=True)


@pytest.mark.parametrize("activation", some([fn.tanh, fn.softplus, fn.relu], 1), ids=name_of)
def test_with_an_output_activation(activation):
    check_all(*case(fn.gelu, output_activation=activation), compiled=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiled", some([True, False], 1), ids=["compiled", "eager"])
def test_in_every_dtype(dtype, compiled):
    check_all(*case(fn.sigmoid, dtype=dtype), compiled=compiled)


@pytest.mark.parametrize("k", [1, 2, 8], ids=["one output", "fewer than features", "more than features"])
def test_with_other_numbers_of_outputs(k):
    check_all(*case(k=k), compiled=True)


@pytest.mark.parametrize("chunk_size", some([2, 1, 3, N, 100], 2))
def test_some_examples_at_a_time(chunk_size):
    check_all(*case(dropout=0.4), key=KEY, compiled=True, chunk_size=chunk_size)


@pytest.mark.parametrize("rows", some([1, 20, 1000], 2))
def test_some_directions_at_a_time(rows, monkeypatch):
    monkeypatch.setattr("funcnet.input_derivatives.ROWS", rows)
    check_all(*case(), compiled=True)


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 1)])
def test_networks_of_few_layers(widths):
    net = fn.MLP(widths, activation=fn.tanh, output_activation=fn.tanh, loss=fn.half_squared_error)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (N, 3)), WIDE)
    check_all(net, fn.init(KEY, net, dtype=WIDE), x, compiled=True)


@pytest.mark.quick
def test_features_of_any_rank():
    net, params, x, _ = case()
    net = fn.MLP((4, 7, 3), activation=fn.tanh, loss=fn.half_squared_error)
    params, x = fn.init(KEY, net, dtype=WIDE), x[:, :4]
    for fun in (fn.input_jacobian, fn.laplacian):
        assert_close(fun(net, params, x.reshape(N, 2, 2)), fun(net, params, x))


@pytest.mark.quick
def test_the_laplacian_of_a_known_function():
    """Σ_j ∂² sin(wᵀx)/∂x_j² = −‖w‖² sin(wᵀx), by a network of one sine."""
    sine = fn.Activation(
        "sine",
        value=jnp.sin,
        slope=lambda z, h: jnp.cos(z),
        curvature=lambda z, h: -h,
        third=lambda z, h: -jnp.cos(z),
    )
    net = fn.MLP((4, 1), output_activation=sine, loss=fn.half_squared_error)
    w, x = np.random.default_rng(0).normal(0, 1, (4, 1)), np.random.default_rng(1).normal(0, 1, (N, 4))
    params = (fn.Layer(jnp.asarray(w, WIDE), jnp.zeros(1, WIDE)),)
    expected = -np.sum(w**2) * np.sin(x @ w)
    assert_close(fn.laplacian(net, params, jnp.asarray(x, WIDE)), expected.astype(WIDE), terms=4)


def test_the_jacobian_gives_the_input_gradient():
    net, params, x, y = case()
    jacobian = fn.input_jacobian(net, params, x)
    g = net.loss.gradient(fn.apply(net, params, x), y) / N
    assert_close(jnp.einsum("nkd,nk->nd", jacobian, g), fn.input_gradient(net, params, x, y), terms=4)


def test_many_networks_at_once():
    net, params, x, _ = case()
    other = jax.tree.map(lambda leaf: leaf[::-1], params)
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), params, other)

    def gradient(net, params, x):
        values, pullback = fn.laplacian_vjp(net, params, x)
        return pullback(values)

    for fun in (fn.input_jacobian, fn.laplacian, gradient):
        got = jax.vmap(lambda p, fun=fun: fun(net, p, x))(both)
        for i, one in enumerate((params, other)):
            assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], got), fun(net, one, x), terms=16)


@pytest.mark.quick
@pytest.mark.bad_input
def test_bad_arguments():
    net, params, x, _ = case()
    with pytest.raises(ValueError, match="x must have 5 features"):
        fn.laplacian(net, params, x[:, :4])
    with pytest.raises(ValueError, match="chunk_size must be at least 1; got 0"):
        fn.laplacian(net, params, x, chunk_size=0)
    with pytest.raises(TypeError, match="key must be a random key"):
        fn.input_jacobian(net, params, x, key=1)  # pyright: ignore[reportArgumentType]
    _, pullback = fn.laplacian_vjp(net, params, x)
    with pytest.raises(ValueError, match=r"cotangent must have the shape \(9, 3\) of the Laplacian; got \(9,\)"):
        pullback(jnp.ones(N, WIDE))


@pytest.mark.parametrize(("name", "wrong"), [("slope", "jacobian"), ("curvature", "laplacian"), ("third", "gradient")])
def test_a_wrong_derivative_is_found(name, wrong):
    tanh = dataclasses.replace(fn.tanh, **{name: lambda z, h: 1.001 * getattr(fn.tanh, name)(z, h)})
    off = found(*case(tanh, dtype="float32"), compiled=True)
    assert off[wrong]
    assert bool(off["jacobian"]) == (name == "slope")
