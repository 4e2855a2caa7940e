"""How the parts of a formula are set in Unicode, LaTeX and MathML."""

import html
from collections.abc import Callable
from typing import NamedTuple

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ", "kappa": "κ",
    "lam": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
    "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Sigma": "Σ",
    "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "yhat": "ŷ",
}  # fmt: skip
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

Join = Callable[[list[str]], str]


class Style(NamedTuple):
    """How the parts of a formula are set.

    Attributes:
        name: A symbol: its letters, and its index.
        number: A constant that is not negative.
        raised: A base and what stands above it: "T", "-1", "-T", or a number.
        sum: Signs and terms.
        product: Factors with ∘ between them.
        chain: Factors side by side.
        quotient: Numerator and denominator.
        call: A function and its argument.
        brackets: Round brackets.
        bars: |·| of a determinant; double for a norm.
        prefix: A sign such as d in front.
        fraction: ∂ℓ/∂X.
        word: An upright word.
    """

    name: Callable[[str, str], str]
    number: Callable[[str], str]
    raised: Callable[[str, str], str]
    sum: Callable[[list[tuple[str, str]]], str]
    product: Join
    chain: Join
    quotient: Callable[[str, str], str]
    call: Callable[[str, str], str]
    brackets: Callable[[str], str]
    bars: Callable[[str, bool], str]
    prefix: Callable[[str, str], str]
    fraction: Callable[[str], str]
    word: Callable[[str], str]


def _unicode_name(letters: str, index: str) -> str:
    below = index.translate(_SUBSCRIPTS) if index.isdigit() or not index else f"_{index}"
    return GREEK.get(letters, letters) + below


def _unicode_raised(base: str, what: str) -> str:
    above = {"T": "ᵀ", "-1": "⁻¹", "-T": "⁻ᵀ"}.get(what)
    if above is None:
        whole = what.lstrip("-").isdigit()
        above = what.translate(_SUPERSCRIPTS) if whole else f"^({what})"
    return base + above


def _signed(terms: list[tuple[str, str]]) -> str:
    (sign, first), *rest = terms
    return ("−" if sign == "-" else "") + first + "".join(f" {'−' if s == '-' else '+'} {t}" for s, t in rest)


UNICODE = Style(
    name=_unicode_name,
    number=lambda text: text,
    raised=_unicode_raised,
    sum=_signed,
    product=" ∘ ".join,
    chain=" ".join,
    quotient=lambda a, b: f"{a} / {b}",
    call=lambda f, x: f"{f}({x})",
    brackets=lambda x: f"({x})",
    bars=lambda x, double: f"‖{x}‖" if double else f"|{x}|",
    prefix=lambda sign, x: f"{sign}{x}",
    fraction=lambda x: f"∂ℓ/∂{x}",
    word=lambda text: text,
)


def _latex_name(letters: str, index: str) -> str:
    plain = letters if len(letters) == 1 else rf"\mathrm{{{letters}}}".replace("_", r"\_")
    known = {"lam": r"\lambda", "epsilon": r"\varepsilon", "yhat": r"\hat{y}"}
    body: str = known.get(letters, f"\\{letters}" if letters in GREEK else plain)
    return body + (f"_{{{index}}}" if index else "")


def _latex_sum(terms: list[tuple[str, str]]) -> str:
    (sign, first), *rest = terms
    return ("-" if sign == "-" else "") + first + "".join(f" {s} {t}" for s, t in rest)


def _latex_word(text: str) -> str:
    known = {
        "log": r"\log",
        "exp": r"\exp",
        "sin": r"\sin",
        "cos": r"\cos",
        "tanh": r"\tanh",
        "σ": r"\sigma",
        "√": r"\sqrt",
    }
    if text in known or text == "𝟏":
        return known.get(text, r"\mathbf{1}")
    primes = len(text) - len(text.rstrip("′"))
    return rf"\operatorname{{{text.rstrip('′')}}}".replace("_", r"\_") + "'" * primes


_LATEX_ABOVE = {"T": r"\top", "-T": r"-\top"}
LATEX = Style(
    name=_latex_name,
    number=lambda text: text if "/" not in text else r"\tfrac{{{}}}{{{}}}".format(*text.split("/")),
    raised=lambda base, what: f"{base}^{{{_LATEX_ABOVE.get(what, what)}}}",
    sum=_latex_sum,
    product=r" \circ ".join,
    chain=r"\, ".join,
    quotient=lambda a, b: rf"\frac{{{a}}}{{{b}}}",
    call=lambda f, x: rf"{f}\left({x}\right)",
    brackets=lambda x: rf"\left({x}\right)",
    bars=lambda x, double: rf"\left\lVert {x} \right\rVert" if double else rf"\left| {x} \right|",
    prefix=lambda sign, x: rf"\mathrm{{d}}{x}" if sign == "d" else f"{sign}{x}",
    fraction=lambda x: rf"\frac{{\partial \ell}}{{\partial {x}}}",
    word=_latex_word,
)


def _row(*parts: str) -> str:
    return "<mrow>" + "".join(parts) + "</mrow>"


def _mo(text: str) -> str:
    return f"<mo>{html.escape(text)}</mo>"


def _mathml_sum(terms: list[tuple[str, str]]) -> str:
    (sign, first), *rest = terms
    parts = [_mo("−"), first] if sign == "-" else [first]
    for s, t in rest:
        parts += [_mo("−" if s == "-" else "+"), t]
    return _row(*parts)


def _between(sign: str) -> Join:
    return lambda parts: _row(
        *(piece for i, part in enumerate(parts) for piece in ((_mo(sign), part) if i else (part,)))
    )


def _mathml_name(letters: str, index: str) -> str:
    body = f"<mi>{html.escape(GREEK.get(letters, letters))}</mi>"
    return f"<msub>{body}<mn>{html.escape(index)}</mn></msub>" if index else body


def _mathml_raised(base: str, what: str) -> str:
    above = {"T": "<mo>⊤</mo>", "-T": "<mrow><mo>−</mo><mo>⊤</mo></mrow>"}.get(what)
    if above is None:
        above = _row(_mo("−"), f"<mn>{what[1:]}</mn>") if what.startswith("-") else f"<mn>{what}</mn>"
    return f"<msup>{base}{above}</msup>"


MATHML = Style(
    name=_mathml_name,
    number=lambda text: (
        f"<mn>{text}</mn>" if "/" not in text else "<mfrac><mn>{}</mn><mn>{}</mn></mfrac>".format(*text.split("/"))
    ),
    raised=_mathml_raised,
    sum=_mathml_sum,
    product=_between("∘"),
    chain=_between("\u2062"),
    quotient=lambda a, b: f"<mfrac>{a}{b}</mfrac>",
    call=lambda f, x: _row(f, _mo("\u2061"), _mo("("), x, _mo(")")),
    brackets=lambda x: _row(_mo("("), x, _mo(")")),
    bars=lambda x, double: _row(*(_mo("‖" if double else "|"), x, _mo("‖" if double else "|"))),
    prefix=lambda sign, x: _row(f"<mi mathvariant='normal'>{sign}</mi>", x) if sign == "d" else _row(_mo(sign), x),
    fraction=lambda x: f"<mfrac><mrow><mo>∂</mo><mi>ℓ</mi></mrow><mrow><mo>∂</mo>{x}</mrow></mfrac>",
    word=lambda text: f"<mi mathvariant='normal'>{html.escape(text)}</mi>",
)
