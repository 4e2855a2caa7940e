"""What holds for every network: the gradient is that of autodiff, and the laws that tie it to itself.

A random network may be badly conditioned (addends that cancel, a slope near 0 in a layer of one unit), and then a
correct gradient is many eps of its largest entry away from the truth. What rounding explains is therefore measured for
each network (`scales`); in that unit the tolerance is the one of all tests.
"""

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ACTIVATIONS, LOSSES, WIDE, X64, targets
from hypothesis import given, settings
from hypothesis import strategies as st

import funcnet as fn
from funcnet.checking import TOLERANCE, compare
from funcnet.precision import matmul
from funcnet.sweeps import Cotangents
from funcnet.types import KeyArray, Layer

pytestmark = pytest.mark.skipif(not X64, reason="float64 tells laws from rounding; test_gradients has the other dtypes")
STEP, MOVES = 2.0**-20, 6
Run = Callable[..., Any]


class Problem(NamedTuple):
    """The arguments of `fn.value_and_grad`, and those of the Jacobian J of the outputs in (params, x)."""

    net: fn.MLP
    params: fn.Params
    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    key: KeyArray | None
    cotangent: np.ndarray
    tangent: tuple[fn.Params, np.ndarray]


class Result(NamedTuple):
    gradient: Any  # fn.value_and_grad
    autodiff: Any  # what it should be
    back: Any  # Jᵀ v, contracted from what the backward sweep makes of the cotangent v, and that
    forth: Any  # J t of the tangent t, by autodiff


def problem_for(net: fn.MLP, n: int, seed: int) -> Problem:
    """Random and bounded, since autodiff itself cancels where tanh saturates; weights in quarters add up exactly."""
    draw, k = np.random.default_rng(seed), net.widths[-1]
    params = tuple(
        Layer(draw.uniform(-1.2, 1.2, (i, o)) / np.sqrt(i), draw.uniform(-0.5, 0.5, o))
        for i, o in itertools.pairwise(net.widths)
    )
    x = draw.uniform(-1.5, 1.5, (n, net.widths[0]))
    y = np.asarray(targets(net.loss, k, WIDE, n, seed))
    if net.loss.targets == "classes" and draw.integers(2):
        y = draw.dirichlet(np.ones(k), n)
    weights = draw.integers(-3, 9, n) / 4
    weights[0] += weights.sum() == 0
    key = None if net.dropout is None else jax.random.key(seed)
    tangent = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), (params, x))
    return Problem(net, params, x, y, weights, key, draw.normal(size=(n, k)), tangent)


@st.composite
def networks(draw: st.DrawFn) -> tuple[fn.MLP, int, int]:
    """1 to 6 layers of 1 to 17 units with any activations and loss, a number of examples, and a seed for the rest.

    All but the depth comes from the seed, so that few networks differ much.
    """
    n_layers, seed = draw(st.integers(1, 6)), draw(st.integers(0, 2**32 - 1))
    choose = random.Random(seed)
    n, widest, loss = choose.randint(1, 6), choose.choice((3, 17)), choose.choice(LOSSES)
    *hidden, last = choose.choices(ACTIVATIONS, k=n_layers)
    net = fn.MLP(
        (*choose.choices(range(1, widest + 1), k=n_layers), choose.randint(1 + loss.logits, widest)),
        activation=choose.choice((tuple(hidden), tuple(hidden), last)),
        output_activation=fn.identity if loss.logits else last,
        loss=loss,
        l2=choose.choice((None, 0.3)),
        dropout=choose.choice((None, 0.4)),
    )
    return net, n, seed


SOON_COMPILED: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
try:
    jax.jit(jnp.negative, compiler_options=SOON_COMPILED)(1.0)
except jax.errors.JaxRuntimeError:  # the names are XLA's, and may go
    SOON_COMPILED = {}


def program() -> Run:
    """What gives the `Result` in NumPy, compiled anew, so that no test runs what another has traced."""

    def run(problem: Problem) -> Result:
        net, params, x, y, weights, key, cotangent, tangent = problem
        call, keywords = (net, params, x, y), {"weights": weights, "key": key}
        _, saved = fn.sweeps.forward(net, params, x, key)
        swept = fn.sweeps.backward(net, params, saved, cotangent)
        grads = tuple(map(fn.contractions.gradient, saved.inputs, swept.deltas))
        pulled = grads, matmul(swept.deltas[0], params[0].w.T)
        forth = jax.jvp(lambda params, x: fn.apply(net, params, x, key=key), (params, x), tangent)[1]
        autodiff = jax.value_and_grad(fn.loss, argnums=1)(*call, **keywords)
        return Result(fn.value_and_grad(*call, **keywords), autodiff, (pulled, swept), forth)

    compiled = jax.jit(run, compiler_options=SOON_COMPILED)
    return lambda problem: jax.tree.map(np.asarray, compiled(problem))


