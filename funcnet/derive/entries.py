"""Functions of each entry, by name."""

from funcnet.derive.elementwise import apply
from funcnet.derive.expression import Expression


def exp(e: Expression) -> Expression:
    """e to the power of each entry."""
    return apply("exp", e)


def log(e: Expression) -> Expression:
    """The natural logarithm of each entry."""
    return apply("log", e)


def sqrt(e: Expression) -> Expression:
    """The square root of each entry."""
    return apply("sqrt", e)


def absolute(e: Expression) -> Expression:
    """The absolute value of each entry."""
    return apply("abs", e)


def sin(e: Expression) -> Expression:
    """The sine of each entry."""
    return apply("sin", e)


def cos(e: Expression) -> Expression:
    """The cosine of each entry."""
    return apply("cos", e)


def tanh(e: Expression) -> Expression:
    """The hyperbolic tangent of each entry."""
    return apply("tanh", e)


def sigmoid(e: Expression) -> Expression:
    """1 / (1 + exp(−z)) of each entry."""
    return apply("sigmoid", e)


def relu(e: Expression) -> Expression:
    """max(z, 0) of each entry, with slope 0 at 0."""
    return apply("relu", e)


def softplus(e: Expression) -> Expression:
    """log(1 + exp z) of each entry."""
    return apply("softplus", e)
