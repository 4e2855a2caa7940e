"""Sums, elementwise products, powers and functions: what is equal is collected, numbers stand in front."""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from funcnet.derive.expression import (
    LARGEST,
    SCALAR,
    Expression,
    Number,
    Shape,
    ShapeError,
    is_zero,
    number,
    ones,
    sizes,
    zeros,
)
from funcnet.derive.functions import FUNCTIONS

MAX_EXPONENT = 100


def shown(e: Expression) -> str:
    """An operand and its size, for messages."""
    return f"{e} ({sizes(e.shape)})"


def _common_shape(args: Sequence[Expression], sign: str) -> Shape:
    """The size of the result of an elementwise operation; scalars go with everything."""
    shape, first = SCALAR, None
    for arg in args:
        if arg.is_scalar:
            continue
        if first is not None and arg.shape != shape:
            raise ShapeError(f"{shown(first)} {sign} {shown(arg)}: both must have the same size")
        shape, first = arg.shape, arg
    return shape


def split(e: Expression) -> tuple[Number, Expression]:
    """A number and the rest, whose product e is."""
    if e.op == "number":
        return e.data, number(1)
    if e.op == "mul" and e.args[0].op == "number":
        rest = e.args[1:]
        return e.args[0].data, rest[0] if len(rest) == 1 else Expression("mul", rest, e.shape)
    return Fraction(1), e


def scaled(coefficient: Number, e: Expression) -> Expression:
    """A number times an expression."""
    return mul(number(coefficient), e)


def add(*args: Expression) -> Expression:
    """The sum; scalars are added to every entry.

    Raises:
        ShapeError: If sizes differ.
    """
    shape = _common_shape(args, "+")
    collected: dict[str, tuple[Number, Expression]] = {}

    def take(coefficient: Number, e: Expression) -> None:
        own, rest = split(e)
        coefficient *= own
        if rest.op == "add":
            for arg in rest.args:
                take(coefficient, arg)
        elif not is_zero(rest) and coefficient:
            before = collected.get(rest.digest, (0, rest))[0]
            collected[rest.digest] = before + coefficient, rest

    for arg in args:
        take(Fraction(1), arg if arg.shape == shape else _spread(arg, shape))
    terms = [scaled(c, rest) for c, rest in collected.values() if c]
    if not terms:
        return zeros(shape)
    if len(terms) == 1:
        return terms[0]
    terms.sort(key=_negative)  # a − b rather than −b + a
    return Expression("add", tuple(terms), shape)


def _negative(e: Expression) -> bool:
    return split(e)[0] < 0


def _spread(scalar: Expression, shape: Shape) -> Expression:
    return mul(scalar, ones(*shape))


def mul(*args: Expression) -> Expression:
    """The elementwise product; scalars multiply every entry.

    Raises:
        ShapeError: If sizes differ.
    """
    shape = _common_shape(args, "∘")
    coefficient: Number = Fraction(1)
    powers: dict[str, tuple[Number, Expression]] = {}
    for arg in flat("mul", args):
        if arg.op == "number":
            coefficient *= arg.data
            continue
        base, exponent = base_and_exponent(arg)
        before = powers.get(base.digest, (0, base))[0]
        powers[base.digest] = before + exponent, base
    if not coefficient or any(is_zero(base) and p > 0 for p, base in powers.values()):
        return zeros(shape)
    factors = [power(base, p) for p, base in powers.values() if p]
    for f in factors:
        if f.op == "number":
            coefficient *= f.data
    factors = [f for f in factors if f.op != "number"]
    wide = [f for f in factors if not f.is_scalar and f.op != "ones"]
    if shape != SCALAR and not wide:
        wide = [ones(*shape)]
    factors = [f for f in factors if f.is_scalar] + wide
    if len(factors) == 1 and factors[0].op == "add" and coefficient == -1 and any(map(_negative, factors[0].args)):
        return add(*(scaled(-split(t)[0], split(t)[1]) for t in factors[0].args))
    if coefficient != 1 or not factors:
        factors.insert(0, number(coefficient))
    return factors[0] if len(factors) == 1 else Expression("mul", tuple(factors), shape)


def base_and_exponent(e: Expression) -> tuple[Expression, Number]:
    """A factor as a power: ‖X‖² is one of ‖X‖, (X²)ᵀ one of Xᵀ."""
    if e.op == "power":
        return e.args[0], e.data
    if e.op == "norm2":
        return Expression("norm", e.args), Fraction(2)
    if e.op == "T" and e.args[0].op == "power":
        return turned(e.args[0].args[0]), e.args[0].data
    return e, Fraction(1)


