"""d of an expression, rule by rule; and the trace rules that bring ⟨C, …dX…⟩ to ⟨G, dX⟩."""

from collections.abc import Callable, Mapping

from funcnet.derive import algebra as al
from funcnet.derive.expression import Expression, identity, number, ones, walk, zeros


def d(e: Expression, active: frozenset[str]) -> Expression:
    """The differential as a node of its own; zero where nothing in e changes."""
    return Expression("d", (e,), e.shape) if depends(e, active) else zeros(e.shape)


def depends(e: Expression, active: frozenset[str]) -> bool:
    """Whether one of the symbols called `active` occurs."""
    return any(node.op == "symbol" and node.data in active for node in walk(e))


CONSTRUCTORS: Mapping[str, Callable[..., Expression]] = {
    "add": al.add,
    "mul": al.mul,
    "matmul": al.matmul,
    "T": al.transpose,
    "trace": al.trace,
    "inv": al.inv,
    "det": al.det,
    "logdet": al.logdet,
    "adj": al.adj,
    "sum": al.total,
    "norm": al.norm,
    "norm2": al.norm2,
    "diag": al.diag,
    "diagonal": al.diagonal,
    "softmax": al.softmax,
    "log_softmax": al.log_softmax,
    "logsumexp": al.logsumexp,
}


def rebuilt(node: Expression, args: tuple[Expression, ...]) -> Expression:
    """The same operation on other operands, simplified anew."""
    if node.op == "power":
        return al.power(args[0], node.data)
    if node.op == "apply":
        return al.apply(node.data.name, args[0])
    return CONSTRUCTORS[node.op](*args) if args else node


def replaced(e: Expression, change: Callable[[Expression], Expression | None]) -> Expression:
    """The expression with nodes exchanged for what `change` makes of them, the outermost first."""
    done: dict[str, Expression] = {}
    stack = [(e, False)]
    while stack:
        node, ready = stack.pop()
        if node.digest in done:
            continue
        if ready:
            args = tuple(done[arg.digest] for arg in node.args)
            same = all(new is old for new, old in zip(args, node.args, strict=True))
            done[node.digest] = node if same else rebuilt(node, args)
            continue
        new = change(node)
        if new is not None or node.op == "d":
            done[node.digest] = node if new is None else new
            continue
        stack.append((node, True))
        stack.extend((arg, False) for arg in node.args)
    return done[e.digest]


def expanded(e: Expression, active: frozenset[str]) -> tuple[int, Expression]:
    """d of an operation by the differentials of its operands, and the number of the rule that says so."""
    number_of, rule = _RULES[e.op]
    if e.op in ("softmax", "log_softmax", "logsumexp") and e.args[0].shape[1] != 1:
        number_of += 3
    if e.op == "mul" and sum(depends(arg, active) for arg in e.args) == 1:
        constant = [arg for arg in e.args if not depends(arg, active)]
        number_of = 27 if all(arg.is_scalar for arg in constant) else 7
    return number_of, rule(e, active)


def _sum(e: Expression, active: frozenset[str]) -> Expression:
    """Numbers in front of terms stay there, as signs do."""
    terms = [al.split(arg) for arg in e.args]
    return al.add(*(al.scaled(c, d(rest, active)) for c, rest in terms))


def _product(make: Callable[..., Expression]) -> Callable[[Expression, frozenset[str]], Expression]:
    def of_product(e: Expression, active: frozenset[str]) -> Expression:
        return al.add(*(make(*e.args[:i], d(arg, active), *e.args[i + 1 :]) for i, arg in enumerate(e.args)))

    return of_product


def _only(make: Callable[..., Expression]) -> Callable[[Expression, frozenset[str]], Expression]:
    return lambda e, active: make(d(e.args[0], active))


def _inverse(e: Expression, active: frozenset[str]) -> Expression:
    return al.scaled(-1, al.matmul(e, d(e.args[0], active), e))


def _determinant(e: Expression, active: frozenset[str]) -> Expression:
    return al.trace(al.matmul(al.adj(e.args[0]), d(e.args[0], active)))


def _log_determinant(e: Expression, active: frozenset[str]) -> Expression:
    return al.trace(al.matmul(al.inv(e.args[0]), d(e.args[0], active)))


