"""Each loss: value against NumPy, derivatives against autodiff, and where autodiff or textbook forms fail."""

import itertools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from cases import DTYPES, LOSSES, WIDE, X64, assert_close, name_of, some, targets

import funcnet as fn
from funcnet.checking import in_float64

CLASSIFIERS = [loss for loss in LOSSES if loss.targets == "classes"]


def numpy_value(loss, z, y):
    """Each loss written down once more, by its textbook formula."""
    z, y = np.asarray(z).astype(np.float64), np.asarray(y).astype(np.float64)
    r = z - y if z.shape == y.shape else None
    if loss.targets == "classes":
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        y = np.eye(z.shape[1])[y.astype(int)] if y.ndim == 1 else y
        if loss.name == "label_smoothed":
            y = 0.9 * y + 0.1 / z.shape[1]
        return -(y * np.log(p)).sum(axis=1)
    return {
        "half_squared_error": lambda: 0.5 * (r**2).sum(axis=1),
        "absolute_error": lambda: abs(r).sum(axis=1),
        "huber": lambda: np.where(abs(r) <= 1, r**2 / 2, abs(r) - 0.5).sum(axis=1),
        "poisson": lambda: (np.exp(z) - y * z).sum(axis=1),
        "sigmoid_cross_entropy": lambda: (
            -y * np.log(1 / (1 + np.exp(-z))) - (1 - y) * np.log(1 - 1 / (1 + np.exp(-z)))
        ).sum(axis=1),
    }[loss.name]()


def outputs(dtype=WIDE, k=3):
    return jnp.asarray(np.random.default_rng(5).normal(0, 2, (9, k)), dtype)


@pytest.mark.quick
@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES)
def test_value_against_numpy(loss, dtype):
    z, y = outputs(dtype), targets(loss, dtype=dtype)
    assert_close(loss.value(z, y), numpy_value(loss, z, y), like=jnp.zeros(9, dtype))


