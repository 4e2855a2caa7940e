"""A derivation as text, as LaTeX, and as a page of its own."""

import html
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from funcnet.derive.expression import Expression, ones, symbols_of, walk
from funcnet.derive.printing import latex, mathml, text
from funcnet.derive.rules import RULES


class Line(NamedTuple):
    """One equation: what stands left of the sign (None: what stood right of the last one), right of it, and why.

    Besides the rule that may be a declared property, as in 1ᵀ y = 1: what is left of its sign, and what right.
    """

    left: Expression | None
    right: Expression
    rule: int
    given: tuple[tuple[Expression, Expression], ...]


class Section(NamedTuple):
    """The equations of one stage, behind what it takes apart, and what it found."""

    name: Expression
    value: Expression
    lines: tuple[Line, ...]
    found: tuple[tuple[Expression, Expression], ...]


LOSS = Expression("loss")


def sections(derivation: Any) -> Iterator[Section]:
    """All stages, as equations."""
    values = dict(derivation.forward)
    for stage in derivation.stages:
        value = derivation.loss if stage.name is None else values[stage.name]
        lines, last = [], None
        for step in stage.steps:
            left = None if last is not None and text(step.before) == last else step.before
            lines.append(Line(left, step.after, step.rule, _given(step.before, step.after)))
            last = text(step.after)
        name = LOSS if stage.name is None else named(stage.name)
        yield Section(name, value, tuple(lines), tuple((of(target), term) for target, term in stage.found))


def _given(before: Expression, after: Expression) -> tuple[tuple[Expression, Expression], ...]:
    """The sums declared to be 1 that a step uses: of the symbols that occur in fewer places behind it."""
    left, right = _places(before), _places(after)
    used = [s for s in symbols_of(before).values() if "sums_to_one" in s.traits and left[s.data] > right[s.data]]
    return tuple(
        (Expression("matmul", (ones(1, s.shape[0]), s)), ones(1))
        if s.shape[1] == 1
        else (Expression("matmul", (s, ones(s.shape[1])), (s.shape[0], 1)), ones(s.shape[0]))
        for s in used
    )


def _places(e: Expression) -> Counter[str]:
    """In how many places each symbol occurs."""
    found: dict[str, Counter[str]] = {}
    for node in walk(e):
        own = [node.data] if node.op == "symbol" else []
        found[node.digest] = sum((found[arg.digest] for arg in node.args), Counter(own))
    return found[e.digest]


def named(name: str) -> Expression:
    """A name as a symbol."""
    return Expression("symbol", data=name)


def of(name: str) -> Expression:
    """∂ℓ/∂ of what is called so."""
    return Expression("gradient", data=name)


def results(derivation: Any) -> list[tuple[Expression, Expression]]:
    """The gradients, in the order in which they are computed."""
    found = [(of(name), value) for name, value in derivation.backward]
    return found + [(of(s.data), value) for s, value in derivation.gradient.items()]


def as_text(derivation: Any) -> str:
    """In plain Unicode."""
    lines = [f"ℓ = {text(derivation.expression)}", ""]
    if derivation.forward:
        lines += [f"    {text(named(name))} = {text(value)}" for name, value in derivation.forward]
        lines += [f"    ℓ = {text(derivation.loss)}", ""]
    for section in sections(derivation):
        if derivation.forward:
            lines += [f"{text(section.name)} = {text(section.value)}", ""]
        for left, right, rule, given in section.lines:
            if left is not None:
                lines.append(f"    {text(left)}")
            why = "; ".join([f"{rule}: {RULES[rule].name}", *(f"{text(a)} = {text(b)}" for a, b in given)])
            lines.append(f"      = {text(right)}    [{why}]")
        lines += [f"    so {text(target)} has the term {text(term)}" for target, term in section.found]
        lines.append("")
    lines += [f"{text(target)} = {text(value)}" for target, value in results(derivation)]
    return "\n".join(lines)


