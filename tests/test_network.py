"""The description of a network, its initial parameters and its forward pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ACTIVATIONS, DTYPES, assert_close, case, name_of
from test_activations import NUMPY

import funcnet as fn


@pytest.mark.quick
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
def test_forward_against_numpy(activation):
    net, params, x, _ = case(activation, dtype="float32", output_activation=fn.tanh)
    a = np.asarray(x).astype(np.float64)
    for layer, phi in zip(params, [activation, activation, fn.tanh], strict=True):
        z = a @ np.asarray(layer.w).astype(np.float64) + np.asarray(layer.b)
        a = NUMPY[phi.name](z.ravel()).reshape(z.shape)
    assert_close(fn.apply(net, params, x), a, like=jnp.zeros((9, 3), "float32"))


def test_hand_worked_forward_and_gradient():
    """Every number of a 2-2-1 relu network by hand.

    x = (1, 2); z1 = (1·1 + 2·0 + 0.5, 1·(−1) + 2·(−1) + 0) = (1.5, −3); h = (1.5, 0); ŷ = 2·1.5 + 5·0 + 1 = 4;
    y = 1: ℓ = ½·3² = 4.5; dŷ = 3; dW2 = (4.5, 0), db2 = 3; dh = (6, 15); δ1 = (6, 0); dW1 = ((6, 0), (12, 0)),
    db1 = (6, 0); dx = δ1 W1ᵀ = (6, 0).
    """
    net = fn.MLP((2, 2, 1), activation=fn.relu, loss=fn.half_squared_error)
    params = (
        fn.Layer(jnp.array([[1.0, -1.0], [0.0, -1.0]]), jnp.array([0.5, 0.0])),
        fn.Layer(jnp.array([[2.0], [5.0]]), jnp.array([1.0])),
    )
    x, y = jnp.array([[1.0, 2.0]]), jnp.array([[1.0]])
    assert fn.apply(net, params, x).tolist() == [[4.0]]
    value, grads = fn.value_and_grad(net, params, x, y)
    assert value == 4.5
    assert grads[1].w.tolist() == [[4.5], [0.0]]
    assert grads[1].b.tolist() == [3.0]
    assert grads[0].w.tolist() == [[6.0, 0.0], [12.0, 0.0]]
    assert grads[0].b.tolist() == [6.0, 0.0]
    assert fn.input_gradient(net, params, x, y).tolist() == [[6.0, 0.0]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_apply_keeps_the_dtype_of_params(dtype):
    net, params, x, _ = case(dtype=dtype)
    assert fn.apply(net, params, x).dtype == dtype
    assert fn.per_example_losses(*case(dtype=dtype)).dtype == dtype


def test_only_l2_and_dropout_are_leaves():
    net = fn.MLP([5, 7, 3], activation=fn.relu, loss=fn.half_squared_error)
    assert jax.tree.leaves(net) == []
    net = dataclasses.replace(net, l2=0.1, dropout=0.2)
    assert jax.tree.leaves(net) == [0.1, 0.2]
    assert jax.tree.structure(net) == jax.tree.structure(dataclasses.replace(net, l2=0.3))
    assert hash(net) == hash(dataclasses.replace(net))
    assert net.widths == (5, 7, 3)


@pytest.mark.parametrize(("scheme", "variance"), [("he", 2 / 400), ("glorot", 2 / 700), ("lecun", 1 / 400)])
def test_init_variance(scheme, variance):
    net = fn.MLP((400, 300), loss=fn.half_squared_error)
    (layer,) = fn.init(jax.random.key(0), net, scheme=scheme)
    assert np.var(layer.w) == pytest.approx(variance, rel=0.03)
    assert abs(np.mean(layer.w)) < 1e-3
    assert not np.asarray(layer.b).any()


def test_init_follows_the_activation():
    net = fn.MLP((400, 300, 400, 300), activation=(fn.relu, fn.selu), output_activation=fn.tanh, loss=fn.huber())
    variances = [float(np.var(layer.w)) for layer in fn.init(jax.random.key(0), net)]
    assert variances == pytest.approx([2 / 400, 1 / 300, 2 / 700], rel=0.03)


@pytest.mark.parametrize("dtype", DTYPES)
def test_init_dtype_and_keys(dtype):
    net = fn.MLP((5, 5, 5), activation=fn.tanh, loss=fn.half_squared_error)
    params = fn.init(jax.random.key(0), net, dtype=dtype)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
    assert not jnp.array_equal(params[0].w, params[1].w)
    assert jnp.array_equal(params[0].w, fn.init(jax.random.key(0), net, dtype=dtype)[0].w)


def test_default_dtype_is_that_of_jax():
    net = fn.MLP((5, 5), loss=fn.half_squared_error)
    assert fn.init(jax.random.key(0), net)[0].w.dtype == jnp.zeros(()).dtype
