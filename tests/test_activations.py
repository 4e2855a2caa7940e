"""Each activation's value and three derivatives against mpmath, at kinks, at extremes and in every dtype."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from cases import ACTIVATIONS, DTYPES, X64, name_of, some

import funcnet as fn

ALPHA, SCALE = mpmath.mpf("1.6732632423543772848170429916717"), mpmath.mpf("1.0507009873554804934193349852946")
SMOOTH_ULPS = 8
"""Roundings of eps allowed, each scaled by |f| + |z f'|: what rounding z itself already costs."""


def logistic(t):
    return 1 / (1 + mpmath.exp(-t))


TRUTH = {
    "identity": lambda t: t,
    "relu": lambda t: max(t, mpmath.mpf(0)),
    "leaky_relu": lambda t: t if t >= 0 else t / 100,
    "elu": lambda t: t if t > 0 else mpmath.expm1(t),
    "selu": lambda t: SCALE * (t if t > 0 else ALPHA * mpmath.expm1(t)),
    "softplus": lambda t: mpmath.log1p(mpmath.exp(t)),
    "sigmoid": logistic,
    "tanh": mpmath.tanh,
    "silu": lambda t: t * logistic(t),
    "gelu": lambda t: t * mpmath.ncdf(t),
    "gelu_tanh": lambda t: t / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (t + 0.044715 * t**3))),
}
NUMPY = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z < 0, 0.01 * z, z),
    "elu": lambda z: np.where(z < 0, np.exp(np.minimum(z, 0)) - 1, z),
    "selu": lambda z: float(SCALE) * np.where(z < 0, float(ALPHA) * (np.exp(np.minimum(z, 0)) - 1), z),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "gelu": lambda z: np.array([0.5 * v * float(mpmath.erfc(-v / np.sqrt(2))) for v in z]),
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
}


def derivatives(activation, z):
    """Value, slope, curvature and third derivative at z."""
    h = activation.value(z)
    return h, activation.slope(z, h), activation.curvature(z, h), activation.third(z, h)


def truths(name, z):
    """The value and four derivatives at z, differentiated numerically with 400 digits (but for gelu: too slow)."""
    with mpmath.workdps(400):
        t = mpmath.mpf(float(z))
        if name == "gelu":
            tail, density = mpmath.erfc(-t / mpmath.sqrt(2)) / 2 if abs(t) < 100 else t > 0, mpmath.npdf(t)
            polynomials = (2 - t**2, t**3 - 4 * t, -(t**4) + 7 * t**2 - 4)
            return [t * tail, tail + t * density, *(p * density for p in polynomials)]
        return [TRUTH[name](t), *(mpmath.diff(TRUTH[name], t, k, h=mpmath.mpf(10) ** -60) for k in (1, 2, 3, 4))]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
def test_value_against_numpy(activation):
    z = np.linspace(-6, 6, 41)
    np.testing.assert_allclose(activation.value(jnp.asarray(z)), NUMPY[activation.name](z), rtol=2e-6, atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize(("activation", "dtype"), some(itertools.product(ACTIVATIONS, DTYPES[2:]), 12), ids=name_of)
def test_derivatives_against_mpmath(activation, dtype):
    """Rounded correctly, but for a few units, over ±[1e-3, 1e4], saturation included."""
    size = np.logspace(-3, 4, 15)
    z = jnp.asarray(np.concatenate([-size, size]), dtype)
    limits = jnp.finfo(dtype)
    got = [np.asarray(d).astype(np.float64) for d in derivatives(activation, z)]
    for i, point in enumerate(np.asarray(z).astype(np.float64)):
        truth = truths(activation.name, point)
        for order in range(4):
            expected, following = truth[order], truth[order + 1]
            allowed = SMOOTH_ULPS * float(limits.eps) * (abs(expected) + abs(point * following))
            error = abs(mpmath.mpf(float(got[order][i])) - expected)
            assert error <= allowed + 64 * float(limits.tiny), (activation.name, order, point, got[order][i], expected)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once(activation, dtype):
    """Each half-precision result is the float32 result, rounded."""
    z = jnp.asarray(np.linspace(-30, 30, 97), dtype)
    h = activation.value(z)
    for half, wide in (
        (h, activation.value(z.astype("float32"))),
        (activation.slope(z, h), activation.slope(z.astype("float32"), h.astype("float32"))),
        (activation.third(z, h), activation.third(z.astype("float32"), h.astype("float32"))),
    ):
        assert half.dtype == dtype
        np.testing.assert_array_equal(np.asarray(half), np.asarray(wide.astype(dtype)))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES)
