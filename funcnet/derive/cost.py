"""What code costs: the order of products, parts that are shared, and which of several equal forms to compute."""

import functools
from collections.abc import Iterable

from funcnet.derive import algebra as al
from funcnet.derive.differentials import replaced
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


def best_split(chain: tuple[Expression, ...]) -> int:
    """Where the last multiplication of a chain is to be, so that all of them together cost least."""
    return _split(tuple((nominal(f.shape[0]), nominal(f.shape[1])) for f in chain))[1]


@functools.cache
def _split(shapes: tuple[tuple[int, int], ...]) -> tuple[float, int]:
    """The least cost of a chain, and its last split."""
    if len(shapes) == 1:
        return 0.0, 0
    rows, columns = shapes[0][0], shapes[-1][1]
    least, late = min(
        (_split(shapes[:k])[0] + _split(shapes[k:])[0] + product_cost(rows, shapes[k][0], columns), -k)
        for k in range(1, len(shapes))
    )
    return least, -late  # of equal ones from left to right


def cost(e: Expression) -> float:
    """Of computing an expression, with equal parts computed once."""
    total = 0.0
    for node in walk(e):
        if node.op == "matmul":
            total += _split(tuple((nominal(f.shape[0]), nominal(f.shape[1])) for f in node.args))[0]
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


def shared(parts: list[Expression]) -> list[Expression]:
    """The same with each chain of factors opened where a part of it is computed anyway."""
    chains = {node.digest: node for part in parts for node in walk(part) if node.op == "matmul"}

    def nested(node: Expression) -> Expression | None:
        if node.op != "matmul" or len(node.args) < 3:
            return None
        for length in range(len(node.args) - 1, 1, -1):
            for i in range(len(node.args) - length + 1):
                inner = al.matmul(*node.args[i : i + length])
                if inner.digest in chains and inner.op == "matmul":
                    args = (*node.args[:i], inner, *node.args[i + length :])
                    return Expression("matmul", args, node.shape)
        return None

    return [replaced(part, nested) for part in parts]
