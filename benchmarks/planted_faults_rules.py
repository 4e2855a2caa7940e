"""Wrong backward rules: those that ignore their cotangent, and others."""

from collections.abc import Callable
from typing import Any

import correct_gradients_rules as rules
import gradient_layers as layers
import jax
import jax.numpy as jnp
from gradient_cases import Case

DTYPE = "float32"


def rule_case(name: str, fun: Any, forward: Any, backward: Any, args: tuple[Any, ...], kind: str | None = None) -> Case:
    """A pair (fwd, bwd)."""
    return Case(name, fun, None, args, rule=(forward, backward), kind=kind)


def custom_case(
    name: str, fun: Callable[..., Any], rule: rules.Rule, args: tuple[Any, ...], kind: str | None = None
) -> Case:
    """A `jax.custom_vjp` function."""
    with_rule = rules.custom(fun, rule)
    return Case(name, with_rule, None, args, rule=with_rule, kind=kind)


def with_ones(rule: rules.Rule) -> rules.Rule:
    """A rule that acts as if its cotangents were ones."""
    forward, backward = rule
    return forward, lambda saved, d: backward(saved, jax.tree.map(jnp.ones_like, d))


def averaged(rule: rules.Rule) -> rules.Rule:
    """A rule that gives every row the mean of the cotangents of the rows."""
    forward, backward = rule
    return forward, lambda saved, d: backward(saved, jnp.broadcast_to(jnp.mean(d, axis=0, keepdims=True), d.shape))


def without(name: Any, rule: rules.Rule) -> rules.Rule:
    """A rule that leaves the cotangent of one result out."""
    forward, backward = rule

    def replaced(saved: Any, d: Any) -> Any:
        if isinstance(d, dict):
            return backward(saved, {**d, name: jnp.zeros_like(d[name])})
        return backward(saved, tuple(jnp.zeros_like(each) if i == name else each for i, each in enumerate(d)))

    return forward, replaced


def ignored() -> list[Case]:
    """Cotangents that are ignored."""
    args, rows = rules.affine_args(DTYPE, 1.0), rules.rows(DTYPE, 1.0)
    kind, affine = "ignored cotangent", (rules.affine, rules.AFFINE)
    normalise, gains = (rules.normalise, rules.NORMALISE), rules.rows_and_gain(DTYPE, 1.0)
    image, tree = rules.image_args(DTYPE, 1.0), rules.tree_args(DTYPE, 1.0)
    return [
        rule_case("rule: affine map, cotangent 1", affine[0], *with_ones(affine[1]), args, kind),
        custom_case("rule: affine map, cotangent 1, custom_vjp", affine[0], with_ones(affine[1]), args, kind),
        rule_case("rule: affine map, weights of rows ignored", affine[0], *averaged(affine[1]), args, kind),
        rule_case("rule: logsumexp, cotangent 1", rules.logsumexp, *with_ones(rules.LOGSUMEXP), rows, kind),
        rule_case("rule: logsumexp, weights of rows ignored", rules.logsumexp, *averaged(rules.LOGSUMEXP), rows, kind),
        rule_case("rule: a scalar's cotangent", rules.half_square, *with_ones(rules.HALF_SQUARE), rows, kind),
        custom_case(
            "rule: a scalar's cotangent, custom_vjp", rules.half_square, with_ones(rules.HALF_SQUARE), rows, kind
        ),
        rule_case("rule: moments, variance ignored", rules.moments, *without(1, rules.MOMENTS), rows, kind),
        rule_case("rule: moments, mean ignored", rules.moments, *without(0, rules.MOMENTS), rows, kind),
        rule_case("rule: tree, sum ignored", rules.parts, *without("sum", rules.PARTS), tree, kind),
        rule_case("rule: normalised rows, cotangent 1", normalise[0], *with_ones(normalise[1]), gains, kind),
        custom_case("rule: normalised rows, rows' weights ignored", normalise[0], averaged(normalise[1]), gains, kind),
        rule_case("rule: convolution, cotangent 1", layers.conv, *with_ones(rules.CONV), image, kind),
        rule_case(
            "rule: float16 affine map, cotangent 1",
            affine[0],
            *with_ones(affine[1]),
            rules.affine_args("float16", 1.0),
            kind,
        ),
    ]


