"""Names for parts of an expression, as people give them: a₁ = W₁ x, h₁ = σ(a₁), …."""

from collections.abc import Mapping

from funcnet.derive.differentials import depends, replaced
from funcnet.derive.elementwise import shown
from funcnet.derive.expression import Expression, symbol, symbols_of, walk

ELEMENTWISE = ("apply", "softmax", "log_softmax", "logsumexp")
CURVED = (*ELEMENTWISE, "norm", "norm2", "power", "inv", "det", "logdet")
REUSED = ("sigmoid", "tanh", "softmax")
"""Functions whose slope is written by their value, more than once."""
PREFIXES = (("a", "h"), ("z", "h"), ("z", "u"), ("u", "v"), ("pre", "out"))


def _depth(expression: Expression, active: frozenset[str]) -> dict[str, int]:
    """How many curved operations on what changes are nested in each node."""
    depth: dict[str, int] = {}
    for node in walk(expression):
        below = max((depth[arg.digest] for arg in node.args), default=0)
        curved = node.op in CURVED and depends(node, active)
        depth[node.digest] = below + curved
    return depth


def check_symbols(expression: Expression, names: Mapping[str, Expression]) -> None:
    """Refuse what could not be told apart, in the code or on paper.

    Raises:
        TypeError: If names are not given to expressions.
        ValueError: If a name has two meanings, is none, or is given to what does not occur; or two are written alike.
    """
    there = {node.digest for node in walk(expression)}
    meanings: dict[str, Expression] = {}
    for node in walk(expression):
        if node.op == "symbol" and meanings.setdefault(node.data, node) != node:
            raise ValueError(f"{node.data} stands for two symbols, {shown(meanings[node.data])} and {shown(node)}")
    for name, part in names.items():
        symbol(name)  # refuses what is no name
        if not isinstance(part, Expression):
            raise TypeError(f"names[{name!r}] must be an Expression; got {type(part).__name__}")
        if name in meanings:
            raise ValueError(f"names: {name} is a symbol of the expression already")
        if part.digest not in there or not part.args:
            raise ValueError(f"names[{name!r}] must be a part of the expression; got {part}")
    written: dict[str, str] = {}
    for name in (*meanings, *names):
        for text in (str(symbol(name)), "d" + str(symbol(name))):
            if written.setdefault(text, name) != name:
                raise ValueError(f"{written[text]} and {name} would both be written {text}; choose another name")
    sizes = {size for node in meanings.values() for size in node.shape}
    for name in (*meanings, *names):
        if name in sizes:
            raise ValueError(f"{name} is a size already; choose another name for the symbol")


def symbol_of(name: str, part: Expression) -> Expression:
    """What stands for a part that has a name."""
    traits = frozenset({"sums_to_one"}) if part.op == "softmax" else frozenset()
    return Expression("symbol", shape=part.shape, data=name, traits=traits)


def named_parts(
    expression: Expression, active: frozenset[str], names: Mapping[str, Expression] | None
) -> tuple[tuple[tuple[str, Expression], ...], Expression]:
    """Names for parts of the expression, and the expression in these."""
    chosen = {e.digest: name for name, e in (names or {}).items()} if names is not None else _chosen(expression, active)
    known: dict[str, Expression] = {}
    defined = []

    def exchange(node: Expression) -> Expression | None:
        return known.get(node.digest)

    for node in walk(expression):
        if node.digest in chosen and node.args:
            name = chosen[node.digest]
            defined.append((name, replaced(node, exchange)))
            known[node.digest] = symbol_of(name, node)
    return tuple(defined), replaced(expression, exchange)


def _chosen(expression: Expression, active: frozenset[str]) -> dict[str, str]:
    """Operands and values of elementwise functions that are nested in others, by name: a₁, h₁, a₂."""
    depth = _depth(expression, active)
    deep = max(depth.values()) > 1
    taken = {part for name in symbols_of(expression) for part in (name, name.rstrip("0123456789"))}
    before, after = next((pair for pair in PREFIXES if not taken & set(pair)), ("pre_", "out_"))
    inside: set[str] = set()
    for node in walk(expression):
        if node.op in CURVED:
            inside |= {below.digest for below in walk(node) if below is not node}
    chosen, layer = {}, 0
    for node in walk(expression):
        if node.op not in ELEMENTWISE or not depends(node, active):
            continue
        if not deep and (getattr(node.data, "name", node.op) not in REUSED or not node.args[0].args):
            continue
        operand, value = node.args[0].args and node.args[0].op != "apply", node.digest in inside or not deep
        layer += bool(operand or value)
        if operand:
            chosen[node.args[0].digest] = f"{before}{layer}"
        if value:
            chosen[node.digest] = f"{after}{layer}"
    return chosen
