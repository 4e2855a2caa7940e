"""Expressions from text, by Python's own grammar with a list of what is allowed; nothing of it is ever run."""

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from funcnet.derive import algebra as al
from funcnet.derive.differentials import CONSTRUCTORS
from funcnet.derive.expression import Expression, Size, identity, number, ones, size_of, symbol
from funcnet.derive.functions import FUNCTIONS

MAX_LENGTH = 10_000
MAX_DEPTH = 100
MAX_NUMBER = 1e30

_UNARY: Mapping[str, Callable[[Expression], Expression]] = {
    **{op: make for op, make in CONSTRUCTORS.items() if op not in ("add", "mul", "matmul", "T", "norm2")},
    "tr": al.trace,
    "transpose": al.transpose,
}
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.MatMult: operator.matmul,
    ast.Pow: operator.pow,
}


class Parsed(NamedTuple):
    """What a text says.

    Attributes:
        expression: Its last line.
        names: The parts that lines before it gave a name to.
    """

    expression: Expression
    names: dict[str, Expression]


def shapes(words: Sequence[str]) -> dict[str, Expression]:
    """Symbols from words such as W=hxd (a matrix), x=d (a column vector), r=1xk (a row), s=1 (a scalar).

    Properties stand behind commas: S=nxn,symmetric or y=k,sums_to_one.

    Raises:
        ValueError: If a word is not of this form.
    """
    found: dict[str, Expression] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        shape, *traits = rest.split(",")
        parts = re.split(r"(?<=[^\W_])x(?=[^\W_])|×", shape) if not shape.isidentifier() or "x" in shape else [shape]
        if not equals or not 1 <= len(parts) <= 2 or not all(re.fullmatch(r"\w+", part) for part in parts):
            raise ValueError(f"shape must be such as W=hxd, x=d, r=1xk or s=1; got {word!r}")
        if name in found:
            raise ValueError(f"shape of {name} is given twice; got {word!r}")
        found[name] = symbol(name, *map(_size, parts), traits=tuple(traits))
    return found


def _size(text: str) -> Size:
    return int(text) if text.isdigit() and len(text) < 10 else text


def parse(source: str, symbols: Mapping[str, Expression] | Sequence[str]) -> Expression:
    """An expression from text: + - * / @ **, .T, functions by name; * and / go entry by entry, @ is the matrix product.

    Args:
        source: The text; lines, or parts between semicolons, `name = …` before the last one name parts of it. Names of
            sizes stand for their numbers.
        symbols: The symbols by name, or words such as W=hxd.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the text holds anything else; the message shows the place.

    >>> from funcnet.derive import parse
    >>> print(parse("norm(A @ x - b)**2", ["A=nxd", "x=d", "b=n"]))
    ‖A x − b‖²
    """
    return parsed(source, symbols).expression


def parsed(source: str, symbols: Mapping[str, Expression] | Sequence[str]) -> Parsed:
    """`parse`, with the names that its lines give."""
    if not isinstance(source, str):
        raise TypeError(f"source must be text; got {type(source).__name__}")
    if len(source) > MAX_LENGTH:
        raise ValueError(f"source must have at most {MAX_LENGTH:,} characters; got {len(source):,}")
    known = _known(symbols)
    _check_nesting(source)
    try:
        tree = ast.parse(source.strip().replace("^", "**"), mode="exec")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        where = f" at {error.text.strip()!r}" if isinstance(error, SyntaxError) and error.text else ""
        raise ValueError(f"source is no expression{where}: {getattr(error, 'msg', error)}") from None
    if not tree.body:
        raise ValueError("source must hold an expression; got none")
    return _lines(tree.body, known)


def _known(symbols: Any) -> dict[str, Expression]:
    if isinstance(symbols, Mapping) and all(isinstance(e, Expression) for e in symbols.values()):
        return dict(symbols)
    if isinstance(symbols, str) or not isinstance(symbols, Sequence) or not all(isinstance(w, str) for w in symbols):
        raise TypeError(f"symbols must be words such as ['W=hxd', 'x=d'], or expressions by name; got {symbols!r}")
    return shapes(symbols)


