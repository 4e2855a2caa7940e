"""Shorter forms: common factors are taken out where that saves operations, and transposes are gathered."""

from collections.abc import Callable, Iterator

from funcnet.derive import algebra as al
from funcnet.derive.differentials import rebuilt
from funcnet.derive.elementwise import flat
from funcnet.derive.expression import Expression, is_number, number, walk

Measure = Callable[[Expression], float]
Side = Callable[[Expression], tuple[Expression | None, Expression]]


def operations(e: Expression) -> int:
    """How many operations a reader counts: one for each sign between operands, each function and each transpose."""
    if not e.args:
        return 0
    below = sum(operations(arg) for arg in e.args)
    if e.op == "add":  # a minus is the sum's own sign
        below -= sum(arg.op == "mul" and is_number(arg.args[0], -1) for arg in e.args[1:])
    if e.op == "mul" and any(not _is_divisor(arg) for arg in e.args):  # as is a division's
        below -= sum(_is_divisor(arg) for arg in e.args)
    return below + (len(e.args) - 1 if e.op in ("add", "mul", "matmul") else 1)


def _is_divisor(e: Expression) -> bool:
    """Whether it is written under a line."""
    return e.op == "power" and e.data < 0


def simplified(e: Expression, measure: Measure = operations) -> Expression:
    """The same value by fewer operations, or less of another measure, where common factors allow it."""
    done: dict[str, Expression] = {}
    for node in walk(e):
        args = tuple(done[arg.digest] for arg in node.args)
        same = all(new is old for new, old in zip(args, node.args, strict=True))
        done[node.digest] = _factored(node if same or node.op == "d" else rebuilt(node, args), measure)
    return done[e.digest]


def presented(e: Expression) -> Expression:
    """`simplified` and `gathered`, and (bᵀ c) a for a bᵀ c: the form to be read."""
    return _changed(gathered(simplified(e)), _scalar_in_front)


def gathered(e: Expression) -> Expression:
    """(A B)ᵀ for Bᵀ Aᵀ and (A + B)ᵀ for Aᵀ + Bᵀ; nothing else changes."""
    return _changed(e, _gathered)


