"""Expressions: what they are made of, their sizes, and when two are equal.

Everything is a matrix: a column vector has one column, a row vector one row, a scalar both. Sizes are whole numbers or
names, such as h × d; two names are never taken to be equal.
"""

import hashlib
import keyword
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NoReturn

Size = int | str
Shape = tuple[Size, Size]
Number = int | float | Fraction
SCALAR: Shape = (1, 1)
COMMUTATIVE = ("add", "mul")
LARGEST = 1e300
RESERVED = ("fn", "jax", "jnp", "loss", "value_and_grad")


class ShapeError(ValueError):
    """Operands whose sizes do not go together."""


@dataclass(frozen=True, eq=False)
class Expression:
    """A node: an operation on others. Make them by `symbol` and operators, or by `parse`; they are simplified as made.

    Attributes:
        op: What is done: "symbol", "number", "add", "mul" (elementwise, and by scalars), "matmul", "T", "trace", …
        args: Its operands.
        shape: (rows, columns).
        data: What else there is to it: a name, a number, a function.
        traits: Of symbols, what is declared: "symmetric", "sums_to_one".
        digest: Equal for equal expressions; the order in sums and elementwise products does not matter.

    >>> from funcnet.derive import symbol
    >>> W, x = symbol("W", "h", "d"), symbol("x", "d")
    >>> print(W @ x, (W @ x).shape)
    W x ('h', 1)
    """

    op: str
    args: tuple["Expression", ...] = ()
    shape: Shape = SCALAR
    data: Any = None
    traits: frozenset[str] = frozenset()
    digest: str = field(init=False, repr=False)
    __array_ufunc__ = None  # so that NumPy leaves its operators to ours

    def __post_init__(self) -> None:
        """Compute the digest."""
        parts = [arg.digest for arg in self.args]
        if self.op in COMMUTATIVE:
            parts.sort()
        data = getattr(self.data, "name", self.data)
        text = "|".join((self.op, repr(self.shape), repr(data), repr(sorted(self.traits)), *parts))
        object.__setattr__(self, "digest", hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __add__(self, other: Any) -> "Expression":
        return _algebra().add(self, _operand(other, self, "+"))

    def __radd__(self, other: Any) -> "Expression":
        return _algebra().add(_operand(other, self, "+"), self)

    def __sub__(self, other: Any) -> "Expression":
        return self + -_operand(other, self, "-")

    def __rsub__(self, other: Any) -> "Expression":
        return _operand(other, self, "-") + -self

    def __neg__(self) -> "Expression":
        return _algebra().mul(number(-1), self)

    def __mul__(self, other: Any) -> "Expression":
        return _algebra().mul(self, _operand(other, self, "*"))

    def __rmul__(self, other: Any) -> "Expression":
        return _algebra().mul(_operand(other, self, "*"), self)

    def __truediv__(self, other: Any) -> "Expression":
        return _algebra().mul(self, _algebra().power(_operand(other, self, "/"), -1))

    def __rtruediv__(self, other: Any) -> "Expression":
        return _algebra().mul(_operand(other, self, "/"), _algebra().power(self, -1))

    def __matmul__(self, other: Any) -> "Expression":
        return _algebra().matmul(self, _operand(other, self, "@"))

    def __rmatmul__(self, other: Any) -> "Expression":
        return _algebra().matmul(_operand(other, self, "@"), self)

    def __pow__(self, exponent: Any) -> "Expression":
        return _algebra().power(self, exponent)

    @property
    def T(self) -> "Expression":
        """The transpose."""
        return _algebra().transpose(self)

    @property
    def is_scalar(self) -> bool:
        """Whether it has one entry."""
        return self.shape == SCALAR

    def __str__(self) -> str:
        from funcnet.derive.printing import text

        return text(self)

    def __repr__(self) -> str:
        return f"Expression({self})"

    def __bool__(self) -> NoReturn:
        raise TypeError("an expression has no truth value; compare with ==")


def _algebra() -> Any:
    """The operations, which are built on this module and so cannot be imported before it."""
    from funcnet.derive import algebra

    return algebra


def _operand(value: Any, beside: Expression, sign: str) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise TypeError(f"{beside} {sign} …: operands must be expressions or numbers; got {value!r}")
    return number(value)


def number(value: Number) -> Expression:
    """A constant.

    Raises:
        ValueError: If it is not finite, or larger than any computer's.
    """
    if not abs(value) <= LARGEST:  # so is NaN
        raise ValueError(f"numbers must be at most {LARGEST:g}; got {'more' if abs(value) > LARGEST else value}")
    exact = Fraction(value) if isinstance(value, int | Fraction) else value
    if isinstance(exact, float) and exact.is_integer() and abs(exact) < 2**53:
        exact = Fraction(int(exact))
    return Expression("number", data=exact)


def symbol(name: str, rows: Size = 1, columns: Size = 1, *, traits: tuple[str, ...] = ()) -> Expression:
    """A variable: a scalar, a column vector (one size), or a matrix (two).

    Args:
        name: Letters, digits and underscores, beginning with a letter.
        rows: A whole number or a name.
        columns: Likewise.
        traits: "symmetric"; "sums_to_one" of a vector, whose entries, or of a matrix, the entries of each of whose
            rows, add up to 1.

    Raises:
        ValueError: If a name, a size or a trait is not one.
    """
    if not isinstance(name, str) or not name.isidentifier() or not name[0].isalpha():
        raise ValueError(f"name must be letters, digits and underscores, beginning with a letter; got {name!r}")
    if unicodedata.normalize("NFKC", name) != name:
        raise ValueError(
            f"name must be written as Python reads it, {unicodedata.normalize('NFKC', name)}; got {name!r}"
        )
    if keyword.iskeyword(name):
        raise ValueError(f"{name} is a word of Python; choose another name" + " (lam is λ)" * (name == "lambda"))
    if name in RESERVED:
        raise ValueError(f"{name} is a name of the code that is written; choose another")
    for size in (rows, columns):
        good = (isinstance(size, str) and size.isidentifier()) or (isinstance(size, int) and size >= 1)
        if not good or isinstance(size, bool):
            raise ValueError(f"sizes of {name} must be whole numbers of at least 1, or names; got {size!r}")
    for trait in traits:
        if trait not in ("symmetric", "sums_to_one"):
            raise ValueError(f"traits of {name} must be symmetric or sums_to_one; got {trait!r}")
    if "symmetric" in traits and rows != columns:
        raise ShapeError(f"a symmetric {name} must have as many rows as columns; got {sizes((rows, columns))}")
    return Expression("symbol", shape=(rows, columns), data=name, traits=frozenset(traits))


def ones(rows: Size, columns: Size = 1) -> Expression:
    """A matrix of ones."""
    return number(1) if (rows, columns) == SCALAR else Expression("ones", shape=(rows, columns))


def identity(size: Size) -> Expression:
    """The identity matrix."""
    return number(1) if size == 1 else Expression("identity", shape=(size, size))


def zeros(shape: Shape) -> Expression:
    """A matrix of zeros."""
    return number(0) if shape == SCALAR else Expression("zeros", shape=shape)


def size_of(size: Size) -> Expression:
    """A size as a number to calculate with."""
    return number(size) if isinstance(size, int) else Expression("size", data=size)


def sizes(shape: Shape) -> str:
    """A shape in words."""
    return f"{shape[0]} × {shape[1]}"


def least(forms: Sequence[Expression]) -> Expression:
    """The first of several forms of one value, equal to whichever is made again."""
    object.__setattr__(forms[0], "digest", min(form.digest for form in forms))
    return forms[0]


def is_number(e: Expression, value: Number | None = None) -> bool:
    """Whether it is a constant, or this one."""
    return e.op == "number" and (value is None or e.data == value)


def is_zero(e: Expression) -> bool:
    """Whether it is nothing but zeros."""
    return e.op == "zeros" or is_number(e, 0)


def walk(e: Expression) -> Iterator[Expression]:
    """Every different node, operands before what is made of them."""
    seen: set[str] = set()
    stack = [(e, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif node.digest not in seen:
            seen.add(node.digest)
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args))


def symbols_of(e: Expression) -> dict[str, Expression]:
    """The symbols that occur, by name."""
    return {node.data: node for node in walk(e) if node.op == "symbol"}