@pytest.mark.parametrize(("loss", "dtype"), some(itertools.product(LOSSES, DTYPES), 16), ids=name_of)
def test_derivatives_against_autodiff(loss, dtype):
    z, y = outputs(dtype), targets(loss, dtype=dtype)
    v = jnp.asarray(np.random.default_rng(6).normal(0, 1, (9, 3)), dtype)
    total = in_float64(jax.grad(lambda z, y: jnp.sum(loss.value(z, y))))
    action = in_float64(lambda z, y, v: jax.jvp(lambda z: loss.gradient(z, y), (z,), (v,))[1])
    hessian = in_float64(jax.vmap(jax.hessian(lambda z, y: loss.value(z[None], y[None])[0])))
    expected = (total(z, y), action(z, y, v))
    assert_close((loss.gradient(z, y), loss.hessian_action(z, y, v)), expected, like=(z, z))
    if dtype in ("float32", WIDE):
        compiled = jax.jit(lambda z, y, v: (loss.gradient(z, y), loss.hessian_action(z, y, v)))
        assert_close(compiled(z, y, v), expected, like=(z, z))
    if dtype == WIDE:
        dense = hessian(z, y)
        factor = np.asarray(loss.hessian_factor(z, y))
        np.testing.assert_allclose(np.einsum("nci,ncj->nij", factor, factor), dense, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(loss.hessian_action(z, y, v), np.einsum("nij,nj->ni", dense, v), atol=1e-5)


@pytest.mark.parametrize("loss", CLASSIFIERS, ids=name_of)
def test_distributions_and_their_total(loss):
    """Targets need not sum to 1: the gradient is (1ᵀy) p − y."""
    z = outputs()
    y = jnp.asarray(np.random.default_rng(8).uniform(0, 2, (9, 3)), WIDE)
    assert_close(loss.value(z, y), np.asarray(scaled_numpy(loss, z, y)), like=z[:, 0])
    expected = in_float64(jax.grad(lambda z: jnp.sum(loss.value(z, y.astype(z.dtype)))))(z)
    assert_close(loss.gradient(z, y), expected, like=z)
    factor = np.asarray(loss.hessian_factor(z, y))
    v = jnp.ones_like(z).at[:, 0].set(-2)
    np.testing.assert_allclose(
        loss.hessian_action(z, y, v), np.einsum("nci,ncj,nj->ni", factor, factor, v), rtol=1e-5, atol=1e-5
    )


def scaled_numpy(loss, z, y):
    z, y = np.asarray(z), np.asarray(y)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    if loss.name == "label_smoothed":
        y = 0.9 * y + 0.1 / 3 * y.sum(axis=1, keepdims=True)
    return -(y * log_p).sum(axis=1)


@pytest.mark.quick
@pytest.mark.skipif(not X64, reason="the published case is in float64")
def test_the_label_entry_where_autodiff_cancels():
    """Logits (37.43, 0), label 0: g_0 = −p_1 = −5.55e-17, where p − y and autodiff give 0."""
    z, y = jnp.asarray([[37.43, 0.0]]), jnp.asarray([0])
    with mpmath.workdps(40):
        p1 = 1 / (1 + mpmath.exp(mpmath.mpf(37.43)))
        value = -mpmath.log(1 - p1)
    for target in (y, jnp.asarray([[1.0, 0.0]])):
        np.testing.assert_allclose(fn.softmax_cross_entropy.gradient(z, target), [[-float(p1), float(p1)]], rtol=1e-14)
        np.testing.assert_allclose(fn.softmax_cross_entropy.value(z, target), [float(value)], rtol=1e-14)
    assert jax.grad(lambda z: -jnp.sum(jax.nn.log_softmax(z)[0, 0]))(z)[0, 0] == 0
    v = jnp.asarray([[1.0, -2.0]])
    p0 = 1 - float(p1)
    expected = p0 * float(p1) * (1 + 2)
    np.testing.assert_allclose(fn.softmax_cross_entropy.hessian_action(z, y, v), [[expected, -expected]], rtol=1e-13)
    factor = fn.softmax_cross_entropy.hessian_factor(z, y)
    np.testing.assert_allclose(jnp.einsum("nci,ncj,nj->ni", factor, factor, v), [[expected, -expected]], rtol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [fn.sigmoid_cross_entropy, *CLASSIFIERS], ids=name_of)
def test_saturated_logits(loss, dtype):
    """Value and gradient keep belonging to each other at ±40, ±1e3 and ±1e4: nothing is clipped."""
    sizes = np.repeat([40.0, 1e3, 1e4], 3)
    signs = np.tile([[1, -1, 0], [-1, 1, 0.001], [0, 1, -1]], (3, 1))
    z = jnp.asarray(sizes[:, None] * signs, dtype)
    labels = np.tile([0, 0, 2], 3)
    y = jnp.asarray(labels, "int32") if loss.targets == "classes" else jnp.asarray(np.eye(3)[labels], dtype)
    value, g = loss.value(z, y), loss.gradient(z, y)
    assert np.isfinite(np.asarray(value).astype(np.float64)).all()
    expected = in_float64(jax.grad(lambda z, y: jnp.sum(loss.value(z, y))))(z, y)
    assert_close(g, expected, like=z)
    if loss is fn.softmax_cross_entropy:
        assert_close(value[1::3], 2 * sizes[1::3], like=value[1::3])
        np.testing.assert_allclose(np.asarray(g[1::3]).astype(np.float64), [[-1, 1, 0]] * 3, atol=1e-16)


def test_binary_cross_entropy_gradient_far_out():
    z, y = jnp.asarray([[-50.0], [50.0]]), jnp.asarray([[1.0], [1.0]])
    g = fn.sigmoid_cross_entropy.gradient(z, y)
    np.testing.assert_allclose(g, [[-1.0], [-np.exp(-50)]], rtol=1e-5)
    np.testing.assert_allclose(fn.sigmoid_cross_entropy.value(z, y), [50, np.exp(-50)], rtol=1e-5)


def test_infinite_logits_of_the_right_sign_cost_nothing():
    z, y = jnp.asarray([[jnp.inf, -jnp.inf]]), jnp.asarray([[1.0, 0.0]])
    assert fn.sigmoid_cross_entropy.value(z, y)[0] == 0
    np.testing.assert_array_equal(fn.sigmoid_cross_entropy.gradient(z, y), [[0, 0]])
    assert fn.sigmoid_cross_entropy.value(z, 1 - y)[0] == jnp.inf


@pytest.mark.quick
@pytest.mark.parametrize("dtype", some(DTYPES, 2))
def test_masked_classes(dtype):
    """A logit of −∞ takes its class out; the others are as if it were not there."""
    z = outputs(dtype)
    masked = jnp.concatenate([z, jnp.full((9, 1), -jnp.inf, dtype)], axis=1)
    y = targets(fn.softmax_cross_entropy)
    loss = fn.softmax_cross_entropy
    for target, short in ((y, y), (jax.nn.one_hot(y, 4, dtype=dtype), jax.nn.one_hot(y, 3, dtype=dtype))):
        np.testing.assert_array_equal(np.asarray(loss.value(masked, target)), np.asarray(loss.value(z, short)))
        g = loss.gradient(masked, target)
        np.testing.assert_array_equal(np.asarray(g[:, :3]), np.asarray(loss.gradient(z, short)))
        assert not np.asarray(g[:, 3]).any()
        by_autodiff = jax.grad(lambda z, t=target: jnp.sum(loss.value(z, t)).astype("float32"))(masked)
        assert np.isfinite(np.asarray(by_autodiff).astype(np.float64)).all()
    v = jnp.ones_like(masked).at[:, 1].set(3)
    assert np.isfinite(np.asarray(loss.hessian_action(masked, y, v)).astype(np.float64)).all()
    assert np.isfinite(np.asarray(loss.hessian_factor(masked, y)).astype(np.float64)).all()
    assert loss.value(masked, jnp.full(9, 3)).tolist() == [jnp.inf] * 9


@pytest.mark.parametrize("loss", CLASSIFIERS, ids=name_of)
def test_rows_all_masked_have_defined_values(loss):
    z, y = jnp.full((2, 3), -jnp.inf), jnp.asarray([0, 1])
    assert loss.value(z, y).tolist() == [jnp.inf, jnp.inf]
    for derivative in (loss.gradient(z, y), loss.hessian_action(z, y, jnp.ones((2, 3))), loss.hessian_factor(z, y)):
        assert not np.asarray(derivative).any()
    assert not np.asarray(jax.grad(lambda z: jnp.sum(loss.value(z, y)))(z)).any()
    assert not np.asarray(loss.inverse_link(z)).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_many_classes_do_not_overflow(dtype):
    """70,000 equal logits: the sum of exponentials is beyond float16."""
    k = 70_000
    z, y = jnp.zeros((2, k), dtype), jnp.asarray([0, k - 1], "int32")
    np.testing.assert_allclose(np.asarray(fn.softmax_cross_entropy.value(z, y), np.float32), np.log(k), rtol=8e-3)
    g = np.asarray(fn.softmax_cross_entropy.gradient(z, y)).astype(np.float64)
    np.testing.assert_allclose(g[0, 1:], 1 / k, rtol=4e-3 if dtype != "float32" else 1e-6)
    np.testing.assert_allclose(g[0, 0], -1, rtol=2 / k)


@pytest.mark.parametrize("loss", CLASSIFIERS, ids=name_of)
@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_give_nan(loss, label):
    y = jnp.asarray([label] * 9)
    assert np.isnan(np.asarray(loss.value(outputs(), y))).all()
    assert not np.asarray(loss.gradient(outputs(), y)).any()


def test_ties_in_the_top_class():
    z, y = jnp.zeros((1, 4)), jnp.asarray([2])
    np.testing.assert_allclose(fn.softmax_cross_entropy.gradient(z, y), [[0.25, 0.25, -0.75, 0.25]])
    np.testing.assert_allclose(
        jax.grad(lambda z: fn.softmax_cross_entropy.value(z, y)[0])(z), [[0.25, 0.25, -0.75, 0.25]], rtol=1e-6
    )


def test_kinks():
    z = jnp.asarray([[1.0, 2.0, 3.0]])
    assert not np.asarray(fn.absolute_error.gradient(z, z)).any()
    edge = fn.huber(0.5)
    np.testing.assert_array_equal(edge.gradient(z + 0.5, z), [[0.5] * 3])
    np.testing.assert_array_equal(jax.grad(lambda a: edge.value(a, z)[0])(z + 0.5), [[0.5] * 3])
    np.testing.assert_array_equal(edge.gradient(z + 1e30, z), [[0.5] * 3])
    assert np.isfinite(np.asarray(edge.value(z + 1e30, z))).all()


def test_predictions():
    z = outputs()
    np.testing.assert_allclose(fn.softmax_cross_entropy.inverse_link(z), jax.nn.softmax(z), rtol=1e-5)
    np.testing.assert_allclose(fn.sigmoid_cross_entropy.inverse_link(z), 1 / (1 + np.exp(-z)), rtol=1e-5)
    np.testing.assert_allclose(fn.poisson.inverse_link(z), np.exp(z), rtol=1e-5)
    np.testing.assert_array_equal(fn.half_squared_error.inverse_link(z), z)


def test_comparison_is_by_name_and_constants():
    assert fn.huber(1.0) == fn.huber(1)
    assert hash(fn.huber(1.0)) == hash(fn.huber(1))
    assert fn.huber(1.0) != fn.huber(2.0)
    assert fn.label_smoothed(0.1) != fn.label_smoothed(0.2)
    assert fn.half_squared_error != fn.absolute_error


@pytest.mark.parametrize("delta", [0, -1, float("nan"), float("inf")])
def test_huber_refuses(delta):
    with pytest.raises(ValueError, match=r"delta must be a positive finite number; got"):
        fn.huber(delta)


@pytest.mark.parametrize("epsilon", [-0.1, 1, float("nan")])
def test_label_smoothing_refuses(epsilon):
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\); got"):
        fn.label_smoothed(epsilon)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"loss must be one of half_squared_error, .*; got 'mse'"):
        fn.losses.by_name("mse")