def flat(op: str, args: Sequence[Expression]) -> list[Expression]:
    """The operands, with those of the same operation among them opened."""
    return list(itertools.chain.from_iterable(arg.args if arg.op == op else (arg,) for arg in args))


def power(base: Expression, exponent: Any) -> Expression:
    """Each entry to a constant power.

    Raises:
        TypeError: If the exponent is no number.
        ValueError: If it is too large, or 0 is to be divided by.
    """
    if isinstance(exponent, Expression):
        if exponent.op != "number":
            raise TypeError(f"exponents must be numbers; got {exponent}")
        exponent = exponent.data
    if isinstance(exponent, bool) or not isinstance(exponent, int | float | Fraction):
        raise TypeError(f"exponents must be numbers; got {exponent!r}")
    p = exponent if isinstance(exponent, float) and not exponent.is_integer() else Fraction(exponent)
    if abs(p) > MAX_EXPONENT:
        raise ValueError(f"exponents must be from −{MAX_EXPONENT} to {MAX_EXPONENT}; got {exponent}")
    if is_zero(base) and p < 0:
        raise ValueError("0 must not be divided by")
    if p == 0:
        return ones(*base.shape)
    return base if p == 1 or base.op == "ones" else _raised(base, p)


def _raised(base: Expression, p: Number) -> Expression:
    """A power that is neither 0 nor 1, in its simplest form."""
    whole = isinstance(p, Fraction) and p.denominator == 1
    if base.op == "number" and (whole or base.data > 0):
        return _power_of_number(base.data, p)
    if whole and base.op == "mul":
        return mul(*(power(arg, p) for arg in base.args))
    if whole and base.op == "power":
        return power(base.args[0], base.data * p)
    if base.op == "apply" and base.data.name == "exp":
        return apply("exp", mul(number(p), base.args[0]))
    if whole and base.op == "apply" and base.data.name == "sqrt" and p % 2 == 0:
        return power(base.args[0], p / 2)
    if base.op == "norm2":
        return power(Expression("norm", base.args), 2 * p)
    if base.op == "norm" and p == 2:
        return Expression("norm2", base.args)
    if p == Fraction(1, 2):
        return apply("sqrt", base)
    if base.op == "T":
        return turned(power(base.args[0], p))
    return Expression("power", (base,), base.shape, data=p)


def _power_of_number(value: Number, p: Number) -> Expression:
    if not value and p < 0:
        raise ValueError("0 must not be divided by")
    if value and abs(float(p) * math.log10(abs(value))) > math.log10(LARGEST):
        raise ValueError(f"powers of numbers must be at most {LARGEST:g}; got {value} to the power {p}")
    exact = isinstance(p, Fraction) and p.denominator == 1
    return number(value ** int(p) if exact else float(value) ** float(p))


def apply(name: str, e: Expression) -> Expression:
    """A function of each entry, by its name in `FUNCTIONS`."""
    function = FUNCTIONS[name]
    if e.op == "T":
        return turned(apply(name, e.args[0]))
    if name == "identity":
        return e
    if name == "log" and e.op == "apply" and e.data.name == "exp":
        return e.args[0]
    if name == "exp" and e.op == "apply" and e.data.name == "log":
        return e.args[0]
    if name == "log" and e.op == "softmax":
        return Expression("log_softmax", e.args, e.shape)
    if name == "exp" and e.op == "log_softmax":
        return Expression("softmax", e.args, e.shape)
    if e.op in ("ones", "number", "zeros"):
        value = 1 if e.op == "ones" else 0 if e.op == "zeros" else e.data
        exact = function.at.get(value)
        if exact is not None:
            return mul(number(exact), ones(*e.shape))
    return Expression("apply", (e,), e.shape, data=function)


def scalar_part(e: Expression) -> tuple[list[Expression], Expression | None]:
    """The scalars in front of a factor of a matrix product, and what is left of it."""
    if e.op == "number" or (e.is_scalar and e.op != "matmul"):
        return [e], None
    if e.op == "mul":
        rest = [arg for arg in e.args if not arg.is_scalar]
        inner = rest[0] if len(rest) == 1 else Expression("mul", tuple(rest), e.shape)
        return [arg for arg in e.args if arg.is_scalar], inner
    return [], e


def turned(e: Expression) -> Expression:
    """The transpose as an operation of its own, of what has none of a simpler form."""
    return Expression("T", (e,), (e.shape[1], e.shape[0]))
