"""Assignments in Python for JAX, with parts that occur more than once computed once."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from funcnet.derive.algebra import det, inv, mul, transpose
from funcnet.derive.chains import ordered
from funcnet.derive.code import Names, code
from funcnet.derive.differentials import replaced
from funcnet.derive.expression import Expression, is_number, symbols_of, walk


def sizes_in(symbols: Iterable[Expression]) -> dict[str, str]:
    """The code that tells each symbolic size."""
    found: dict[str, str] = {}
    for symbol in symbols:
        for axis, size in enumerate(symbol.shape):
            if isinstance(size, str):
                found.setdefault(size, f"{symbol.data}.shape[{axis}]")
    return found


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """A name that is not taken: with underscores behind it, if need be."""
    while wanted in set(taken):
        wanted += "_"
    return wanted


def statements(parts: Sequence[tuple[str, Expression]], names: Names) -> list[str]:
    """`name = code` for each part, with parts of them that occur more than once computed once."""
    computed = ordered([replaced(e, _computable) for _, e in parts])
    counts = Counter(key(arg) for node in _all(computed) for arg in node.args) + Counter(map(key, computed))
    lines: list[str] = []
    numbers = itertools.count(1)
    taken = {name for name, _ in parts} | {name for e in computed for name in symbols_of(e)}

    def compute(e: Expression) -> None:
        for node in walk(e):
            known = node.digest in names.values or transpose(node).digest in names.values
            if counts[key(node)] > 1 and not known and _is_work(node) and node is not e:
                name = free_name(f"t{next(numbers)}", taken)
                taken.add(name)
                lines.append(f"{name} = {code(node, names)}")
                names.values[node.digest] = name

    for (name, original), e in zip(parts, computed, strict=True):
        compute(e)
        lines.append(f"{name} = {code(e, names)}")
        for form in (e, original):
            names.values.setdefault(form.digest, name)
    return lines


def _computable(e: Expression) -> Expression | None:
    """adj X = det(X) X⁻¹, of an invertible X."""
    return mul(det(e.args[0]), inv(e.args[0])) if e.op == "adj" else None


def key(e: Expression) -> str:
    """The same for an expression and its transpose, which are computed together."""
    return e.digest if e.is_scalar else min(e.digest, transpose(e).digest)


def _all(parts: Iterable[Expression]) -> Iterable[Expression]:
    seen: set[str] = set()
    for e in parts:
        for node in walk(e):
            if node.digest not in seen:
                seen.add(node.digest)
                yield node


def _is_work(e: Expression) -> bool:
    """Whether it is worth a variable: not for a sign, a division, or the transpose of a variable."""
    trivial = (
        (e.op == "T" and not e.args[0].args)
        or (e.op == "mul" and is_number(e.args[0], -1))
        or (e.op == "power" and e.data < 0)
    )
    return bool(e.args) and not trivial