def _changed(e: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """With each node exchanged, operands first."""
    done: dict[str, Expression] = {}
    for node in walk(e):
        args = tuple(done[arg.digest] for arg in node.args)
        if node.op == "mul":
            args = tuple(flat("mul", args))
        same = all(new is old for new, old in zip(args, node.args, strict=True))
        new = node if same else Expression(node.op, args, node.shape, node.data, node.traits)
        done[node.digest] = change(new)
    return done[e.digest]


def _scalar_in_front(e: Expression) -> Expression:
    """A product in which a row meets a column before the end, as a scalar times the rest."""
    if e.op != "matmul" or e.is_scalar:
        return e
    rows = [i for i, factor in enumerate(e.args) if factor.shape[0] == 1]
    columns = [i for i, factor in enumerate(e.args) if factor.shape[1] == 1]
    between = [(i, j + 1) for i in rows for j in columns if i < j]
    if not between:
        return e
    i, j = max(between, key=lambda ends: ends[1] - ends[0])
    rest = (*e.args[:i], *e.args[j:])
    return Expression("mul", (al.matmul(*e.args[i:j]), _scalar_in_front(al.matmul(*rest))), e.shape)


def _gathered(e: Expression) -> Expression:
    """One transpose for several."""
    if e.op not in ("add", "matmul", "mul"):
        return e
    in_front = tuple(arg for arg in e.args if arg.is_scalar) if e.op == "mul" else ()
    wide = [arg for arg in e.args if not (e.op == "mul" and arg.is_scalar)]
    inner = tuple(under for under in map(_under, wide) if under is not None)
    if len(wide) < 2 or len(inner) < len(wide):
        return e
    shape = e.shape[1], e.shape[0]
    turned = al.turned(Expression(e.op, inner[::-1] if e.op == "matmul" else inner, shape))
    whole = Expression("mul", (*in_front, turned), e.shape) if in_front else turned
    return whole if operations(whole) < operations(e) else e


def _under(e: Expression) -> Expression | None:
    """What e is the transpose of, if that costs nothing to write."""
    if e.op == "T":
        return e.args[0]
    if e.op in ("ones", "zeros") or (al.is_symmetric(e) and e.op in ("symbol", "identity", "inv")):
        return al.transpose(e)
    if e.op == "mul" and len(e.args) == 2 and e.args[0].is_scalar and e.args[1].op == "T":
        return Expression("mul", (e.args[0], e.args[1].args[0]), (e.shape[1], e.shape[0]))
    return None


def _factored(e: Expression, measure: Measure) -> Expression:
    """A sum with common factors taken out, as long as that saves something."""
    if e.op == "mul" and e.args[-1].op == "add":
        shorter = al.mul(*e.args[:-1], _factored(e.args[-1], measure))
        return shorter if measure(shorter) < measure(e) else e
    while e.op == "add":
        best = min(_ways(e, measure), key=measure, default=e)
        if measure(best) >= measure(e):
            break
        e = best
    return e


def _ways(e: Expression, measure: Measure) -> Iterator[Expression]:
    """The sum with one factor taken out of all terms that have it."""
    terms = list(e.args)
    numbers = [al.split(term)[0] for term in terms]
    if len({abs(c) for c in numbers}) == 1:
        common = abs(numbers[0]) * (-1 if max(numbers) < 0 else 1)
        if common != 1:
            yield al.mul(number(common), _factored(al.add(*(al.scaled(1 / common, term) for term in terms)), measure))
    yield from _grouped(terms, _left, al.matmul, measure)
    yield from _grouped(terms, _right, lambda factor, rest: al.matmul(rest, factor), measure)
    yield from _elementwise(terms, measure)


def _left(term: Expression) -> tuple[Expression | None, Expression]:
    """The first factor of a matrix product, and the rest of the term."""
    scalars, chain = _chain(term)
    return (chain[0], al.mul(*scalars, al.matmul(*chain[1:]))) if len(chain) > 1 else (None, term)


def _right(term: Expression) -> tuple[Expression | None, Expression]:
    """The last factor of a matrix product, and the rest of the term."""
    scalars, chain = _chain(term)
    return (chain[-1], al.mul(*scalars, al.matmul(*chain[:-1]))) if len(chain) > 1 else (None, term)


def _chain(term: Expression) -> tuple[list[Expression], tuple[Expression, ...]]:
    """The scalars of a term and the factors of its matrix product."""
    scalars, rest = al.scalar_part(term)
    if rest is None:
        return scalars, ()
    return scalars, rest.args if rest.op == "matmul" else (rest,)


def _grouped(
    terms: list[Expression], side: Side, product: Callable[[Expression, Expression], Expression], measure: Measure
) -> Iterator[Expression]:
    """A factor at one end of several matrix products; a term that is the factor itself has I beside it."""
    parts = [side(term) for term in terms]
    for factor in {f.digest: f for f, _ in parts if f is not None}.values():
        inside = [rest for f, rest in parts if f == factor]
        if len(inside) > 1:
            others = [term for term, (f, _) in zip(terms, parts, strict=True) if f != factor]
            yield al.add(*others, product(factor, _factored(al.add(*inside), measure)))


def _elementwise(terms: list[Expression], measure: Measure) -> Iterator[Expression]:
    """A factor that several terms have in common, to the power that all of them have."""
    listed = [term.args if term.op == "mul" else (term,) for term in terms]
    factors = [{f.digest: (f, p) for f, p in map(al.base_and_exponent, own)} for own in listed]
    bases = {key: f for own in factors for key, (f, _) in own.items() if f.op != "number"}
    for digest, base in bases.items():
        having = [i for i, own in enumerate(factors) if digest in own]
        powers = [factors[i][digest][1] for i in having]
        if len(having) < 2 or min(powers) < 0 < max(powers):
            continue
        common = al.power(base, min(powers, key=abs))
        inside = [_divided(terms[i], common) for i in having]
        shorter = sum(map(operations, inside)) < sum(operations(terms[i]) for i in having)
        if shorter and len({e.shape for e in inside}) == 1:
            rest = [term for i, term in enumerate(terms) if i not in having]
            yield al.add(*rest, al.mul(common, _factored(al.add(*inside), measure)))


def _divided(term: Expression, factor: Expression) -> Expression:
    return al.ones(*term.shape) if term == factor else al.mul(term, al.power(factor, -1))
