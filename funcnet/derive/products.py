"""Matrix products and transposes: chains are flat, scalars in front, transposes at the leaves, inverses cancel."""

import itertools

from funcnet.derive.elementwise import flat, mul, scalar_part, shown, turned
from funcnet.derive.expression import (
    SCALAR,
    Expression,
    Shape,
    ShapeError,
    identity,
    is_zero,
    least,
    ones,
    size_of,
    zeros,
)


def matmul(*args: Expression) -> Expression:
    """The matrix product.

    Raises:
        ShapeError: If an inner size differs.
    """
    chain = flat("matmul", args)
    for left, right in itertools.pairwise(args):
        if left.shape[1] != right.shape[0]:
            raise ShapeError(f"{shown(left)} @ {shown(right)}: {left.shape[1]} and {right.shape[0]} must be equal")
    shape = args[0].shape[0], args[-1].shape[1]
    scalars: list[Expression] = []
    factors: list[Expression] = []
    for arg in chain:
        own, rest = scalar_part(arg)
        scalars += own
        if rest is not None and rest.op != "identity":
            factors.append(rest)
    if any(is_zero(f) for f in (*scalars, *factors)):
        return zeros(shape)
    factors = _cancelled(factors, scalars)
    return mul(*scalars, _chain(factors, shape))


def _chain(factors: list[Expression], shape: Shape) -> Expression:
    if not factors:
        return ones(*shape) if shape == SCALAR else identity(shape[0])
    if len(factors) == 1:
        return factors[0]
    product = Expression("matmul", tuple(factors), shape)
    if shape != SCALAR:
        return product
    return least([product, Expression("matmul", tuple(transpose(f) for f in reversed(factors)), shape)])


def _cancelled(factors: list[Expression], scalars: list[Expression]) -> list[Expression]:
    """The chain with neighbours put together that have a simpler product; numbers they leave go to the scalars."""
    done: list[Expression] = []
    for factor in factors:
        done.append(factor)
        while len(done) > 1:
            product = _pair(done[-2], done[-1])
            if product is None:
                break
            del done[-2:]
            own, rest = scalar_part(product)
            scalars += own
            if rest is not None and rest.op != "identity":
                done.append(rest)
    return done


def _pair(a: Expression, b: Expression) -> Expression | None:
    """A product that is simpler than its two factors, if it is."""
    if (a.op == "inv" and a.args[0] == b) or (b.op == "inv" and b.args[0] == a):
        return identity(a.shape[0])
    if a.op == "T" and b.op == "T":
        swapped = _pair(b.args[0], a.args[0])
        return None if swapped is None else transpose(swapped)
    if a.op == "T" and a.args[0].op == "inv" and b == transpose(a.args[0].args[0]):
        return identity(a.shape[0])
    if b.op == "T" and b.args[0].op == "inv" and a == transpose(b.args[0].args[0]):
        return identity(a.shape[0])
    if (a.op == "adj" and a.args[0] == b) or (b.op == "adj" and b.args[0] == a):
        return mul(Expression("det", b.args if b.op == "adj" else a.args), identity(a.shape[0]))
    if a.op == b.op == "ones":
        return mul(size_of(a.shape[1]), ones(a.shape[0], b.shape[1]))
    if b.op == "ones" and sums_to_one(a, of_rows=True):
        return ones(a.shape[0], b.shape[1])
    if a.op == "ones" and sums_to_one(b, of_rows=False):
        return ones(a.shape[0], b.shape[1])
    if a.op == "ones" and a.shape[0] == 1 and b.op == "mul" and b.shape[1] == 1:
        return _dot(b)
    if b.op == "ones" and b.shape[1] == 1 and a.op == "mul" and a.shape[0] == 1:
        return _dot(transpose(a))
    return None


def _dot(product: Expression) -> Expression | None:
    """1ᵀ(u ∘ v) = uᵀ v, of column vectors."""
    if len(product.args) < 2 or any(arg.is_scalar for arg in product.args):
        return None
    return matmul(transpose(product.args[0]), mul(*product.args[1:]))


def sums_to_one(e: Expression, of_rows: bool) -> bool:
    """Whether the entries of each row add up to 1 (or those of each column)."""
    if not of_rows:
        return sums_to_one(transpose(e), of_rows=True)
    if e.op == "T":
        inner = e.args[0]
        return inner.shape[1] == 1 and _declared(inner)
    return e.shape[1] != 1 and _declared(e)


def _declared(e: Expression) -> bool:
    return e.op == "softmax" or "sums_to_one" in e.traits


def transpose(e: Expression) -> Expression:
    """The transpose, at the leaves."""
    if e.is_scalar or e.op in ("identity", "diag") or "symmetric" in e.traits:
        return e
    shape = e.shape[1], e.shape[0]
    if e.op == "T":
        return e.args[0]
    if e.op in ("ones", "zeros"):
        return Expression(e.op, shape=shape)
    if e.op in ("add", "mul"):
        return Expression(e.op, tuple(transpose(arg) for arg in e.args), shape)
    if e.op == "matmul":
        return Expression("matmul", tuple(transpose(arg) for arg in reversed(e.args)), shape)
    if e.op in ("inv", "adj") and transpose(e.args[0]) == e.args[0]:
        return e
    return turned(e)


def is_symmetric(e: Expression) -> bool:
    """Whether it equals its transpose, as far as can be seen."""
    return e.shape[0] == e.shape[1] and transpose(e) == e
