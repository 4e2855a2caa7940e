"""Every operation on expressions. What is taken for equal is so wherever all that was written has a value."""

from funcnet.derive.elementwise import add, apply, base_and_exponent, mul, power, scalar_part, scaled, split, turned
from funcnet.derive.expression import number, ones, zeros
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
    norm2,
    softmax,
    total,
    trace,
)
from funcnet.derive.products import is_symmetric, matmul, sums_to_one, transpose

__all__ = [
    "add",
    "adj",
    "apply",
    "base_and_exponent",
    "det",
    "diag",
    "diagonal",
    "inv",
    "is_symmetric",
    "log_softmax",
    "logdet",
    "logsumexp",
    "matmul",
    "mul",
    "norm",
    "norm2",
    "number",
    "ones",
    "power",
    "scalar_part",
    "scaled",
    "softmax",
    "split",
    "sums_to_one",
    "total",
    "trace",
    "transpose",
    "turned",
    "zeros",
]
