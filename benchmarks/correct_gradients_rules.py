"""Correct backward rules: pairs (fwd, bwd), and `jax.custom_vjp` functions."""

from collections.abc import Callable
from typing import Any

import gradient_layers as layers
import jax
import jax.numpy as jnp
from gradient_cases import WIDE, Family, in_float32, integers, normal

import funcnet as fn

Rule = tuple[Callable[..., Any], Callable[..., Any]]


def affine(x: Any, w: Any, b: Any) -> Any:
    """x w + b."""
    return x @ w + b[None, :]


AFFINE: Rule = (
    lambda x, w, b: (affine(x, w, b), (x, w)),
    lambda saved, dy: (dy @ saved[1].T, saved[0].T @ dy, jnp.sum(dy, axis=0)),
)
FUNCNET_AFFINE: Rule = (
    lambda x, w, b: (fn.affine(x, w, b), (x, w)),
    lambda saved, dy: fn.affine_backward(saved[0], saved[1], dy),
)


def softmax(z: Any) -> Any:
    """The softmax of each row."""
    return jax.nn.softmax(z, axis=1)


SOFTMAX: Rule = (lambda z: (softmax(z),) * 2, lambda p, dp: (layers.softmax_back(p, dp),))


def logsumexp(z: Any) -> Any:
    """The logsumexp of each row."""
    return jax.nn.logsumexp(z, axis=1)


LOGSUMEXP: Rule = (
    lambda z: (logsumexp(z), softmax(z)),
    lambda p, d: (d[:, None] * p,),
)


def half_square(x: Any) -> Any:
    """½ Σ x²."""
    return 0.5 * jnp.sum(x * x)


HALF_SQUARE: Rule = (lambda x: (half_square(x), x), lambda x, d: (d * x,))


def moments(x: Any) -> tuple[Any, Any]:
    """Mean and variance of each row."""
    mean = jnp.mean(x, axis=1)
    return mean, jnp.mean(jnp.square(x - mean[:, None]), axis=1)


def _moments_fwd(x: Any) -> Any:
    mean, variance = moments(x)
    return (mean, variance), x - mean[:, None]


def _moments_bwd(centred: Any, cotangents: Any) -> Any:
    d_mean, d_variance = cotangents
    return ((d_mean[:, None] + 2 * d_variance[:, None] * centred) / centred.shape[1],)


MOMENTS: Rule = (_moments_fwd, _moments_bwd)


def normalise(x: Any, gain: Any) -> Any:
    """Rows with mean 0 and deviation 1, times a gain."""
    return gain[None, :] * layers.normalised(x)[0]


def _normalise_bwd(saved: Any, dy: Any) -> Any:
    x, gain = saved
    dx, d_gain, _ = layers.layernorm_grad(x, gain, None, dy)
    return dx, d_gain


NORMALISE: Rule = (lambda x, gain: (normalise(x, gain), (x, gain)), _normalise_bwd)
CONV: Rule = (
    lambda x, kernel: (layers.conv(x, kernel), (x, kernel)),
    lambda saved, dy: layers.conv_back(saved[0], saved[1], dy)[::-1],
)


def take(table: Any, index: Any) -> Any:
    """Rows of a table."""
    return table[index]


TAKE: Rule = (
    lambda table, index: (table[index], (table, index)),
    lambda saved, d: (jnp.zeros_like(saved[0]).at[saved[1]].add(d), None),
)


def parts(tree: Any) -> Any:
    """A tree of results from a tree of arguments."""
    return {"product": tree["a"] * tree["b"], "sum": jnp.sum(tree["a"] + tree["b"])}


def _parts_bwd(tree: Any, d: Any) -> Any:
    return ({"a": d["product"] * tree["b"] + d["sum"], "b": d["product"] * tree["a"] + d["sum"]},)


PARTS: Rule = (lambda tree: (parts(tree), tree), _parts_bwd)


def custom(fun: Callable[..., Any], rule: Rule) -> Any:
    """The function with the rule, as `jax.custom_vjp` has it."""
    with_rule = jax.custom_vjp(fun)
    with_rule.defvjp(*rule)
    return with_rule


def lifted(rule: Rule) -> Rule:
    """A rule whose backward is computed in float32 where its arguments are in half precision."""
    return rule[0], in_float32(rule[1])


def affine_args(dtype: str, scale: float) -> tuple[Any, ...]:
    """x, w, b."""
    return normal(1, (8, 5), dtype, scale), normal(2, (5, 3), dtype), normal(3, (3,), dtype)


def rows(dtype: str, scale: float) -> tuple[Any, ...]:
    """A matrix."""
    return (normal(4, (5, 8), dtype, scale),)


def rows_and_gain(dtype: str, scale: float) -> tuple[Any, ...]:
    """A matrix and a gain for its columns."""
    return *rows(dtype, scale), normal(5, (8,), dtype)


def table_args(dtype: str, scale: float) -> tuple[Any, ...]:
    """A table and indices with repetitions."""
    return normal(6, (6, 4), dtype, scale), integers(7, 6, (9,))


def image_args(dtype: str, scale: float) -> tuple[Any, ...]:
    """An input and a kernel."""
    return layers.conv_args(dtype, scale)[1::-1]


def tree_args(dtype: str, scale: float) -> tuple[Any, ...]:
    """A tree of two vectors."""
    return ({"a": normal(8, (7,), dtype, scale), "b": normal(9, (7,), dtype)},)


def families() -> list[Family]:
    """All of them."""
    affine_rule, softmax_rule, gain_rule = (custom(*each) for each in _named())
    return [
        Family("rule: affine map", affine, None, affine_args, rule=AFFINE, scales=(1e-3, 1.0, 1e3)),
        Family("rule: affine map of funcnet", fn.affine, None, affine_args, rule=FUNCNET_AFFINE),
        Family("rule: affine map, custom_vjp", affine_rule, None, affine_args, rule=affine_rule, dtypes=WIDE),
        Family("rule: softmax", softmax, None, rows, rule=SOFTMAX),
        Family("rule: softmax, custom_vjp", softmax_rule, None, rows, rule=softmax_rule, scales=(0.1, 5.0)),
        Family("rule: logsumexp", logsumexp, None, rows, rule=LOGSUMEXP, scales=(1e-3, 1.0, 30.0)),
        Family("rule: half the square, to a scalar", half_square, None, rows, rule=HALF_SQUARE),
        Family("rule: two results", moments, None, rows, rule=lifted(MOMENTS)),
        Family("rule: normalised rows, custom_vjp", gain_rule, None, rows_and_gain, rule=gain_rule, dtypes=WIDE),
        Family("rule: convolution", layers.conv, None, image_args, rule=lifted(CONV)),
        Family("rule: rows of a table", take, None, table_args, rule=lifted(TAKE)),
        Family("rule: trees", parts, None, tree_args, rule=PARTS),
    ]


def _named() -> list[tuple[Callable[..., Any], Rule]]:
    return [(affine, AFFINE), (softmax, SOFTMAX), (normalise, NORMALISE)]
