"""Derivations by differentials: from a scalar expression of matrices to its gradients, step by step, as a program.

dℓ = tr(Gᵀ dX) defines G = ∂ℓ/∂X. Rules of differentials move d inwards, rules of traces turn each term until dX stands
alone, and G is read off. Expressions are made by operators on symbols, with the functions here, or from text. `@` is
the matrix product; `*`, `/` and `**` (by a number) go entry by entry: `inv(X)` is the inverse, `X**-1` is not.

>>> import jax
>>> from funcnet.derive import derive, norm, symbol
>>> A, x, b = symbol("A", "n", "d"), symbol("x", "d"), symbol("b", "n")
>>> derivation = derive(norm(A @ x - b) ** 2, x)
>>> print(derivation.gradient[x])
2 Aᵀ (A x − b)
>>> derivation.check(jax.random.key(0)).passed
True
"""

from funcnet.derive.derivation import Derivation, Stage, Step, derive
from funcnet.derive.elementwise import apply
from funcnet.derive.entries import absolute, cos, exp, log, relu, sigmoid, sin, softplus, sqrt, tanh
from funcnet.derive.expression import Expression, ShapeError, identity, ones, symbol
from funcnet.derive.matrices import (
    adj,
    det,
    diag,
    diagonal,
    inv,
    log_softmax,
    logdet,
    logsumexp,
    norm,
    softmax,
    total,
    trace,
)
from funcnet.derive.parser import parse, shapes
from funcnet.derive.rules import RULES, Rule

__all__ = [
    "RULES",
    "Derivation",
    "Expression",
    "Rule",
    "ShapeError",
    "Stage",
    "Step",
    "absolute",
    "adj",
    "apply",
    "cos",
    "derive",
    "det",
    "diag",
    "diagonal",
    "exp",
    "identity",
    "inv",
    "log",
    "log_softmax",
    "logdet",
    "logsumexp",
    "norm",
    "ones",
    "parse",
    "relu",
    "shapes",
    "sigmoid",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "symbol",
    "tanh",
    "total",
    "trace",
]
