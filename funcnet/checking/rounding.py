"""How far rounding alone may carry a result: the roundings between input and output, counted in the program.

Each operation on what depends on an input rounds its result by at most half an eps, and independent roundings add like
a random walk, so that k of them on the way from input to output are worth √k of one. How much of that arrives in the
result is its conditioning, which is measured: what roundings of the inputs change in it.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

EXACT = frozenset(
    "abs and argmax argmin bitcast_convert_type broadcast_in_dim ceil clamp concatenate copy copy_p cummax cummin "
    "dynamic_slice dynamic_update_slice eq expand_dims floor gather ge gt imag iota is_finite le lt max min ne neg not "
    "optimization_barrier or pad random_bits random_seed random_split random_unwrap random_wrap real reduce_and "
    "reduce_max reduce_min reduce_or reshape rev round scatter select_n shift_left shift_right_logical sign slice sort "
    "split squeeze stop_gradient top_k transpose xor reduce_window_max select_and_gather_add".split()
)
ONE = frozenset("add add_any sub mul div sqrt square integer_pow reduce_precision rem nextafter".split())
PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])
SUMS = frozenset("reduce_sum cumsum cumprod reduce_prod reduce_window_sum scatter-add scatter_add cumlogsumexp".split())
LINEAR_ALGEBRA = frozenset("cholesky eigh lu triangular_solve qr svd householder_product tridiagonal fft".split())
TRANSCENDENTAL = 4.0
"""Roundings in exp, log, tanh and the like, which come within two units in the last place."""
UNKNOWN_TRIPS = 100
"""Turns assumed of a loop whose number is not in the program."""


def eps_of(dtype: Any) -> float:
    """The distance from 1 to the next number."""
    return float(jnp.finfo(dtype).eps)


def _is_float(aval: Any) -> bool:
    return hasattr(aval, "dtype") and jnp.issubdtype(aval.dtype, jnp.floating)


def _terms(eqn: Any) -> float | int:
    """How many terms a sum has, or the size of a matrix that is taken apart."""
    first, out = eqn.invars[0].aval, eqn.outvars[0].aval
    name = eqn.primitive.name
    if name == "dot_general":
        return math.prod(first.shape[axis] for axis in eqn.params["dimension_numbers"][0][0])
    if name == "conv_general_dilated":
        kernel, layout = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec
        return math.prod(kernel) / max(kernel[layout[0]], 1)
    if name.startswith("cum"):
        return first.shape[eqn.params["axis"]]
    if name in ("scatter-add", "scatter_add"):
        return math.prod(eqn.invars[2].aval.shape) / max(math.prod(out.shape), 1) + 1
    if name == "reduce_window_sum":
        return math.prod(eqn.params["window_dimensions"])
    return math.prod(first.shape) / max(math.prod(out.shape), 1)


def _added(eqn: Any) -> float | int:
    """The variance, in squares of a relative rounding, that one operation adds."""
    out = eqn.outvars[0].aval
    if not _is_float(out):
        return 0.0
    return eps_of(out.dtype) ** 2 * _count(eqn) if _is_float(out) else 0.0


def _count(eqn: Any) -> float | int:
    """How many roundings an operation is worth."""
    name, dtype = eqn.primitive.name, eqn.outvars[0].aval.dtype
    half = jnp.finfo(dtype).bits < 32
    if name == "convert_element_type":
        source = eqn.invars[0].aval
        return float(_is_float(source) and eps_of(source.dtype) < eps_of(dtype))
    if name in EXACT or name in ONE:
        return float(name in ONE)
    if name in PRODUCTS:  # half precision is accumulated in float32
        return 1 + (0 if half else _terms(eqn) / 3)
    if name in SUMS:
        return 1 + _terms(eqn) / 3
    if name in LINEAR_ALGEBRA:
        return 1 + max(eqn.outvars[0].aval.shape, default=1)
    return 1 if half else TRANSCENDENTAL


Variance = float | None
"""The roundings behind a value, as a sum of eps²; None for what depends on no input and is the same everywhere."""


def _most(variances: Sequence[Variance]) -> Variance:
    return max((v for v in variances if v is not None), default=None)


def _inner(eqn: Any, into: list[Variance]) -> list[Variance]:
    """The variances behind an operation that contains a program, from those of its operands."""
    params, name = eqn.params, eqn.primitive.name
    if name == "scan":
        jaxpr, consts, carried = params["jaxpr"].jaxpr, params["num_consts"], params["num_carry"]
        return _loop(jaxpr, into, consts, carried, params["length"])
    if name == "while":
        skip = params["cond_nconsts"]
        return _loop(params["body_jaxpr"].jaxpr, into[skip:], params["body_nconsts"], None, UNKNOWN_TRIPS)
    if name == "cond":
        branches = [_walk(branch.jaxpr, into[1:]) for branch in params["branches"]]
        return [_most(each) for each in zip(*branches, strict=True)]
    jaxpr = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
    return _walk(getattr(jaxpr, "jaxpr", jaxpr), into)


def _loop(jaxpr: Any, into: list[Variance], consts: int, carried: int | None, turns: int) -> list[Variance]:
    """A loop: what one turn adds to what it carries, times the number of turns."""
    once = _walk(jaxpr, into)
    end = consts + (len(once) if carried is None else carried)
    pairs = zip(into[consts:end], once, strict=False)
    entering = [0.0 if before is None and after is not None else before for before, after in pairs]
    into = [*into[:consts], *entering, *into[end:]]
    once = _walk(jaxpr, into)  # what depends on an input after one turn does so before the next
    gains = [b - a for a, b in zip(entering, once, strict=False) if a is not None and b is not None]
    gain = max(gains, default=0.0)
    return [None if out is None else out + max(gain, 0.0) * (turns - 1) for out in once]


def _walk(jaxpr: Any, into: Sequence[Variance]) -> list[Variance]:
    """The largest variance on any path to each output."""
    known: dict[Any, Variance] = dict(zip(jaxpr.invars, into, strict=True))

    def read(atom: Any) -> Variance:
        return None if hasattr(atom, "val") else known.get(atom)

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        if any(key in eqn.params for key in ("jaxpr", "call_jaxpr", "fun_jaxpr", "branches", "body_jaxpr")):
            results = _inner(eqn, operands)
        else:
            most = _most(operands)
            results = [None if most is None else most + _added(eqn)] * len(eqn.outvars)
        for var, variance in zip(eqn.outvars, results, strict=True):
            known[var] = variance if _is_float(var.aval) else None
    return [read(atom) for atom in jaxpr.outvars]


def rounding_variances(jaxpr: Any) -> list[float]:
    """For each output of a traced program, the sum of eps² over the roundings on its longest path from an input."""
    inputs = [0.0 if _is_float(var.aval) else None for var in jaxpr.jaxpr.invars]
    return [variance or 0.0 for variance in _walk(jaxpr.jaxpr, inputs)]


def draws(jaxpr: Any) -> list[tuple[Any, ...]]:
    """The random bits that a program draws: functions that draw others are not the same function."""
    found = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "random_bits":
            found.append((eqn.params["bit_width"], tuple(eqn.params["shape"])))
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                found += draws(inner) if hasattr(inner, "eqns") else []
    return found
