"""Expressions as people write them: one walk, and three styles to set its parts in."""

from collections.abc import Callable, Mapping
from fractions import Fraction

from funcnet.derive.expression import Expression, is_number
from funcnet.derive.styles import LATEX, MATHML, UNICODE, Style

SUM, PRODUCT, CHAIN, PREFIX, RAISED, ATOM = range(6)
WORDS: Mapping[str, str] = {
    "trace": "tr", "adj": "adj", "sum": "sum", "diag": "diag", "diagonal": "diagonal", "softmax": "softmax",
    "log_softmax": "log softmax", "logsumexp": "logsumexp",
}  # fmt: skip


def text(e: Expression) -> str:
    """In plain Unicode."""
    return _set(e, UNICODE)[0]


def latex(e: Expression) -> str:
    """In LaTeX, for math mode."""
    return _set(e, LATEX)[0]


def mathml(e: Expression) -> str:
    """As the inside of a MathML element."""
    return _set(e, MATHML)[0]


def parts_of(name: str) -> tuple[str, str]:
    """The letters of a name and its index: W1 is W with index 1, a_h is a with index h."""
    letters = name.rstrip("0123456789")
    index = name[len(letters) :]
    if not index and "_" in name.strip("_"):
        letters, _, index = name.partition("_")
    return letters.rstrip("_"), index


def _set(e: Expression, style: Style) -> tuple[str, int]:
    """The text of an expression and how strongly its outermost operation binds."""
    if e.op in _SETTERS:
        return _SETTERS[e.op](e, style)
    return style.call(style.word(WORDS[e.op]), _set(e.args[0], style)[0]), PREFIX if e.op == "log_softmax" else ATOM


def _at_least(e: Expression, style: Style, binding: int) -> str:
    shown, own = _set(e, style)
    return shown if own >= binding else style.brackets(shown)


def _number_text(value: object) -> str:
    return str(value) if isinstance(value, Fraction) else f"{value:g}"


def _number(e: Expression, style: Style) -> tuple[str, int]:
    if e.data < 0:
        return style.sum([("-", style.number(_number_text(-e.data)))]), SUM
    if e.data == Fraction(1, 2) and style is not LATEX:
        return style.number("½"), ATOM
    shown = style.number(_number_text(e.data))
    return shown, PRODUCT if "/" in _number_text(e.data) and style is UNICODE else ATOM


def _sum(e: Expression, style: Style) -> tuple[str, int]:
    terms = []
    for term in e.args:
        sign, positive = _sign(term)
        terms.append((sign, _at_least(_without_ones(positive), style, PRODUCT)))
    return style.sum(terms), SUM


def _sign(term: Expression) -> tuple[str, Expression]:
    lead = term.args[0] if term.op == "mul" else term
    if lead.op != "number" or lead.data >= 0:
        return "+", term
    if term.op == "number":
        return "-", Expression("number", data=-term.data)
    rest = term.args[1:]
    if lead.data == -1:
        return "-", rest[0] if len(rest) == 1 else Expression("mul", rest, term.shape)
    return "-", Expression("mul", (Expression("number", data=-lead.data), *rest), term.shape)


def _without_ones(term: Expression) -> Expression:
    """A number for the matrix that is full of it."""
    if term.op == "ones":
        return Expression("number", data=Fraction(1))
    if term.op == "mul" and len(term.args) == 2 and term.args[0].op == "number" and term.args[1].op == "ones":
        return term.args[0]
    return term


def _product(e: Expression, style: Style) -> tuple[str, int]:
    if e.args[0].op == "number" and e.args[0].data < 0:
        sign, positive = _sign(e)
        return style.sum([(sign, _at_least(positive, style, PRODUCT))]), SUM
    above = [arg for arg in e.args if not _is_below(arg)]
    below = [
        Expression("power", arg.args, arg.shape, data=-arg.data) if arg.data != -1 else arg.args[0]
        for arg in e.args
        if _is_below(arg)
    ]
    lead = e.args[0]
    if lead.op == "number" and isinstance(lead.data, Fraction) and lead.data.denominator != 1 and below:
        above[0] = Expression("number", data=Fraction(lead.data.numerator))
        below.insert(0, Expression("number", data=Fraction(lead.data.denominator)))
        above = [a for a in above if not is_number(a, 1)]
    if not below:
        return _times(above, style)
    top, binding = _times(above, style) if above else (style.number("1"), ATOM)
    if style is UNICODE and binding < PRODUCT:
        top = style.brackets(top)
    bottom = _times(below, style)
    shown = (
        bottom[0] if (len(below) == 1 and bottom[1] >= RAISED) or style is not UNICODE else style.brackets(bottom[0])
    )
    return style.quotient(top, shown), PRODUCT