def test_extremes_are_finite(activation, dtype):
    z = jnp.asarray([-1e4, -1e3, -100.0, -50.0, 50.0, 100.0, 1e3, 1e4], dtype)
    for order, values in enumerate(derivatives(activation, z)):
        assert np.isfinite(np.asarray(values).astype(np.float64)).all(), (order, values)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
def test_autodiff_agrees_with_each_derivative(activation):
    """Of the value, and of each derivative in turn, at moderate points and at 0 where there is no kink there."""
    points = [-2.5, -0.7, 0.3, 1.9]
    if activation.name not in ("relu", "leaky_relu", "elu", "selu"):
        points.append(0.0)
    z = jnp.asarray(points)
    chain = [
        activation.value,
        *(lambda t, f=f: f(t, activation.value(t)) for f in (activation.slope, activation.curvature, activation.third)),
    ]
    for function, derivative in itertools.pairwise(chain):
        by_autodiff = jax.vmap(jax.grad(function))(z)
        np.testing.assert_allclose(derivative(z), by_autodiff, rtol=1e-5 if not X64 else 1e-12, atol=1e-6)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("activation", "slope"),
    [(fn.relu, 0), (fn.leaky_relu, 1), (fn.elu, 1), (fn.selu, 1.7580993408473766)],
    ids=name_of,
)
def test_kinks_take_the_value_of_jax(activation, slope):
    zero = jnp.zeros(())
    assert activation.slope(zero, activation.value(zero)) == pytest.approx(slope)
    assert jax.grad(getattr(jax.nn, activation.name))(0.0) == pytest.approx(slope)


@pytest.mark.quick
@pytest.mark.skipif(not X64, reason="the published cases are in float64")
def test_saturated_slopes_where_autodiff_and_textbook_forms_vanish():
    z = jnp.asarray(37.43)
    assert fn.sigmoid.slope(z, fn.sigmoid.value(z)) == pytest.approx(5.5509e-17, rel=1e-4)
    assert jax.grad(jax.nn.sigmoid)(z) < 1e-17
    z = jnp.asarray(20.0)
    assert fn.tanh.slope(z, jnp.tanh(z)) == pytest.approx(1.6993e-17, rel=1e-4)
    assert 1 - jnp.tanh(z) ** 2 == 0


def test_comparison_is_by_name_constants_and_code():
    def build(scale, name="scaled"):
        return fn.Activation(
            name,
            value=lambda z: scale * z,
            slope=lambda z, h: jnp.full_like(z, scale),
            curvature=lambda z, h: jnp.zeros_like(z),
            third=lambda z, h: jnp.zeros_like(z),
            constants=(scale,),
        )

    assert build(2.0) == build(2.0)
    assert hash(build(2.0)) == hash(build(2.0))
    assert build(2.0) != build(3.0)
    assert build(2.0) != build(2.0, "other")
    edited = fn.Activation("tanh", fn.tanh.value, lambda z, h: 1 - h * h, fn.tanh.curvature, fn.tanh.third)
    assert edited != fn.tanh
    assert len(set(ACTIVATIONS)) == len(ACTIVATIONS)


def test_closed_over_values_count_though_no_constant_names_them():
    """Two rules of one line over different numbers are different networks, and do not share a compiled program."""

    def bend(scale):
        return lambda z: scale * jnp.sin(z)

    def build(value):
        return fn.Activation("mine", value, slope=fn.tanh.slope, curvature=fn.tanh.curvature, third=fn.tanh.third)

    def with_default(z, scale=2.0):
        return scale * z

    assert build(bend(1.0)) == build(bend(1.0))
    assert hash(build(bend(1.0))) == hash(build(bend(1.0)))
    assert build(bend(1.0)) != build(bend(3.0))
    assert build(partial(bend, 1.0)) != build(partial(bend, 2.0))
    assert build(partial(bend, scale=1.0)) == build(partial(bend, scale=1.0))
    assert build(bend(jnp.ones(2))) != build(bend(jnp.ones(2)))  # arrays are told apart by identity
    assert build(bend(1.0)) != build(with_default)

    def factorial(z, n=3):
        return z if n == 0 else n * factorial(z, n - 1)

    assert build(factorial) == build(factorial)  # closes over itself
    run = jax.jit(lambda net, z: net.activation.value(z))
    nets = [fn.MLP((1, 1, 1), activation=build(bend(scale)), loss=fn.huber()) for scale in (1.0, 3.0)]
    one, three = (run(net, jnp.ones(())) for net in nets)
    assert three == pytest.approx(3 * float(one))


def test_unknown_name():
    with pytest.raises(ValueError, match=r"activation must be one of identity, relu, .*; got 'swosh'"):
        fn.activations.by_name("swosh")
