"""`derive`: from a scalar expression to its gradients, step by step, as a careful person would write it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from funcnet.checking import GradientReport
from funcnet.derive import algebra as al
from funcnet.derive import module, report
from funcnet.derive.differentials import d, depends, expanded, holds_d, pull, replaced
from funcnet.derive.expression import Expression, ShapeError, is_number, is_zero, number, sizes, symbols_of, walk, zeros
from funcnet.derive.naming import check_symbols, named_parts, symbol_of
from funcnet.derive.parser import parsed
from funcnet.derive.simplify import gathered, presented


class Step(NamedTuple):
    """One application of a rule.

    Attributes:
        rule: Its number in `RULES`.
        before: The expression it was applied to.
        after: What came out.
    """

    rule: int
    before: Expression
    after: Expression


class Stage(NamedTuple):
    """What dℓ becomes as one named part is taken apart.

    Attributes:
        name: The part; None for the loss itself.
        steps: In order.
        found: For each symbol the terms that this stage adds to its gradient.
    """

    name: str | None
    steps: tuple[Step, ...]
    found: tuple[tuple[str, Expression], ...]


class Gradients(dict[Expression, Expression]):
    """The gradient for each symbol; a symbol's name will do."""

    def __missing__(self, name: Any) -> Expression:
        """Look it up by its name."""
        for symbol, gradient in self.items():
            if symbol.data == name:
                return gradient
        raise KeyError(f"no gradient in {name}; there are {', '.join(s.data for s in self)}")


class Derivation(NamedTuple):
    """The gradients of a scalar, and how they were found.

    Attributes:
        expression: The scalar ℓ.
        forward: Names for parts of it, each in terms of those before: a₁ = W₁ x, h₁ = σ(a₁), …
        loss: ℓ in these names.
        stages: The steps, from ℓ down to the symbols.
        backward: ∂ℓ/∂h₁, ∂ℓ/∂a₁, … in the order in which they are computed.
        gradient: ∂ℓ/∂W for each symbol, in terms of all of these.
    """

    expression: Expression
    forward: tuple[tuple[str, Expression], ...]
    loss: Expression
    stages: tuple[Stage, ...]
    backward: tuple[tuple[str, Expression], ...]
    gradient: Gradients

    def __str__(self) -> str:
        return report.as_text(self)

    def latex(self) -> str:
        """As aligned equations, for a document with amsmath."""
        return report.as_latex(self)

    def html(self) -> str:
        """As one page that needs no network: formulas in MathML, and every step can be opened."""
        return report.as_html(self)

    def source(self) -> str:
        """A standalone Python module: the loss, the forward pass and the closed-form backward pass, for JAX."""
        return module.source(self)

    def function(self) -> Callable[..., tuple[Any, dict[str, Any]]]:
        """The value and the gradients, by name, as a function of arrays; it can be compiled."""
        return module.function(self)

    def check(self, key: Any, *, sizes: Mapping[str, int] | None = None, raises: bool = True) -> GradientReport:
        """Prove the gradients against `jax.grad` and differences at a random point, by `funcnet.check_gradient`."""
        return module.check(self, key, sizes=sizes, raises=raises)


def derive(
    expression: Expression | str,
    wrt: Expression | str | Sequence[Expression | str] | None = None,
    *,
    shapes: Mapping[str, Expression] | Sequence[str] | None = None,
    names: Mapping[str, Expression] | None = None,
) -> Derivation:
    """Derive the gradients of a scalar by differentials: dℓ = tr(Gᵀ dX) defines G = ∂ℓ/∂X.

    Properties that symbols are declared to have are made use of: ∂ℓ/∂S of a symmetric S, and ∂ℓ/∂y of a y that sums to
    one, are right for every change that keeps S symmetric and the sum 1. Where something is simplified the value is the
    same wherever all that was written has a value (log(exp x) is x; so is exp(log x), of positive x only).

    Args:
        expression: The scalar, made by operators or `parse`; or text, with shapes.
        wrt: A symbol, or several; by default all that occur.
        shapes: The symbols of a text, as for `parse`; parts that it gives a name to keep it.
        names: Names for parts of the expression. By default parts of networks are named a₁, h₁, …, where functions are
            nested.

    Returns:
        A `Derivation`: `print` shows the steps; `gradient[symbol]`, `latex()`, `html()`, `source()`, `function()` and
        `check(key)` are what else there is.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the expression is no scalar, a symbol does not occur in it, or two would be written alike.
    """
    if isinstance(expression, str):
        if shapes is None:
            raise TypeError("shapes must be given for a text, such as ['W=hxd', 'x=d']")
        expression, own = parsed(expression, shapes)
        names = names if names is not None else own or None
    if not isinstance(expression, Expression):
        raise TypeError(f"expression must be an Expression or text; got {type(expression).__name__}")
    if not expression.is_scalar:
        raise ShapeError(f"expression must be a scalar; got {expression} of {sizes(expression.shape)}")
    check_symbols(expression, names or {})
    variables = _variables(expression, wrt)
    active = frozenset(v.data for v in variables)
    forward, loss = named_parts(expression, active, names)
    moving = active
    for name, value in forward:
        if depends(value, moving):
            moving = moving | {name}
    return _derived(expression, variables, forward, loss, moving)