def scales(run: Run, problem: Problem) -> Any:
    """For each leaf of the result its largest entry, plus how far it moves for each unit that the arguments move.

    At best, rounded arithmetic gives the result for arguments that are off by an eps.
    """
    draw = np.random.default_rng(0)

    def moved(leaf: Any) -> Any:
        moves = isinstance(leaf, np.ndarray) and leaf.dtype == np.float64
        return leaf * (1 + STEP * draw.normal(size=leaf.shape)) if moves else leaf

    def scale(at: np.ndarray, *others: np.ndarray) -> np.ndarray:
        return np.max(np.abs(at)) + np.max(np.abs(np.stack(others) - at)) / STEP

    return jax.tree.map(scale, run(problem), *(run(jax.tree.map(moved, problem)) for _ in range(MOVES)))


def gradient_scales(run: Run, problem: Problem) -> Any:
    """Those of value and gradient, plus what an eps in the gradient of each loss amounts to.

    For classes that gradient adds up to 0 wherever the arguments move, but not when it is rounded.
    """
    value, grads = scales(run, problem).gradient
    shares = problem.weights / (problem.weights.sum() or 1)
    (rounded, _), _ = run(problem._replace(cotangent=problem.cotangent * shares[:, None])).back
    return value, jax.tree.map(lambda scale, leaf: scale + np.max(np.abs(leaf)), grads, rounded)


def weighted_sum(factors: Any, trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: sum(c * leaf for c, leaf in zip(factors, leaves, strict=True)), *trees)


def assert_equal(got: Any, expected: Any, scale: Any) -> None:
    """Equal within the tolerance, in units of eps times the scale of the leaf."""
    comparison = compare(got, expected)
    assert not comparison.problems
    errors = jax.tree.map(lambda a, b: np.max(np.abs(a - b)) / np.finfo(a.dtype).eps, got, expected)
    pairs = zip(jax.tree.leaves(errors), jax.tree.leaves(scale), strict=True)
    assert all(error <= TOLERANCE["float64"] * size < np.inf for error, size in pairs), str(comparison)


def assert_same_numbers(got: Any, expected: Any) -> None:
    assert jax.tree.all(jax.tree.map(np.array_equal, got, expected))


def without_dropout(problem: Problem) -> Problem:
    """The same with a rate of 0: a mask stays where it is when rows or units move."""
    net = problem.net
    return problem if net.dropout is None else problem._replace(net=dataclasses.replace(net, dropout=0.0))


def equals_autodiff(run: Run, problem: Problem) -> None:
    assert_equal(run(problem).gradient, run(problem).autodiff, gradient_scales(run, problem))


def averages_examples(run: Run, problem: Problem) -> None:
    """Σ c_i times the examples' own, each with its own dropout mask; since Σ c_i = 1, with the penalty as well."""
    shares = problem.weights / problem.weights.sum()
    alone = [problem._replace(weights=row) for row in np.eye(len(shares))]
    expected = weighted_sum(shares, [run(single).gradient for single in alone])
    assert_equal(run(problem).gradient, expected, weighted_sum(abs(shares), [gradient_scales(run, p) for p in alone]))