def as_latex(derivation: Any) -> str:
    """As aligned equations, for a document with amsmath."""
    rows = [rf"\ell &= {latex(derivation.expression)}"]
    rows += [rf"{latex(named(name))} &= {latex(value)}" for name, value in derivation.forward]
    for section in sections(derivation):
        for left, right, rule, given in section.lines:
            shown = "" if left is None else latex(left)
            why = rf"{rule}: {RULES[rule].name}" + "".join(f"; ${latex(a)} = {latex(b)}$" for a, b in given)
            rows.append(rf"{shown} &= {latex(right)} && \text{{({why})}}")
        rows += [rf"&\Rightarrow {latex(target)}: {latex(term)}" for target, term in section.found]
    rows += [rf"{latex(target)} &= {latex(value)}" for target, value in results(derivation)]
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --page: #fff; --ink: #222; --soft: #567; --line: #ccd; --box: #f4f6fb; }}
@media screen and (prefers-color-scheme: dark) {{
  :root {{ --page: #14171d; --ink: #e6e9f0; --soft: #a0afc2; --line: #3a4356; --box: #1f2530; }}
}}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--page); }}
math {{ font-size: 1.15em; }}
details {{ border-left: 3px solid var(--line); margin: .5rem 0; padding: .2rem 0 .2rem 1rem; }}
summary {{ cursor: pointer; }}
.rule {{ display: inline-block; color: var(--soft); font-size: .9em; }}
.result {{ background: var(--box); padding: .5rem 1rem; margin: .4rem 0; overflow-x: auto; }}
.step {{ margin: .3rem 0 .3rem 1rem; overflow-x: auto; }}
pre {{ background: var(--box); padding: 1rem; overflow-x: auto; }}
</style>
</head>
<body>
<h1>{heading}</h1>
{body}
</body>
</html>
"""


def _math(*parts: str) -> str:
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML"><mrow>{"".join(parts)}</mrow></math>'


def _equation(left: Expression | None, right: Expression, sign: str = "=") -> str:
    return _math("" if left is None else mathml(left), f"<mo>{sign}</mo>", mathml(right))


def as_html(derivation: Any) -> str:
    """One page that needs no network: every stage and every step can be opened."""
    parts = [f'<div class="result">{_equation(LOSS, derivation.expression)}</div>']
    if derivation.forward:
        parts.append("<h2>Forward</h2>")
        parts += [f'<div class="step">{_equation(named(name), value)}</div>' for name, value in derivation.forward]
        parts.append(f'<div class="step">{_equation(LOSS, derivation.loss)}</div>')
    parts.append("<h2>Derivation</h2>")
    for section in sections(derivation):
        parts.append(f"<details open><summary>{_equation(section.name, section.value)}</summary>")
        current: Expression | None = None
        for line in section.lines:
            parts.append(_step(current if line.left is None else line.left, line))
            current = line.right
        for target, term in section.found:
            parts.append(f'<div class="result">{_equation(target, term, "∋")}</div>')
        parts.append("</details>")
    parts.append("<h2>Gradients</h2>")
    parts += [f'<div class="result">{_equation(target, value)}</div>' for target, value in results(derivation)]
    parts += ["<h2>Code</h2>", f"<pre>{html.escape(derivation.source())}</pre>"]
    heading = "Derivation of the gradients of " + _math(mathml(derivation.expression))
    return _PAGE.format(title="Derivation", heading=heading, body="\n".join(parts))


def _step(left: Expression | None, line: Line) -> str:
    said = RULES[line.rule]
    given = "".join(f"; {_equation(a, b)}" for a, b in line.given)
    return (
        f'<details class="step"><summary>{_equation(line.left, line.right)} <span class="rule">{said.number}: '
        f"{html.escape(said.name)}{given}</span></summary>"
        f'<div class="step">{_equation(left, line.right)}</div>'
        f'<div class="rule">{html.escape(said.statement)} ({html.escape(said.source)})</div></details>'
    )