def _adjugate(e: Expression, active: frozenset[str]) -> Expression:
    x = e.args[0]
    inverse, dx = al.inv(x), d(x, active)
    inner = al.mul(al.trace(al.matmul(inverse, dx)), inverse) + -al.matmul(inverse, dx, inverse)
    return al.mul(al.det(x), inner)


def _function(e: Expression, active: frozenset[str]) -> Expression:
    return al.mul(e.data.slope(e.args[0], e, al), d(e.args[0], active))


def _power(e: Expression, active: frozenset[str]) -> Expression:
    x = e.args[0]
    return al.mul(number(e.data), al.power(x, e.data - 1), d(x, active))


def _norm2(e: Expression, active: frozenset[str]) -> Expression:
    return al.scaled(2, inner(e.args[0], d(e.args[0], active)))


def _norm(e: Expression, active: frozenset[str]) -> Expression:
    return al.mul(inner(e.args[0], d(e.args[0], active)), al.power(e, -1))


def inner(a: Expression, b: Expression) -> Expression:
    """⟨a, b⟩ = tr(aᵀ b)."""
    return al.trace(al.matmul(al.transpose(a), b))


def _rows(p: Expression, dx: Expression) -> Expression:
    """(P ∘ dA) 1 of a matrix; 1ᵀ(p ∘ da) = pᵀ da of a vector."""
    if p.shape[1] == 1:
        return al.matmul(al.transpose(p), dx)
    return al.matmul(al.mul(p, dx), ones(p.shape[1]))


def _mean_removed(e: Expression, active: frozenset[str]) -> Expression:
    a = e.args[0]
    dx, p = d(a, active), al.softmax(a)
    rows = _rows(p, dx)
    spread = al.mul(rows, ones(*a.shape)) if a.shape[1] == 1 else al.matmul(rows, ones(1, a.shape[1]))
    return al.add(dx, al.scaled(-1, spread))


def _softmax(e: Expression, active: frozenset[str]) -> Expression:
    return al.mul(e, _mean_removed(e, active))


def _log_sum_exp(e: Expression, active: frozenset[str]) -> Expression:
    return _rows(al.softmax(e.args[0]), d(e.args[0], active))


_RULES: Mapping[str, tuple[int, Callable[[Expression, frozenset[str]], Expression]]] = {
    "add": (1, _sum),
    "matmul": (2, _product(al.matmul)),
    "T": (3, _only(al.transpose)),
    "trace": (4, _only(al.trace)),
    "inv": (5, _inverse),
    "det": (6, _determinant),
    "mul": (7, _product(al.mul)),
    "apply": (8, _function),
    "power": (8, _power),
    "sum": (14, _only(al.total)),
    "norm2": (15, _norm2),
    "norm": (16, _norm),
    "logdet": (17, _log_determinant),
    "adj": (18, _adjugate),
    "diag": (19, _only(al.diag)),
    "diagonal": (19, _only(al.diagonal)),
    "softmax": (20, _softmax),
    "log_softmax": (21, _mean_removed),
    "logsumexp": (22, _log_sum_exp),
}


def holds_d(e: Expression) -> bool:
    """Whether a differential occurs."""
    return any(node.op == "d" for node in walk(e))


def pull(c: Expression, term: Expression) -> tuple[int, Expression, Expression]:
    """One trace rule: ⟨C, op(… T …)⟩ = ⟨C′, T⟩."""
    at = next(i for i, arg in enumerate(term.args) if holds_d(arg))
    inside, before, after = term.args[at], term.args[:at], term.args[at + 1 :]
    if term.op == "T":
        return 10, al.transpose(c), inside
    if term.op == "matmul":
        return (
            12,
            al.matmul(*(al.transpose(f) for f in reversed(before)), c, *(al.transpose(f) for f in reversed(after))),
            inside,
        )
    if term.op == "mul":
        others = before + after
        if inside.shape == term.shape:
            return 13 if any(not o.is_scalar for o in others) else 11, al.mul(c, *others), inside
        return (
            26,
            al.mul(*(o for o in others if o.is_scalar), inner(c, al.mul(*(o for o in others if not o.is_scalar)))),
            inside,
        )
    if term.op == "trace":
        return 9, al.mul(c, identity(inside.shape[0])), inside
    if term.op == "sum":
        return 14, al.mul(c, ones(*inside.shape)), inside
    if term.op == "diag":
        return 26, al.diagonal(c), inside
    if term.op == "diagonal":
        return 26, al.diag(c), inside
    raise AssertionError(f"no trace rule for {term.op}")
