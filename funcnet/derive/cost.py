"""What code costs, and which of several equal forms costs least."""

import functools
from collections.abc import Iterable

from funcnet.derive.expression import Expression, Size, walk

NOMINAL = 300
REUSE = 30
"""Multiplications of a large matrix product that take as long as reading a number from memory."""


def nominal(size: Size) -> int:
    """A size to reckon with where it has a name."""
    return size if isinstance(size, int) else NOMINAL


def entries(e: Expression) -> int:
    """How many numbers it holds."""
    return nominal(e.shape[0]) * nominal(e.shape[1])


def product_cost(rows: int, inner: int, columns: int) -> float:
    """Of one matrix product: what is read and written, and what is multiplied."""
    return rows * inner + inner * columns + rows * columns + rows * inner * columns / REUSE


@functools.cache
def _chain(shapes: tuple[tuple[int, int], ...]) -> float:
    """The least that multiplying a chain costs."""
    if len(shapes) == 1:
        return 0.0
    rows, columns = shapes[0][0], shapes[-1][1]
    return min(
        _chain(shapes[:k]) + _chain(shapes[k:]) + product_cost(rows, shapes[k][0], columns)
        for k in range(1, len(shapes))
    )


def cost(e: Expression) -> float:
    """Of computing an expression, with equal parts computed once."""
    total = 0.0
    for node in walk(e):
        if node.op == "matmul":
            total += _chain(tuple((nominal(f.shape[0]), nominal(f.shape[1])) for f in node.args))
        elif node.op == "trace" and node.args[0].op == "matmul":
            inside = node.args[0].args
            rows, columns = nominal(inside[0].shape[0]), nominal(inside[-1].shape[1])
            total -= product_cost(rows, nominal(inside[-1].shape[0]), columns) * (len(inside) > 1)
        elif node.op in ("inv", "det", "logdet", "adj"):
            total += nominal(node.args[0].shape[0]) ** 3 / 3
        elif node.op == "T":
            total += entries(node) if node.args[0].args else 0
        elif node.args:  # what is transposed is read against its order
            turned = sum(arg.op == "T" and 1 not in arg.shape for arg in node.args)
            total += entries(node) * (max(1, len(node.args) - 1) + 2 * turned)
    return total


def cheapest(forms: Iterable[Expression]) -> Expression:
    """The form that costs least; of equal ones the first."""
    return min(forms, key=cost)
