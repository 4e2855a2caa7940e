"""Derivations by differentials: from a scalar expression of matrices to its gradients, step by step, as a program.

dℓ = tr(Gᵀ dX) defines G = ∂ℓ/∂X. Rules of differentials move d inwards, rules of traces turn each term until dX stands
alone, and G is read off.

>>> import jax
>>> from funcnet.derive import derive, symbol
>>> from funcnet.derive import norm
>>> A, x, b = symbol("A", "n", "d"), symbol("x", "d"), symbol("b", "n")
>>> derivation = derive(norm(A @ x - b) ** 2, x)
>>> print(derivation.gradient[x])
2 Aᵀ (A x − b)
>>> derivation.check(jax.random.key(0)).passed
True
"""

from funcnet.derive.algebra import adj as adj
from funcnet.derive.algebra import det as det
from funcnet.derive.algebra import diag as diag
from funcnet.derive.algebra import diagonal as diagonal
from funcnet.derive.algebra import inv as inv
from funcnet.derive.algebra import log_softmax as log_softmax
from funcnet.derive.algebra import logdet as logdet
from funcnet.derive.algebra import logsumexp as logsumexp
from funcnet.derive.algebra import norm as norm
from funcnet.derive.algebra import softmax as softmax
from funcnet.derive.algebra import total as total
from funcnet.derive.algebra import trace as trace
from funcnet.derive.derivation import Derivation as Derivation
from funcnet.derive.derivation import Stage as Stage
from funcnet.derive.derivation import Step as Step
from funcnet.derive.derivation import derive as derive
from funcnet.derive.expression import Expression as Expression
from funcnet.derive.expression import ShapeError as ShapeError
from funcnet.derive.expression import identity as identity
from funcnet.derive.expression import ones as ones
from funcnet.derive.expression import symbol as symbol
from funcnet.derive.parser import parse as parse
from funcnet.derive.parser import shapes as shapes
from funcnet.derive.rules import RULES as RULES
