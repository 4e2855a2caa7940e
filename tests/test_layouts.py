"""The same network in five layouts: exact both ways, for parameters and gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, WIDE, assert_close, case

import funcnet as fn
from funcnet.layouts import LAYOUTS, convert

MAPS = {
    "row": lambda p, x: x @ p.w + p.b[None, :],
    "column": lambda p, x: (p.w @ x.T + p.b[:, None]).T,
    "subtractive": lambda p, x: x @ p.w - p.b[None, :],
    "augmented": lambda p, x: jnp.concatenate([jnp.ones((len(x), 1), x.dtype), x], axis=1) @ p,
    "per_node": lambda p, x: (p @ jnp.concatenate([jnp.ones((1, len(x)), x.dtype), x.T])).T,
}


@pytest.mark.quick
@pytest.mark.parametrize(("to", "source"), list(itertools.product(LAYOUTS, LAYOUTS)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trips_are_exact(to, source, dtype):
    there = convert(case(dtype=dtype)[1], to=source)
    back = convert(convert(there, to=to, source=source), to=source, source=to)
    assert jax.tree.structure(back) == jax.tree.structure(there)
    for got, expected in zip(jax.tree.leaves(back), jax.tree.leaves(there), strict=True):
        assert got.dtype == dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_forward_and_gradient_in_each_layout(layout):
    """A forward pass written in the layout, differentiated in the layout, is the converted gradient."""
    net, params, x, y = case(fn.tanh, fn.half_squared_error)

    def loss(own):
        a = x
        for i, layer in enumerate(own):
            z = MAPS[layout](layer, a)
            a = z if i == 2 else jnp.tanh(z)
        return 0.5 * jnp.mean(jnp.sum((a - y) ** 2, axis=1))

    own = convert(params, to=layout)
    value, grads = fn.value_and_grad(net, params, x, y)
    assert_close(value, loss(own))
    assert_close(convert(grads, to=layout), jax.grad(loss)(own))
    assert_close(convert(jax.grad(loss)(own), to="row", source=layout), grads)


def test_shapes():
    params = case()[1]
    assert [p.w.shape for p in convert(params, to="column")] == [(7, 5), (6, 7), (3, 6)]
    assert [p.shape for p in convert(params, to="augmented")] == [(6, 7), (8, 6), (7, 3)]
    assert [p.shape for p in convert(params, to="per_node")] == [(7, 6), (6, 8), (3, 7)]
    np.testing.assert_array_equal(convert(params, to="augmented")[0][0], params[0].b)
    np.testing.assert_array_equal(convert(params, to="per_node")[0][:, 0], params[0].b)
    np.testing.assert_array_equal(convert(params, to="subtractive")[0].b, -params[0].b)


def test_compiled():
    params = case(dtype=WIDE)[1]
    got = jax.jit(lambda p: convert(p, to="per_node"))(params)
    np.testing.assert_array_equal(got[1], convert(params, to="per_node")[1])
