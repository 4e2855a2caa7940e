"""In which order the factors of products are multiplied: over all chains together, so that parts are shared."""

from collections.abc import Iterator, Sequence

from funcnet.derive.algebra import transpose
from funcnet.derive.cost import entries, nominal, product_cost
from funcnet.derive.expression import Expression, least, walk

ROUNDS = 3
"""How often each chain is ordered anew beside what the others have become."""
Chain = tuple[Expression, ...]


def ordered(parts: Sequence[Expression]) -> list[Expression]:
    """The same with two factors in each product.

    A chain costs what those of its products cost that no other chain computes anyway, and that of a trace may begin
    with any of its factors.
    """
    chains = _chains(parts)
    splits: dict[str, int] = {}
    halves: dict[str, list[Chain]] = {}
    computed: dict[str, set[str]] = {digest: set() for digest in chains}
    for _ in range(ROUNDS):
        for digest, chain in chains.items():
            others = set().union(*(products for other, products in computed.items() if other != digest))
            halves[digest], computed[digest] = _cheapest(chain, splits, others)
    done: dict[str, Expression] = {}

    def product(factors: Chain) -> Expression:
        if len(factors) == 1:
            return done[factors[0].digest]
        at = splits[_whole(factors).digest]
        return _whole((product(factors[:at]), product(factors[at:])))

    for node in (node for part in parts for node in walk(part)):
        if node.digest in halves and node.op == "trace":
            done[node.digest] = Expression("trace", (_whole(tuple(map(product, halves[node.digest]))),))
        elif node.digest in halves:
            done[node.digest] = product(node.args)
        elif node.op != "matmul":
            args = tuple(done.get(arg.digest, arg) for arg in node.args)
            done[node.digest] = Expression(node.op, args, node.shape, node.data, node.traits)
    return [done[part.digest] for part in parts]


def _is_trace(e: Expression) -> bool:
    return e.op == "trace" and e.args[0].op == "matmul"


def _chains(parts: Sequence[Expression]) -> dict[str, Expression]:
    """The products, and the traces of those that are needed for nothing but their trace."""
    nodes = [*parts, *(arg for part in parts for node in walk(part) if not _is_trace(node) for arg in node.args)]
    products = {node.digest: node for node in nodes if node.op == "matmul"}
    traces = {node.digest: node for node in nodes if _is_trace(node) and node.args[0].digest not in products}
    return products | traces


def _whole(factors: Chain) -> Expression:
    """The product, equal to its transpose where it is a scalar."""
    if len(factors) == 1:
        return factors[0]
    product = Expression("matmul", factors, (factors[0].shape[0], factors[-1].shape[1]))
    return least([product, Expression("matmul", _turned(factors), product.shape)]) if product.is_scalar else product


def _turned(factors: Chain) -> Chain:
    return tuple(transpose(factor) for factor in reversed(factors))


def _cheapest(e: Expression, splits: dict[str, int], others: set[str]) -> tuple[list[Chain], set[str]]:
    """The order that costs least beside products that others compute: the chains, and the products it computes."""
    found: dict[str, tuple[float, int]] = {}

    def cost(factors: Chain) -> float:
        digest = _whole(factors).digest
        if len(factors) == 1 or digest in others:
            return 0.0
        if digest not in found:
            rows, columns = nominal(factors[0].shape[0]), nominal(factors[-1].shape[1])
            found[digest] = min(
                (cost(factors[:k]) + cost(factors[k:]) + product_cost(rows, nominal(factors[k].shape[0]), columns), -k)
                for k in range(1, len(factors))
            )
        return found[digest][0]  # of equal ones from left to right

    chains = [e.args]
    if e.op == "trace":
        chains = min(_halves(e.args[0].args), key=lambda two: sum(map(cost, two)) + _reading(*two))
    products: set[str] = set()
    stack = list(chains)
    while stack:
        factors = stack.pop()
        if len(factors) == 1:
            continue
        digest, turned = _whole(factors).digest, _whole(_turned(factors)).digest
        cost(factors)
        if digest not in others:
            splits[digest] = -found[digest][1]
            splits[turned] = len(factors) - splits[digest]
        products |= {digest, turned}
        stack += [factors[: splits[digest]], factors[splits[digest] :]]
    return chains, products


def _halves(factors: Chain) -> Iterator[list[Chain]]:
    """The pairs A, B for which tr(A B) is the trace of all factors."""
    count = len(factors)
    for length in range(count - 1, 0, -1):
        for start in range(count):
            turned = factors[start:] + factors[:start]
            yield [turned[:length], turned[length:]]


def _reading(a: Chain, b: Chain) -> float:
    """Of the sum over Aᵀ ∘ B, half of it for Aᵀ where that is not at hand."""
    return float(entries(_whole(a)) * (1 + (_whole(a).op != "T")))