def _is_below(e: Expression) -> bool:
    return e.op == "power" and e.data < 0


def _times(factors: list[Expression], style: Style) -> tuple[str, int]:
    if len(factors) == 1:
        return _set(factors[0], style)
    in_front = [f for f in factors if f.is_scalar]
    wide = [f for f in factors if not f.is_scalar]
    parts = [
        _at_least(f, style, PRODUCT if f.op == "number" else PREFIX if i + 1 == len(factors) else RAISED)
        for i, f in enumerate(in_front)
        if f.op != "matmul"
    ]
    chains = [_set(f, style)[0] for f in in_front if f.op == "matmul"]
    parts += [style.brackets(each) if wide or len(chains) > 1 else each for each in chains]
    if len(wide) == 1:
        parts.append(_at_least(wide[0], style, CHAIN))
    elif wide:
        parts.append(style.product([_at_least(f, style, CHAIN) for f in wide]))
    return style.chain(parts), PRODUCT


def _chain(e: Expression, style: Style) -> tuple[str, int]:
    return style.chain([_at_least(arg, style, PREFIX) for arg in e.args]), CHAIN


def _transpose(e: Expression, style: Style) -> tuple[str, int]:
    if e.args[0].op == "inv":
        return style.raised(_at_least(e.args[0].args[0], style, ATOM), "-T"), RAISED
    return style.raised(_at_least(e.args[0], style, ATOM), "T"), RAISED


def _power(e: Expression, style: Style) -> tuple[str, int]:
    if e.data < 0:
        positive = e.args[0] if e.data == -1 else Expression("power", e.args, e.shape, data=-e.data)
        return style.quotient(
            style.number("1"), _at_least(positive, style, RAISED) if style is UNICODE else _set(positive, style)[0]
        ), PRODUCT
    return style.raised(_at_least(e.args[0], style, ATOM), _number_text(e.data)), RAISED


def _function(e: Expression, style: Style) -> tuple[str, int]:
    inside = _set(e.args[0], style)[0]
    own: str = e.data.name
    name = {"sigmoid": "σ", "sqrt": "√"}.get(own, own)
    if e.data.name == "abs":
        return style.bars(inside, False), ATOM
    if e.data.name == "sqrt" and style is LATEX:
        return rf"\sqrt{{{inside}}}", ATOM
    if e.data.name == "sqrt" and style is MATHML:
        return f"<msqrt>{inside}</msqrt>", ATOM
    if e.data.name == "sqrt" and _set(e.args[0], style)[1] == ATOM:
        return style.prefix("√", inside), ATOM
    return style.call(style.word(name), inside), ATOM


def _ones(e: Expression, style: Style) -> tuple[str, int]:
    one = style.word("𝟏")
    if e.shape[0] == 1:
        return style.raised(one, "T"), RAISED
    if e.shape[1] == 1:
        return one, ATOM
    return style.chain([one, style.raised(one, "T")]), CHAIN


def _in_brackets(e: Expression, style: Style) -> str:
    shown = _set(e, style)[0]
    return style.brackets(shown) if e.args else shown


_SETTERS: Mapping[str, Callable[[Expression, Style], tuple[str, int]]] = {
    "symbol": lambda e, style: (style.name(*parts_of(e.data)), ATOM),
    "loss": lambda e, style: (style.name("ℓ", ""), ATOM),
    "gradient": lambda e, style: (style.fraction(style.name(*parts_of(e.data))), PREFIX),
    "size": lambda e, style: (style.name(*parts_of(e.data)), ATOM),
    "number": _number,
    "ones": _ones,
    "zeros": lambda e, style: (style.number("0"), ATOM),
    "identity": lambda e, style: (style.word("I"), ATOM),
    "add": _sum,
    "mul": _product,
    "matmul": _chain,
    "T": _transpose,
    "inv": lambda e, style: (style.raised(_at_least(e.args[0], style, ATOM), "-1"), RAISED),
    "power": _power,
    "apply": _function,
    "logdet": lambda e, style: (
        style.chain(
            [
                style.word("log"),
                style.bars(style.chain([style.word("det"), _at_least(e.args[0], style, RAISED)]), False),
            ]
        ),
        PREFIX,
    ),
    "det": lambda e, style: (style.call(style.word("det"), _set(e.args[0], style)[0]), ATOM),
    "norm": lambda e, style: (style.bars(_set(e.args[0], style)[0], True), ATOM),
    "norm2": lambda e, style: (style.raised(style.bars(_set(e.args[0], style)[0], True), "2"), RAISED),
    "d": lambda e, style: (style.prefix("d", _in_brackets(e.args[0], style)), RAISED),
}
