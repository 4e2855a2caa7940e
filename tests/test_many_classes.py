"""The cross-entropy over chunks of classes against the plain one: value, gradient, tangents, Hessian, and accuracy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, WIDE, assert_close, some
from test_per_example import largest_buffer

import funcnet as fn
from funcnet.checking import in_float64, reference_value_and_grad

N, D, K = 6, 4, 11
LABELS = jnp.asarray([0, 10, 3, 3, 7, 9], "int32")
WEIGHTS = np.array([1.0, 2.0, 0.5, -0.5, 1.0, 3.0])


def arguments(dtype=WIDE, k=K):
    random = np.random.default_rng(0)
    h, w, b = (random.normal(size=shape) for shape in ((N, D), (D, k), (k,)))
    return tuple(jnp.asarray(array, dtype) for array in (h, w, b))


def plain(h, w, b, labels=LABELS, weights=WEIGHTS, epsilon=0.0):
    """The layer and the loss, as NumPy would have them."""
    z = jnp.matmul(h, w, precision="highest") + b[None]
    c = jnp.asarray(weights / weights.sum(), z.dtype)
    return jnp.sum(c * fn.label_smoothed(epsilon).value(z, labels))


def chunked(h, w, b, **how):
    return fn.linear_cross_entropy(h, w, b, LABELS, weights=jnp.asarray(WEIGHTS, h.dtype), **how)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("dtype", "epsilon", "chunk_size"),
    some([*((dtype, 0.25, 3) for dtype in DTYPES), *((WIDE, e, size) for e in (0.0, 0.25) for size in (1, 11))], 4),
)
def test_value_and_gradient(dtype, epsilon, chunk_size):
    args = arguments(dtype)
    reference = reference_value_and_grad(lambda *a: plain(*a, epsilon=epsilon), argnums=(0, 1, 2))(*args)
    how = {"chunk_size": chunk_size, "label_smoothing": epsilon}
    weights = jnp.asarray(WEIGHTS, dtype)
    value, grads = fn.linear_cross_entropy_value_and_grad(*args, LABELS, weights=weights, **how)
    assert value.dtype == ("float64" if dtype == "float64" else "float32")
    assert_close(value, reference[0], like=value)
    assert_close(grads, reference[1], like=args)
    got = jax.jit(jax.value_and_grad(lambda *a: chunked(*a, **how), argnums=(0, 1, 2)))(*args)
    assert_close(got[1], reference[1], like=args)


@pytest.mark.parametrize("chunk_size", some([4, 11, 100], 1))
def test_jax_differentiates_it_in_both_modes_and_twice(chunk_size):
    args = arguments()
    tangents = tuple(jnp.asarray(np.random.default_rng(i).normal(size=a.shape), a.dtype) for i, a in enumerate(args))
    ours = partial(chunked, chunk_size=chunk_size)
    twice = [jax.jit(jax.hessian(fun, (0, 1, 2)))(*args) for fun in (ours, plain)]
    assert_close(jax.jvp(ours, args, tangents), jax.jvp(plain, args, tangents), terms=4)
    assert_close(twice[0], twice[1], terms=8)


def test_the_derivative_in_the_weights():
    args = arguments()
    z = args[0] @ args[1] + args[2][None]

    def mean(weights):
        return jnp.sum(weights * fn.softmax_cross_entropy.value(z, LABELS)) / jnp.sum(weights)

    weights = jnp.asarray(WEIGHTS, WIDE)
    got = jax.grad(lambda weights: fn.linear_cross_entropy(*args, LABELS, weights=weights, chunk_size=4))(weights)
    assert_close(got, jax.grad(mean)(weights), terms=4)


def test_a_sure_label_does_not_cancel():
    """Logits (20, 0) in float32: 1 − p is 2e-9, which p − 1 would lose."""
    h, w, b = jnp.ones((1, 1), "float32"), jnp.asarray([[20.0, 0.0]], "float32"), jnp.zeros(2, "float32")
    for chunk_size in (1, 2):
        value, (_, d_w, d_b) = fn.linear_cross_entropy_value_and_grad(
            h, w, b, jnp.zeros(1, "int32"), chunk_size=chunk_size
        )
        expected = np.exp(-20.0) / (1 + np.exp(-20.0))
        np.testing.assert_allclose(float(value), np.log1p(np.exp(-20.0)), rtol=1e-6)
        np.testing.assert_allclose(d_b, [-expected, expected], rtol=1e-6)
        np.testing.assert_allclose(d_w, [[-expected, expected]], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e3, 1e30])
@pytest.mark.parametrize("chunk_size", [1, 4, 11])
def test_logits_of_any_size(scale, chunk_size):
    h, w, b = arguments("float32")
    args = h, jnp.zeros_like(w), scale * b
    z = jnp.zeros((N, 1), "float32") + scale * b[None]
    value, grads = fn.linear_cross_entropy_value_and_grad(*args, LABELS, chunk_size=chunk_size)
    assert_close(value, jnp.mean(fn.softmax_cross_entropy.value(z, LABELS)))
    assert_close(grads[2], jnp.mean(fn.softmax_cross_entropy.gradient(z, LABELS), axis=0))


@pytest.mark.parametrize("chunk_size", [1, 4, 11])
def test_masked_classes(chunk_size):
    """Also that of a label, and all of them."""
    h, w, b = arguments()
    for mask in ([1, 2], [3], list(range(K))):
        masked = b.at[jnp.asarray(mask)].set(-jnp.inf)
        z = h @ w + masked[None]
        value, grads = fn.linear_cross_entropy_value_and_grad(h, w, masked, LABELS, chunk_size=chunk_size)
        expected = jnp.mean(fn.softmax_cross_entropy.value(z, LABELS))
        assert value == expected == jnp.inf if len(mask) != 2 else abs(value - expected) < 1e-5
        g = fn.softmax_cross_entropy.gradient(z, LABELS) / N
        assert_close(grads, (g @ w.T, h.T @ g, jnp.sum(g, axis=0)), terms=4)


def test_labels_out_of_range_and_to_be_ignored():
    args = arguments()
    labels = LABELS.at[2].set(-100)
    value, grads = fn.linear_cross_entropy_value_and_grad(*args, labels, chunk_size=4)
    assert jnp.isnan(value)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in grads)
    h = args[0].at[2].set(jnp.nan)
    got = fn.linear_cross_entropy_value_and_grad(h, *args[1:], labels, chunk_size=4, ignore=-100)
    weights = jnp.ones(N, WIDE).at[2].set(0)
    assert_close(got, fn.linear_cross_entropy_value_and_grad(*args, LABELS, weights=weights, chunk_size=4))
    nothing = fn.linear_cross_entropy_value_and_grad(*args, LABELS, weights=jnp.zeros(N, WIDE))
    assert all(bool(jnp.all(leaf == 0)) for leaf in jax.tree.leaves(nothing))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_many_classes_in_half_precision(dtype):
    """70,000 zeros: the sum of their exponentials overflows float16."""
    h, w, b = jnp.ones((2, 1), dtype), jnp.zeros((1, 70_000), dtype), jnp.zeros(70_000, dtype)
    value, grads = fn.linear_cross_entropy_value_and_grad(h, w, b, jnp.asarray([0, 69_999], "int32"))
    assert float(value) == pytest.approx(np.log(70_000), rel=1e-5)
    assert all(leaf.dtype == dtype for leaf in grads)


def test_the_logits_are_never_in_memory():
    n, d, k = 32, 4, 1000
    h, w, b, labels = jnp.ones((n, d)), jnp.ones((d, k)), jnp.ones(k), jnp.zeros(n, "int32")

    def ours(h, w, b):
        return fn.linear_cross_entropy_value_and_grad(h, w, b, labels, chunk_size=64)

    def stored(h, w, b):
        return jnp.mean(fn.softmax_cross_entropy.value(h @ w + b[None], labels))

    assert largest_buffer(ours, h, w, b) < n * k
    assert largest_buffer(jax.value_and_grad(stored), h, w, b) >= n * k


def test_a_wrong_gradient_would_be_found():
    args = arguments("float32")
    truth = in_float64(jax.grad(plain, (0, 1, 2)))(*args)
    wrong = fn.linear_cross_entropy_value_and_grad(*args, LABELS, chunk_size=4)[1]  # without the weights
    with pytest.raises(AssertionError):
        assert_close(wrong, truth, like=args)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"h": jnp.ones(N, WIDE)}, ValueError, r"h must have shape \(n, d\); got \(6,\)"),
        ({"w": jnp.ones((3, K), WIDE)}, ValueError, r"w must have shape \(d, k\) to match h"),
        ({"b": jnp.ones(3, WIDE)}, ValueError, r"b must have shape \(11,\) to match w; got \(3,\)"),
        ({"h": jnp.ones((N, D), "int32")}, TypeError, "h must be floating point; got int32"),
        ({"h": [[1.0]]}, TypeError, "h must be a JAX or NumPy array; got list"),
        ({"labels": jnp.ones(N, WIDE)}, TypeError, "labels must be integers"),
        ({"labels": LABELS[:2]}, ValueError, r"labels must have shape \(6,\), one for each example of h; got \(2,\)"),
        ({"weights": jnp.ones(2)}, ValueError, r"weights must have shape \(6,\)"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1; got 0"),
        ({"label_smoothing": 1.0}, ValueError, r"label_smoothing must be in \[0, 1\); got 1.0"),
        ({"label_smoothing": "a"}, TypeError, "label_smoothing must be a number; got 'a'"),
    ],
)
def test_bad_arguments(changes, error, message):
    h, w, b = arguments()
    given = {"h": h, "w": w, "b": b, "labels": LABELS} | changes
    for fun in (fn.linear_cross_entropy, fn.linear_cross_entropy_value_and_grad):
        with pytest.raises(error, match=message):
            fun(**given)