def _variables(expression: Expression, wrt: Any) -> tuple[Expression, ...]:
    there = symbols_of(expression)
    if wrt is None:
        if not there:
            raise ValueError(f"expression must depend on a symbol; it is {expression}")
        return tuple(there.values())
    if not isinstance(wrt, Expression | str | Sequence):
        raise TypeError(f"wrt must be symbols of the expression; got {wrt!r}")
    listed = (wrt,) if isinstance(wrt, Expression | str) else tuple(wrt)
    if not listed:
        raise ValueError("wrt must name at least one symbol")
    found = []
    for v in listed:
        name = v.data if isinstance(v, Expression) and v.op == "symbol" else v
        if not isinstance(name, str):
            raise TypeError(f"wrt must be symbols of the expression; got {v!r}")
        if name not in there:
            raise ValueError(
                f"wrt: {name} does not occur in the expression; there are {', '.join(there) or 'no symbols'}"
            )
        found.append(there[name])
    return tuple(found)


def _derived(
    expression: Expression,
    variables: tuple[Expression, ...],
    forward: tuple[tuple[str, Expression], ...],
    loss: Expression,
    moving: frozenset[str],
) -> Derivation:
    """All stages, from the loss back to the symbols."""
    known = {value.digest: symbol_of(name, value) for name, value in forward}
    contributions: dict[str, list[Expression]] = {}
    stages, backward = [], []

    def visit(name: str | None, value: Expression, cotangent: Expression) -> None:
        stage = _stage(name, value, cotangent, moving, known)
        stages.append(stage)
        for target, term in stage.found:
            contributions.setdefault(target, []).append(term)

    visit(None, loss, number(1))
    for name, value in reversed(forward):
        if name in moving:
            total = presented(al.add(*contributions.get(name, [zeros(value.shape)])))
            backward.append((name, total))
            visit(name, value, Expression("gradient", shape=value.shape, data=name))
    gradient = Gradients()
    for v in variables:
        gradient[v] = presented(al.add(*contributions.get(v.data, [zeros(v.shape)])))
    forward = tuple((name, presented(value)) for name, value in forward)
    loss = presented(loss)
    return Derivation(expression, forward, loss, tuple(stages), tuple(backward), gradient)


def _stage(
    name: str | None, value: Expression, cotangent: Expression, moving: frozenset[str], known: Mapping[str, Expression]
) -> Stage:
    """Take one part apart: first d moves inwards by the rules, then the traces are turned."""
    steps: list[Step] = []
    current = d(value, moving)

    def shown(term: Expression) -> Expression:
        return gathered(term) if name is None else _inner(cotangent, term)

    while True:
        rule, after = _pushed(current, moving)
        if rule is None:
            break
        steps.append(Step(rule, shown(current), shown(after)))
        current = after
    current = replaced(current, lambda node: known.get(node.digest))
    if name is None and not is_zero(current):
        steps.append(Step(9, gathered(current), _inner(cotangent, current)))
    found: list[tuple[str, Expression]] = []
    if not is_zero(current):
        _turned(cotangent, current, steps, found)
    return Stage(name, tuple(steps), tuple(found))


def _turned(c: Expression, term: Expression, steps: list[Step], found: list[tuple[str, Expression]]) -> None:
    """⟨C, T⟩ turned by the trace rules until each dX stands alone."""
    if term.op == "d":
        found.append((term.args[0].data, c))
        return
    if term.op == "add":
        parts = [arg for arg in term.args if holds_d(arg)]
        if len(parts) > 1:
            each = tuple(_inner(c, part) for part in parts)
            steps.append(Step(11, _inner(c, term), Expression("add", each)))
        for part in parts:
            _turned(c, part, steps, found)
        return
    rule, turned, inside = pull(c, term)
    step = Step(rule, _inner(c, term), _inner(turned, inside))
    if str(step.before) != str(step.after):
        steps.append(step)
    _turned(turned, inside, steps, found)


def _inner(c: Expression, term: Expression) -> Expression:
    """tr(Cᵀ T), as it is written while traces are turned: nothing is simplified."""
    if is_number(c, 1):
        return Expression("trace", (gathered(term),))
    if term.is_scalar:
        return Expression("trace", (gathered(Expression("mul", (c, term))),))
    turned = Expression("T", (gathered(c),), (c.shape[1], c.shape[0]))
    factors = (turned, *(term.args if term.op == "matmul" else (term,)))
    return Expression("trace", (gathered(Expression("matmul", factors, (turned.shape[0], term.shape[1]))),))


def _pushed(current: Expression, moving: frozenset[str]) -> tuple[int | None, Expression]:
    """One rule applied to every d that asks for it; None where only d of symbols is left."""
    compound = [node for node in walk(current) if node.op == "d" and node.args[0].args]
    if not compound:
        return None, current
    rule = expanded(compound[0].args[0], moving)[0]

    def change(node: Expression) -> Expression | None:
        if node.op != "d" or not node.args[0].args:
            return None
        own, after = expanded(node.args[0], moving)
        return after if own == rule else None

    return rule, replaced(current, change)
