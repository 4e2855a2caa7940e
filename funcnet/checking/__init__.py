"""Gradients of any JAX function put to the proof. Nothing here knows of MLPs."""

from funcnet.checking.backward_rule import check_vjp
from funcnet.checking.comparison import TOLERANCE, Comparison, LeafComparison, compare
from funcnet.checking.gradient import check_gradient
from funcnet.checking.oracle import in_float64, reference_value_and_grad
from funcnet.checking.report import GradientMismatch, GradientReport

__all__ = [
    "TOLERANCE",
    "Comparison",
    "GradientMismatch",
    "GradientReport",
    "LeafComparison",
    "check_gradient",
    "check_vjp",
    "compare",
    "in_float64",
    "reference_value_and_grad",
]
