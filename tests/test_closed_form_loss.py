"""`closed_form_loss`: JAX runs our rule, in every mode, nested and transformed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, LOSSES, WIDE, assert_close, case, name_of, signed_weights, some

import funcnet as fn
from funcnet.checking import in_float64


@pytest.mark.quick
@pytest.mark.parametrize("dtype", some(DTYPES, 2))
@pytest.mark.parametrize("argnum", [1, 2], ids=["params", "x"])
def test_reverse_mode(argnum, dtype):
    arguments = case(fn.gelu, fn.softmax_cross_entropy, dtype, l2=0.1, dropout=0.2)
    kwargs = {"weights": signed_weights(dtype), "key": jax.random.key(1)}
    value, grads = jax.jit(jax.value_and_grad(fn.closed_form_loss, argnums=argnum))(*arguments, **kwargs)
    assert_close(value, fn.loss(*arguments, **kwargs))
    expected = in_float64(jax.grad(fn.loss, argnums=argnum))(*arguments, **kwargs)
    assert_close(grads, expected, like=arguments[argnum])


def test_reverse_mode_is_value_and_grad():
    arguments = case(fn.gelu, fn.softmax_cross_entropy, l2=0.1)
    got = jax.jit(jax.value_and_grad(fn.closed_form_loss, argnums=1))(*arguments)
    assert_close(got, fn.value_and_grad(*arguments))


def test_forward_mode():
    net, params, x, y = case(fn.tanh, fn.huber(0.4), l2=0.1)
    tangents = (jax.tree.map(lambda p: p * 0.7 + 0.1, params), jnp.cos(x))

    def both(function):
        return jax.jvp(lambda p, x: function(net, p, x, y, weights=signed_weights()), (params, x), tangents)

    assert_close(both(fn.closed_form_loss), both(fn.loss), terms=4)


def test_derivatives_in_weights_and_l2():
    net, params, x, y = case(fn.tanh, l2=0.1)
    weights = jnp.abs(signed_weights()) + 0.5

    def derivatives(function):
        return jax.grad(lambda w, net: function(net, params, x, y, weights=w), argnums=(0, 1))(weights, net)

    (dw, dnet), (expected_dw, expected_dnet) = derivatives(fn.closed_form_loss), derivatives(fn.loss)
    assert_close(dw, expected_dw)
    assert float(dnet.l2) == pytest.approx(float(expected_dnet.l2), rel=1e-5)


@pytest.mark.parametrize("loss", some(LOSSES, 3), ids=name_of)
def test_hessian(loss):
    """Second derivatives through our rule, forward over reverse, equal those through the plain loss."""
    net, params, x, y = case(fn.tanh, loss)
    direction = jax.tree.map(jnp.sin, params)

    @jax.jit
    def hessians(at):
        def line(function):
            return lambda t: function(net, jax.tree.map(lambda p, d: p + t[0] * d + t[1], params, direction), x, y)

        return jax.hessian(line(fn.closed_form_loss))(at), jax.jacfwd(jax.jacfwd(line(fn.loss)))(at)

    got, expected = hessians(jnp.asarray([0.1, -0.05], WIDE))
    np.testing.assert_allclose(got, expected, rtol=2e-4 if WIDE == "float32" else 1e-10, atol=1e-5)


def test_vmap_and_scan():
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy)
    gradient = jax.grad(fn.closed_form_loss, argnums=1)
    stacked = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    got = jax.vmap(gradient, in_axes=(None, 0, None, None))(net, stacked, x, y)
    assert_close(jax.tree.map(lambda leaf: leaf[0], got), fn.value_and_grad(net, params, x, y)[1])
    _, scanned = jax.lax.scan(lambda c, p: (c, gradient(net, p, x, y)), 0, stacked)
    assert_close(scanned, got)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_no_silent_zero_where_there_is_no_rule(compiled):
    net, params, x, y = case(dropout=0.5)
    gradient = jax.grad(fn.closed_form_loss, argnums=3)
    with pytest.raises(TypeError, match=r"no rule for its derivative in y; differentiate funcnet.loss"):
        (jax.jit(gradient) if compiled else gradient)(net, params, x, y)
    with pytest.raises(TypeError, match=r"no rule for its derivative in net.dropout"):
        jax.grad(fn.closed_form_loss)(net, params, x, y)
    assert jax.grad(fn.loss, argnums=3)(net, params, x, y).shape == y.shape


def test_integer_labels_and_keys_pass_through():
    net, params, x, y = case(loss=fn.softmax_cross_entropy, dropout=0.5)
    for label_dtype in ("int8", "uint8", "int32"):
        for key in (jax.random.key(0), jax.random.PRNGKey(0)):
            got = jax.jit(jax.grad(fn.closed_form_loss, argnums=1))(net, params, x, y.astype(label_dtype), key=key)
            assert_close(got, fn.value_and_grad(net, params, x, y, key=key)[1])
    for weights in (jnp.arange(9), jnp.arange(9) > 3):
        got = jax.grad(fn.closed_form_loss, argnums=1)(net, params, x, y, weights=weights)
        assert_close(got, fn.value_and_grad(net, params, x, y, weights=weights)[1])
