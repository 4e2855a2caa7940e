"""Backward rules: right ones pass, and what a wrong one does with its cotangent is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES

import funcnet as fn

RANDOM = np.random.default_rng(0)
X, W, B = RANDOM.normal(0, 1, (3, 2)), RANDOM.normal(0, 1, (2, 4)), RANDOM.normal(0, 1, 4)


def arrays(dtype="float32"):
    return tuple(jnp.asarray(a, dtype) for a in (X, W, B))


def forward(x, w, b):
    return fn.affine(x, w, b), (x, w)


def backward(saved, dy):
    return fn.affine_backward(*saved, dy)


def found(bwd, fwd=forward):
    report = fn.check_vjp(fn.affine, *arrays(), rule=(fwd, bwd), raises=False)
    assert not report.passed
    return [(cause.kind, cause.paths) for cause in report.diagnoses]


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pair_that_is_right(dtype):
    report = fn.check_vjp(fn.affine, *arrays(dtype), rule=(forward, backward))
    assert [leaf.path for leaf in report.leaves] == ["value", "args[0]", "args[1]", "args[2]"]
    assert {leaf.dtype for leaf in report.leaves} == {dtype}
    assert fn.check_vjp(fn.affine, *arrays(dtype), rule=(forward, backward), argnums=1).leaves[1].path == "args[1]"


EVERY = ("args[0]", "args[1]", "args[2]")
FAULTS = {
    "ones": (lambda s, dy: backward(s, jnp.ones_like(dy)), [("ignored cotangent", EVERY)]),
    "mean": (
        lambda s, dy: backward(s, jnp.broadcast_to(jnp.mean(dy, 0), dy.shape)),
        [("ignored cotangent", EVERY[:2])],
    ),
    "signs": (lambda s, dy: backward(s, jnp.sign(dy)), [("ignored cotangent", EVERY)]),
    "clipped": (lambda s, dy: backward(s, jnp.clip(dy, -5, 5)), [("ignored cotangent", EVERY)]),
    "bias not summed": (lambda s, dy: (*backward(s, dy)[:2], dy), [("not summed", EVERY[2:])]),
    "transposed": (lambda s, dy: (dy @ s[1].T, dy.T @ s[0], jnp.sum(dy, 0)), [("transposed", EVERY[1:2])]),
    "mean of rows": (lambda s, dy: tuple(g / 3 for g in backward(s, dy)), [("missing mean", EVERY)]),
    "nothing": (lambda s, dy: (*backward(s, dy)[:2], None), [("zero", EVERY[2:])]),
    "one too few": (lambda s, dy: backward(s, dy)[:2], [("structure", EVERY)]),
    "dtype": (lambda s, dy: (*backward(s, dy)[:2], jnp.sum(dy, 0).astype("bfloat16")), [("dtype", EVERY[2:])]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_wrong_pairs_are_named(name):
    bwd, expected = FAULTS[name]
    assert found(bwd) == expected


def test_a_forward_pass_that_gives_something_else():
    assert found(backward, lambda x, w, b: (fn.affine(x, w, b) + 1, (x, w))) == [("value", ("value",))]


@jax.custom_vjp
def swirl(x, y):
    return {"a": jnp.sin(x) * y, "b": x + y, "n": jnp.arange(3)}


def swirl_forward(x, y):
    return swirl(x, y), (x, y)


def swirl_backward(saved, g):
    x, y = saved
    return jnp.cos(x) * y * g["a"] + g["b"], jnp.sin(x) * g["a"] + g["b"]


swirl.defvjp(swirl_forward, swirl_backward)


def test_functions_with_a_rule_of_their_own():
    x = jnp.linspace(-1, 1, 3)
    assert fn.check_vjp(swirl, x, x + 1).passed
    half = jax.custom_vjp(swirl.fun)
    half.defvjp(swirl_forward, lambda saved, g: (swirl_backward(saved, g)[0], jnp.sin(saved[0]) * g["a"]))
    report = fn.check_vjp(half, x, x + 1, raises=False)
    (cause,) = report.diagnoses
    assert cause.kind == "ignored cotangent"
    assert cause.paths == ("args[1]",)
    assert "output 1" in cause.text
    with pytest.raises(fn.GradientMismatch, match="output 1 is ignored"):
        fn.check_vjp(half, x, x + 1)


def test_arguments_that_are_not_differentiated_in():
    def scale(n, x, table):
        return n * x[table]

    rule = jax.custom_vjp(scale, nondiff_argnums=(0,))
    table = jnp.asarray([0, 2, 2])
    rule.defvjp(
        lambda n, x, table: (scale(n, x, table), (x, table)),
        lambda n, saved, g: (jnp.zeros_like(saved[0]).at[saved[1]].add(n * g), None),
    )
    assert fn.check_vjp(rule, 3, jnp.ones(4), table).passed
    rule.defvjp(
        lambda n, x, table: (scale(n, x, table), (x, table)),
        lambda n, saved, g: (jnp.zeros_like(saved[0]).at[saved[1]].set(n * g), None),
    )
    assert not fn.check_vjp(rule, 3, jnp.ones(4), table, raises=False).passed


def test_rules_of_forward_mode_and_functions_that_contain_a_rule():
    @jax.custom_jvp
    def safe(x):
        return jnp.log1p(jnp.exp(x))

    safe.defjvp(lambda primals, tangents: (safe(*primals), jax.nn.sigmoid(primals[0]) * tangents[0]))
    assert fn.check_vjp(safe, jnp.linspace(-2, 2, 5)).passed
    x = jnp.linspace(-1, 1, 3)
    plain = swirl.fun
    assert fn.check_vjp(lambda x: plain(x, x * x), x, rule=lambda x: swirl(x, x * x)).passed


def test_bad_calls_are_refused():
    with pytest.raises(
        TypeError, match=r"fun must be a jax\.custom_vjp or jax\.custom_jvp function, or come with rule"
    ):
        fn.check_vjp(jnp.sin, jnp.ones(3))
    with pytest.raises(TypeError, match="has no backward rule yet"):
        fn.check_vjp(jax.custom_vjp(jnp.sin), jnp.ones(3))
    with pytest.raises(TypeError, match="no argument holds a floating-point array"):
        fn.check_vjp(jnp.negative, jnp.arange(3), rule=(lambda n: (n, n), lambda n, g: (n,)))