def _backward(edit: Callable[..., Any]) -> Callable[..., Any]:
    """The backward of the affine map, with (dx, dw, db) edited."""
    return lambda saved, dy: edit(*rules.AFFINE[1](saved, dy), dy)


def affine_maps() -> list[Case]:
    """The affine map in other ways."""
    args, forward = rules.affine_args(DTYPE, 1.0), rules.AFFINE[0]
    edits: list[tuple[str, str | None, Callable[..., Any]]] = [
        ("bias not summed", "not summed", lambda dx, dw, db, dy: (dx, dw, dy)),
        ("bias as a row", "shape", lambda dx, dw, db, dy: (dx, dw, db[None, :])),
        ("weights out × in", "transposed", lambda dx, dw, db, dy: (dx, dw.T, db)),
        ("bias negated", "sign", lambda dx, dw, db, dy: (dx, dw, -db)),
        ("all negated", "sign", lambda dx, dw, db, dy: (-dx, -dw, -db)),
        ("features twice", "constant ratio", lambda dx, dw, db, dy: (2 * dx, dw, db)),
        ("averaged over rows", "missing mean", lambda dx, dw, db, dy: (dx, dw / len(dy), db / len(dy))),
        ("one cotangent missing", "structure", lambda dx, dw, db, dy: (dx, dw)),
        ("a dictionary", "structure", lambda dx, dw, db, dy: {"x": dx, "w": dw, "b": db}),
        ("flat weights", "shape", lambda dx, dw, db, dy: (dx, dw.ravel(), db)),
        ("bfloat16", "dtype", lambda dx, dw, db, dy: (dx, dw.astype("bfloat16"), db)),
        ("a row left out", None, lambda dx, dw, db, dy: (dx.at[3].set(0), dw, db)),
        ("a NaN", "not finite", lambda dx, dw, db, dy: (dx, dw.at[0, 0].set(jnp.nan), db)),
    ]
    name = "rule: affine map, "
    return [rule_case(name + what, rules.affine, forward, _backward(edit), args, kind) for what, kind, edit in edits]


def others() -> list[Case]:
    """Other rules."""
    rows, table = rules.rows(DTYPE, 1.0), rules.table_args(DTYPE, 1.0)
    conv = rules.CONV[0]

    def wrapped(saved: Any, dy: Any) -> Any:
        return layers.conv_back(saved[0], saved[1], dy, mode="wrap")[::-1]

    def unset(saved: Any, d: Any) -> Any:
        return (jnp.zeros_like(saved[0]).at[saved[1]].set(d), None)

    def stale(x: Any, gain: Any) -> Any:
        return (rules.normalise(x, gain), (x, jnp.ones_like(gain)))

    def shifted(x: Any) -> Any:
        return (1.01 * rules.half_square(x), x)

    return [
        rule_case("rule: softmax without − p pᵀ", rules.softmax, rules.SOFTMAX[0], lambda p, d: (p * d,), rows),
        custom_case(
            "rule: softmax without − p pᵀ, custom_vjp", rules.softmax, (rules.SOFTMAX[0], lambda p, d: (p * d,)), rows
        ),
        rule_case("rule: convolution wrapped round", layers.conv, conv, wrapped, rules.image_args(DTYPE, 1.0)),
        rule_case("rule: table, set where rows repeat", rules.take, rules.TAKE[0], unset, table),
        rule_case(
            "rule: normalised rows, gain not saved",
            rules.normalise,
            stale,
            rules.NORMALISE[1],
            rules.rows_and_gain(DTYPE, 1.0),
        ),
        rule_case("rule: forward gives another value", rules.half_square, shifted, rules.HALF_SQUARE[1], rows, "value"),
    ]


def faults() -> list[Case]:
    """All of them."""
    return [*ignored(), *affine_maps(), *others()]
