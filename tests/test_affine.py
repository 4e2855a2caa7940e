"""The affine map and its backward against NumPy, with random cotangents and inputs of any rank."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, assert_close

import funcnet as fn
from funcnet.checking import in_float64


def arguments(dtype):
    random = np.random.default_rng(4)
    shapes = ((9, 2, 3), (6, 4), (4,), (9, 4))
    return [jnp.asarray(random.normal(0, 1, shape), dtype) for shape in shapes]


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_against_numpy_and_autodiff(dtype, compiled):
    x, w, b, dy = arguments(dtype)
    forward, backward = (jax.jit(f) if compiled else f for f in (fn.affine, fn.affine_backward))
    wide = [np.asarray(a).astype(np.float64) for a in (x, w, b, dy)]
    rows = wide[0].reshape(9, 6)
    assert_close(forward(x, w, b), rows @ wide[1] + wide[2], like=dy)
    expected = ((wide[3] @ wide[1].T).reshape(9, 2, 3), rows.T @ wide[3], wide[3].sum(axis=0))
    assert_close(backward(x, w, dy), expected, like=(x, w, b))
    pullback = in_float64(lambda x, w, b, dy: jax.vjp(fn.affine, x, w, b)[1](dy))
    assert_close(backward(x, w, dy), pullback(x, w, b, dy), like=(x, w, b))


def test_adjoint_identity():
    """⟨dY, J t⟩ = ⟨Jᵀ dY, t⟩ for a random tangent."""
    x, w, b, dy = arguments(DTYPES[-1])
    tangents = [a * 0.3 + 1 for a in (x, w, b)]
    pushed = jax.jvp(fn.affine, (x, w, b), tuple(tangents))[1]
    pulled = fn.affine_backward(x, w, dy)
    assert_close(sum(jnp.sum(p * t) for p, t in zip(pulled, tangents, strict=True)), jnp.sum(dy * pushed), terms=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": jnp.ones((9, 7))},
            r"x must be a batch \(n, \*features\) with 6 features to match w; got shape \(9, 7\)",
        ),
        ({"x": jnp.ones(6)}, r"x must be a batch .* got shape \(6,\)"),
        ({"w": jnp.ones(6)}, r"w must be a matrix \(n_in, n_out\); got shape \(6,\)"),
        ({"b": jnp.ones((4, 1))}, r"b must have shape \(4,\) to match w; got \(4, 1\)"),
    ],
)
@pytest.mark.bad_input
def test_forward_refuses(change, message):
    x, w, b, _ = arguments("float32")
    with pytest.raises(ValueError, match=message):
        fn.affine(**({"x": x, "w": w, "b": b} | change))


@pytest.mark.bad_input
def test_backward_refuses():
    x, w, _, dy = arguments("float32")
    with pytest.raises(ValueError, match=r"dy must have shape \(9, 4\) to match x and w; got \(9, 5\)"):
        fn.affine_backward(x, w, jnp.ones((9, 5)))
    with pytest.raises(TypeError, match=r"x must have the dtype float32 of w; got float16"):
        fn.affine_backward(jnp.ones((9, 6), "float16"), w, dy)
    with pytest.raises(TypeError, match=r"x must be floating point; got int32"):
        fn.affine_backward(jnp.ones((9, 6), "int32"), w, dy)