def _check_nesting(source: str) -> None:
    depth = deepest = 0
    for c in source:
        depth += (c in "([{") - (c in ")]}")
        deepest = max(deepest, depth)
    signs = max((len(run.replace(" ", "")) for run in re.findall(r"[-+~\s]+", source)), default=0)
    if deepest > MAX_DEPTH or signs > MAX_DEPTH:
        raise ValueError(f"source must be nested at most {MAX_DEPTH} deep; got {max(deepest, signs)}")


def _lines(body: list[ast.stmt], known: dict[str, Expression]) -> Parsed:
    names: dict[str, Expression] = {}
    for line in body[:-1]:
        if not (isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name)):
            raise ValueError(f"lines before the last must be such as a = W @ x; got {_shown(line)}")
        name = line.targets[0].id
        if name in known or name in names:
            raise ValueError(f"{name} has a meaning already; got {_shown(line)}")
        symbol(name)  # a name as symbols have them
        names[name] = _walk(line.value, {**known, **names}, 0)
    last = body[-1]
    if isinstance(last, ast.Assign):
        raise ValueError(f"the last line must be the expression alone; got {_shown(last)}")
    if not isinstance(last, ast.Expr):
        raise ValueError(f"source must be an expression; got {_shown(last)}")
    return Parsed(_walk(last.value, {**known, **names}, 0), {name: e for name, e in names.items() if e.args})


def _shown(node: ast.AST) -> str:
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        text = type(node).__name__
    return repr(text if len(text) < 80 else text[:77] + "…")


def _walk(node: ast.expr, known: Mapping[str, Expression], depth: int) -> Expression:
    if depth > 4 * MAX_DEPTH:
        raise ValueError(f"source must be nested at most {MAX_DEPTH} deep")
    if isinstance(node, ast.Name):
        if node.id not in known and node.id in _sizes(known):
            return size_of(node.id)
        if node.id not in known:
            raise ValueError(f"{node.id} is not known; there are {', '.join(known) or 'no symbols'}")
        return known[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if not abs(node.value) <= MAX_NUMBER:
            raise ValueError(f"numbers must be at most {MAX_NUMBER:g}; got {_shown(node)}")
        return number(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _walk(node.operand, known, depth + 1)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = (_walk(side, known, depth + 1) for side in (node.left, node.right))
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.Attribute) and node.attr == "T":
        return _walk(node.value, known, depth + 1).T
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, node.args, known, depth)
    raise ValueError(f"only numbers, symbols, + - * / @ **, .T and functions are allowed; got {_shown(node)}")


def _call(name: str, args: list[ast.expr], known: Mapping[str, Expression], depth: int) -> Expression:
    if name in ("ones", "identity", "eye") and args:
        sizes = [_size_argument(arg, known) for arg in args]
        if name == "ones" and len(sizes) < 3:
            return ones(*sizes)
        if len(sizes) == 1:
            return identity(sizes[0])
    made = _UNARY.get(name) or (FUNCTIONS.get(name) and (lambda e: al.apply(name, e)))
    if made is None and name not in ("ones", "identity", "eye"):
        there = ", ".join(sorted({*_UNARY, *(f for f in FUNCTIONS if "′" not in f), "ones", "identity"}))
        raise ValueError(f"{name} is no function; there are {there}")
    if made is None or len(args) != 1 or isinstance(args[0], ast.Starred):
        raise ValueError(f"{name} takes {'one or two sizes' if name == 'ones' else 'one argument'}; got {len(args)}")
    return made(_walk(args[0], known, depth + 1))


def _sizes(known: Mapping[str, Expression]) -> set[str]:
    """The sizes that have a name."""
    return {size for e in known.values() for size in e.shape if isinstance(size, str)}


def _size_argument(node: ast.expr, known: Mapping[str, Expression]) -> Size:
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value >= 1:
        return node.value
    if isinstance(node, ast.Name):
        if node.id in _sizes(known):
            return node.id
        raise ValueError(f"{node.id} is no size; there are {', '.join(sorted(_sizes(known))) or 'none'}")
    raise ValueError(f"sizes must be whole numbers of at least 1, or names; got {_shown(node)}")
