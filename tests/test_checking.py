"""The comparison is right about right trees and wrong ones, and the oracle runs in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, case

import funcnet as fn
from funcnet.checking import TOLERANCE, compare, in_float64, reference_value_and_grad


def test_equal_trees():
    params = case()[1]
    result = compare(params, params)
    assert result.error == 0
    assert not result.problems
    assert [leaf.path for leaf in result.leaves][:2] == ["[0].w", "[0].b"]
    assert all(leaf.ratio == pytest.approx(1) for leaf in result.leaves)


@pytest.mark.parametrize("dtype", DTYPES)
def test_error_is_in_units_of_eps_times_the_largest_entry(dtype):
    expected = np.array([1.0, -8.0, 3.0])
    eps = float(jnp.finfo(dtype).eps)
    got = jnp.asarray(expected + np.array([0, 0, 5 * 8 * eps]), dtype)
    (leaf,) = compare(got, expected, like=got).leaves
    assert leaf.error == pytest.approx(5)
    assert leaf.worst == (2,)
    assert leaf.expected == 3
    assert leaf.dtype == dtype


@pytest.mark.parametrize("factor", [-1.0, 3.0, 0.5, 1.0005])
def test_a_constant_factor_is_seen_and_named(factor):
    expected = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
    (leaf,) = compare(jnp.asarray(factor * expected, "float32"), expected).leaves
    assert leaf.ratio == pytest.approx(factor, rel=1e-6)
    assert leaf.error > TOLERANCE["float32"]


def test_one_wrong_entry_in_a_large_leaf_is_seen():
    expected = np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32)
    got = expected.copy()
    got[1234] += 0.001
    (leaf,) = compare(jnp.asarray(got), expected).leaves
    assert leaf.worst == (1234,)
    assert leaf.error > TOLERANCE["float32"]


def test_structure_shape_and_dtype_come_first():
    params = case(dtype="float32")[1]
    assert "structure must be" in compare(params[:2], params).problems[0]
    assert "structure must be" in compare([*params], params).problems[0]
    column = (params[0]._replace(b=params[0].b[:, None]), *params[1:])
    assert compare(column, params).problems == ("[0].b must have shape (7,); got (7, 1)",)
    half = (params[0]._replace(b=params[0].b.astype("float16")), *params[1:])
    assert compare(half, params).problems == ("[0].b must have dtype float32; got float16",)
    assert compare(half, params).error == float("inf")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_infinitely_wrong(bad):
    (leaf,) = compare(jnp.array([1.0, bad]), np.array([1.0, 2.0]), like=jnp.zeros(2)).leaves
    assert leaf.error == float("inf")
    assert leaf.worst == (1,)
    assert compare(jnp.array([1.0, np.inf]), np.array([1.0, np.inf]), like=jnp.zeros(2)).error == 0
    assert compare(jnp.array([np.nan]), np.array([np.nan]), like=jnp.zeros(1)).error == float("inf")


def test_zeros_scalars_and_empty_leaves():
    assert compare(jnp.zeros(3), np.zeros(3), like=jnp.zeros(3)).error == 0
    assert compare(jnp.ones(3), np.zeros(3), like=jnp.zeros(3)).error > 1e37  # in units of the smallest number
    assert compare(jnp.float32(2), np.float32(2)).leaves[0].worst == ()
    assert compare(jnp.zeros((0, 2)), np.zeros((0, 2)), like=jnp.zeros((0, 2))).error == 0


def test_text_names_the_place():
    text = str(compare({"w": jnp.array([2.0, 4.5], "float32")}, {"w": np.array([1.0, 2.0], np.float32)}))
    assert "['w'] float32[2]" in text
    assert "worst at [1]: expected 2, got 4.5" in text


def test_the_oracle_runs_in_float64_and_leaves_the_configuration():
    before = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    net, params, x, y = case(dtype="float16")
    value, grads = reference_value_and_grad(fn.loss, argnums=1)(net, params, x, y)
    assert value.dtype == np.float64
    assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {"float64"}
    assert (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision) == before


def test_float64_is_measured_in_its_own_eps_even_without_x64():
    expected = np.array([1.0, 2.0])
    (leaf,) = compare(expected + np.array([0, 2e-9]), expected).leaves
    assert leaf.dtype == "float64"
    assert leaf.error == pytest.approx(1e-9 / 2**-52, rel=1e-6)


def test_a_reference_in_lower_precision_is_refused():
    with pytest.raises(RuntimeError, match="did not run in float64"):
        in_float64(lambda x: x.astype("float32"))(jnp.ones(2))
