"""Functions of whole matrices: traces, inverses, determinants, norms, sums, diagonals, softmax."""

from funcnet.derive.elementwise import add, apply, mul, power, scalar_part, scaled, shown
from funcnet.derive.expression import SCALAR, Expression, ShapeError, identity, is_zero, least, number, ones, size_of
from funcnet.derive.products import matmul, sums_to_one, transpose


def _square(name: str, e: Expression) -> None:
    if e.shape[0] != e.shape[1]:
        raise ShapeError(f"{name}({shown(e)}): the matrix must be square")


def trace(e: Expression) -> Expression:
    """The sum of the diagonal.

    Raises:
        ShapeError: If the matrix is not square.
    """
    _square("tr", e)
    if e.is_scalar:
        return e
    if e.op == "add":
        return add(*(trace(arg) for arg in e.args))
    if e.op == "T":
        return trace(e.args[0])
    if e.op == "identity":
        return size_of(e.shape[0])
    if e.op == "zeros":
        return number(0)
    if e.op == "mul" and any(arg.is_scalar for arg in e.args):
        own, rest = scalar_part(e)
        return mul(*own, trace(rest if rest is not None else number(1)))
    if e.op == "matmul":
        return _trace_of_chain(e)
    return Expression("trace", (e,))


def _trace_of_chain(e: Expression) -> Expression:
    """Turned so that a product of vectors is a scalar; else so that equal traces are equal."""
    for i, arg in enumerate(e.args):
        if arg.shape[0] == 1:
            return matmul(*e.args[i:], *e.args[:i])
    turns = [Expression("matmul", (*e.args[i:], *e.args[:i]), (a.shape[0], a.shape[0])) for i, a in enumerate(e.args)]
    turns += [transpose(turn) for turn in turns]
    return least([Expression("trace", (turn,)) for turn in turns])


def inv(e: Expression) -> Expression:
    """The inverse.

    Raises:
        ShapeError: If the matrix is not square.
    """
    _square("inv", e)
    if e.is_scalar:
        return power(e, -1)
    if e.op == "inv":
        return e.args[0]
    if e.op == "identity":
        return e
    if e.op == "T":
        return transpose(inv(e.args[0]))
    if e.op == "mul" and any(arg.is_scalar for arg in e.args):
        own, rest = scalar_part(e)
        return mul(*(power(s, -1) for s in own), inv(rest if rest is not None else identity(e.shape[0])))
    return Expression("inv", (e,), e.shape)


def det(e: Expression) -> Expression:
    """The determinant."""
    _square("det", e)
    if e.is_scalar:
        return e
    if e.op == "identity":
        return number(1)
    if e.op == "T":
        return det(e.args[0])
    if e.op == "inv":
        return power(det(e.args[0]), -1)
    if e.op == "matmul" and all(arg.shape[0] == arg.shape[1] for arg in e.args):
        return mul(*(det(arg) for arg in e.args))
    return Expression("det", (e,))


def logdet(e: Expression) -> Expression:
    """log |det|, the logarithm of the determinant's absolute value."""
    _square("logdet", e)
    if e.is_scalar:
        return apply("log", apply("abs", e))
    if e.op == "identity":
        return number(0)
    if e.op == "T":
        return logdet(e.args[0])
    if e.op == "inv":
        return scaled(-1, logdet(e.args[0]))
    if e.op == "matmul" and all(arg.shape[0] == arg.shape[1] for arg in e.args):
        return add(*(logdet(arg) for arg in e.args))
    return Expression("logdet", (e,))


def adj(e: Expression) -> Expression:
    """The adjugate: |X| X⁻¹ where X has an inverse."""
    _square("adj", e)
    if e.is_scalar:
        return number(1)
    if e.op == "T":
        return transpose(adj(e.args[0]))
    return Expression("adj", (e,), e.shape)


def total(e: Expression) -> Expression:
    """The sum of all entries."""
    if e.is_scalar:
        return e
    if e.op == "add":
        return add(*(total(arg) for arg in e.args))
    if e.op == "T":
        return total(e.args[0])
    if e.op == "ones":
        return mul(size_of(e.shape[0]), size_of(e.shape[1]))
    if e.op == "zeros":
        return number(0)
    if e.op == "mul" and any(arg.is_scalar for arg in e.args):
        own, rest = scalar_part(e)
        return mul(*own, total(rest if rest is not None else number(1)))
    if e.shape[1] == 1 and e.op in ("mul", "matmul"):
        return matmul(ones(1, e.shape[0]), e)
    if e.shape[0] == 1 and e.op in ("mul", "matmul"):
        return total(transpose(e))
    if sums_to_one(e, of_rows=True):
        return size_of(e.shape[0])
    if sums_to_one(e, of_rows=False):
        return size_of(e.shape[1])
    return Expression("sum", (e,))


def norm(e: Expression) -> Expression:
    """The square root of the sum of squares: of a vector its length, of a matrix Frobenius' norm."""
    if is_zero(e):
        return number(0)
    return apply("abs", e) if e.is_scalar else Expression("norm", (transpose(e) if e.op == "T" else e,))


def norm2(e: Expression) -> Expression:
    """‖X‖²."""
    return power(norm(e), 2) if not e.is_scalar else power(e, 2)


def diag(e: Expression) -> Expression:
    """The diagonal matrix of a vector."""
    if e.is_scalar:
        return e
    if e.shape[1] != 1 and e.shape[0] != 1:
        raise ShapeError(f"diag({shown(e)}): the operand must be a vector (for the diagonal of a matrix, diagonal)")
    column = e if e.shape[1] == 1 else transpose(e)
    if column.op == "ones":
        return identity(column.shape[0])
    return Expression("diag", (column,), (column.shape[0], column.shape[0]))


def diagonal(e: Expression) -> Expression:
    """The diagonal of a matrix, as a column vector."""
    _square("diagonal", e)
    if e.is_scalar:
        return e
    if e.op == "diag":
        return e.args[0]
    if e.op == "T":
        return diagonal(e.args[0])
    if e.op == "add":
        return add(*(diagonal(arg) for arg in e.args))
    if e.op == "identity":
        return ones(e.shape[0])
    if e.op == "mul":
        return mul(*(arg if arg.is_scalar else diagonal(arg) for arg in e.args))
    return Expression("diagonal", (e,), (e.shape[0], 1))


def softmax(e: Expression) -> Expression:
    """Of a vector, or of each row of a matrix."""
    return transpose(softmax(transpose(e))) if e.shape[0] == 1 and not e.is_scalar else _or_one(e, "softmax")


def log_softmax(e: Expression) -> Expression:
    """The logarithm of softmax."""
    return transpose(log_softmax(transpose(e))) if e.shape[0] == 1 and not e.is_scalar else _or_one(e, "log_softmax")


def _or_one(e: Expression, op: str) -> Expression:
    return number(op == "softmax") if e.is_scalar else Expression(op, (e,), e.shape)


def logsumexp(e: Expression) -> Expression:
    """log Σ exp: of a vector a scalar, of a matrix one for each row."""
    if e.is_scalar:
        return e
    if e.shape[0] == 1:
        return logsumexp(transpose(e))
    return Expression("logsumexp", (e,), SCALAR if e.shape[1] == 1 else (e.shape[0], 1))