def counts_rows(run: Run, problem: Problem) -> None:
    """A row taken twice has twice the weight; one not taken has the weight 0, and may hold NaN."""
    problem = without_dropout(problem)
    x, y, weights = problem.x, problem.y, problem.weights
    rows = np.argsort(x[:, 0])[np.arange(len(x)) // 2]
    counts = np.bincount(rows, minlength=len(x))
    left_out = np.where(counts, 1.0, np.nan)[:, None]
    hollow = problem._replace(x=x * left_out, y=y if y.ndim == 1 else y * left_out, weights=weights * counts)
    taken = problem._replace(x=x[rows], y=y[rows], weights=weights[rows])
    assert_equal(run(hollow).gradient, run(taken).gradient, gradient_scales(run, taken))


def ignores_order(run: Run, problem: Problem) -> None:
    problem = without_dropout(problem)
    order = np.argsort(problem.x[:, 0])
    shuffled = problem._replace(x=problem.x[order], y=problem.y[order], weights=problem.weights[order])
    assert_equal(run(shuffled).gradient, run(problem).gradient, gradient_scales(run, problem))


def follows_units(run: Run, problem: Problem) -> None:
    """Features and hidden units in another order give the gradient in that order."""
    problem = without_dropout(problem)
    orders = [np.argsort(row) for row in (problem.x[0], *(layer.b for layer in problem.params[:-1]))]
    orders.append(np.arange(problem.net.widths[-1]))

    def moved(layers: fn.Params) -> fn.Params:
        pairs = zip(layers, itertools.pairwise(orders), strict=True)
        return tuple(Layer(layer.w[np.ix_(rows, columns)], layer.b[columns]) for layer, (rows, columns) in pairs)

    value, grads = run(problem).gradient
    got = run(problem._replace(params=moved(problem.params), x=problem.x[:, orders[0]])).gradient
    assert_equal(got, (value, moved(grads)), gradient_scales(run, problem))


def is_exact(run: Run, problem: Problem) -> None:
    """All weights times a power of 2 change nothing, nor does what a row of weight 0 holds."""
    assert_same_numbers(run(problem._replace(weights=problem.weights * 4)).gradient, run(problem).gradient)
    absent = problem._replace(weights=problem.weights * (np.arange(len(problem.x)) > 0))
    x, y = problem.x.copy(), problem.y.copy()
    x[0], y[0] = np.nan, -1 if y.ndim == 1 else np.nan
    assert_same_numbers(run(absent._replace(x=x, y=y)).gradient, run(absent).gradient)


def is_linear(run: Run, problem: Problem) -> None:
    """The backward sweep and its contractions, in the cotangent."""
    u, v = problem.cotangent, np.cos(problem.cotangent)
    at_u, at_v, twice, both = (run(problem._replace(cotangent=w)).back for w in (u, v, -2 * u, 0.7 * u - 1.3 * v))
    assert_same_numbers(twice, weighted_sum([-2], [at_u]))
    sizes = [scales(run, problem._replace(cotangent=w)).back for w in (u, v)]
    assert_equal(both, weighted_sum((0.7, -1.3), (at_u, at_v)), weighted_sum((0.7, 1.3), sizes))


def is_adjoint(run: Run, problem: Problem) -> None:
    """⟨Jᵀ v, t⟩ = ⟨v, J t⟩."""

    def products(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
        result = run(problem)
        parts = jax.tree.map(lambda a, b: np.sum(a * b), result.back[0], problem.tangent)
        return jax.tree.reduce(np.add, parts), np.sum(problem.cotangent * result.forth)

    assert_equal(*products(problem), max(scales(products, problem)))


LAWS = equals_autodiff, averages_examples, counts_rows, ignores_order, follows_units, is_exact, is_linear, is_adjoint


def check(net: fn.MLP, n: int, seed: int) -> None:
    """Three sets of parameters and data, since only the network compiles anew."""
    run = program()
    for law, i in itertools.product(LAWS, range(3)):
        law(run, problem_for(net, n, seed + i))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(networks())
def test_laws(network):
    check(*network)


@pytest.mark.slow
@settings(max_examples=120, deadline=None, derandomize=True)
@given(networks())
def test_laws_for_many_networks(network):
    check(*network)


def too_steep(right, net, *rest):
    off = dataclasses.replace(fn.tanh, slope=lambda z, h, slope=fn.tanh.slope: 1.00001 * slope(z, h))
    return right(dataclasses.replace(net, activation=off), *rest)


def last_unit_favoured(right, *arguments, **options):
    layer = right(*arguments, **options)
    return Layer(layer.w.at[:, -1].multiply(1.001), layer.b)


def deltas(change):
    def wrong(right, net, params, saved, d_outputs, contract=None):
        changed = tuple(change(delta) for delta in right(net, params, saved, d_outputs).deltas)
        return Cotangents(changed, (), tuple(map(contract, saved.inputs, changed)) if contract else ())

    return wrong


BROKEN = (
    (fn.gradients, "backward", too_steep, {equals_autodiff}),
    (fn.gradients, "backward", deltas(lambda d: d.at[-1].multiply(1.1)), {equals_autodiff, counts_rows, ignores_order}),
    (fn.gradients, "backward", deltas(jnp.tanh), {equals_autodiff, averages_examples, counts_rows}),
    (fn.gradients, "enter", lambda right, *call: right(*call)._replace(x=call[2]), {counts_rows, is_exact}),
    (fn.sweeps, "backward", too_steep, {is_adjoint}),
    (fn.sweeps, "backward", deltas(jnp.tanh), {is_linear, is_adjoint}),
    (fn.contractions, "gradient", last_unit_favoured, {equals_autodiff, follows_units, is_adjoint}),
)


@pytest.mark.parametrize(("place", "name", "wrong", "laws"), BROKEN)
def test_what_is_wrong_breaks_its_laws(monkeypatch, place, name, wrong, laws):
    """And no other, so that a law which cannot hold is seen as well."""
    monkeypatch.setattr(place, name, partial(wrong, getattr(place, name)))
    net = fn.MLP((3, 4, 5, 2), activation=fn.tanh, loss=fn.half_squared_error, l2=0.3)
    run, problem = program(), problem_for(net, 4, 0)
    for law in LAWS:
        with pytest.raises(AssertionError) if law in laws else contextlib.nullcontext():
            law(run, problem)
