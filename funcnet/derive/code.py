"""Python for JAX from expressions whose products have two factors each."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from funcnet.derive.algebra import transpose
from funcnet.derive.expression import Expression, Size, is_number

SUM, PRODUCT, SIGN, POWER, ATOM = range(5)
Text = tuple[str, int]


class Names(NamedTuple):
    """What things are called in the code.

    Attributes:
        sizes: Where each symbolic size can be read off.
        values: The variable that holds a node already computed.
        gradient: In front of a gradient's name.
    """

    sizes: Mapping[str, str]
    values: dict[str, str]
    gradient: str


def code(e: Expression, names: Names) -> str:
    """The code of an expression."""
    return _text(e, names)[0]


def _text(e: Expression, names: Names) -> Text:
    if e.digest in names.values:
        return names.values[e.digest], ATOM
    if e.args and not e.is_scalar and transpose(e).digest in names.values:
        return f"{names.values[transpose(e).digest]}.T", ATOM
    if e.op in _CALLS:
        return _CALLS[e.op].format(_text(e.args[0], names)[0]), ATOM
    return _WRITERS[e.op](e, names)


def _at_least(e: Expression, names: Names, binding: int) -> str:
    shown, own = _text(e, names)
    return shown if own >= binding else f"({shown})"


def _number(e: Expression, _: Names) -> Text:
    value = e.data
    if isinstance(value, Fraction) and value.denominator == 1:
        return str(value), ATOM if value >= 0 else SIGN
    if isinstance(value, Fraction) and float(value) != value:
        return f"({value.numerator} / {value.denominator})", ATOM
    return repr(float(value)), ATOM if value >= 0 else SIGN


def _size(size: Size, names: Names) -> str:
    return str(size) if isinstance(size, int) else names.sizes[size]


def _shape(e: Expression, names: Names) -> str:
    return f"({_size(e.shape[0], names)}, {_size(e.shape[1], names)})"


def _sum(e: Expression, names: Names) -> Text:
    shown = ""
    full = any(_fills(arg) for arg in e.args)
    for arg in e.args:
        text, own = _narrow(arg, names) if full else _text(arg, names)
        if shown and text.startswith("-") and own == SIGN:
            shown += f" - {text[1:]}"
        elif shown:
            shown += f" + {text if own > SUM else f'({text})'}"
        else:
            shown = text
    return shown, SUM


def _fills(e: Expression) -> bool:
    """Whether its code has the full shape, not one that is broadcast to it."""
    return not _spread(e)[1]


def _spread(e: Expression) -> tuple[Expression, bool]:
    """What is spread by a product with ones, and whether it is."""
    if e.op == "ones" and e.shape != (1, 1):
        return Expression("number", data=Fraction(1)), True
    if e.op == "mul" and not e.is_scalar and all(arg.is_scalar or arg.op == "ones" for arg in e.args):
        rest = tuple(arg for arg in e.args if arg.is_scalar)
        return rest[0] if len(rest) == 1 else Expression("mul", rest), True
    if e.op == "matmul" and len(e.args) == 2:
        a, b = e.args
        if b.op == "ones" and b.shape[0] == 1:
            return a, True
        if a.op == "ones" and a.shape[1] == 1:
            return b, True
    return e, False


def _narrow(e: Expression, names: Names) -> Text:
    """The code of a term that stands beside one of the full shape, which it may be broadcast to."""
    if e.digest in names.values:
        return names.values[e.digest], ATOM
    if e.op == "mul" and is_number(e.args[0], -1) and len(e.args) == 2:
        return f"-{_bracketed(_narrow(e.args[1], names), PRODUCT)}", SIGN
    return _text(_spread(e)[0], names)


def _bracketed(text: Text, binding: int) -> str:
    return text[0] if text[1] >= binding else f"({text[0]})"


def _product(e: Expression, names: Names) -> Text:
    if not e.is_scalar and _spread(e)[1]:
        return f"jnp.full({_shape(e, names)}, {_text(_spread(e)[0], names)[0]})", ATOM
    negative = e.args[0].op == "number" and e.args[0].data < 0
    args = (Expression("number", data=-e.args[0].data), *e.args[1:]) if negative else e.args
    above = [a for a in args if not (a.op == "power" and a.data < 0) and not is_number(a, 1)]
    below = [_positive(a) for a in args if a.op == "power" and a.data < 0]
    texts = [
        _bracketed(_narrow(a, names) if not e.is_scalar else _text(a, names), PRODUCT + (i > 0))
        for i, a in enumerate(above)
    ]
    shown = " * ".join(texts) or "1"
    for factor in below:
        shown += f" / {_at_least(factor, names, POWER)}"
    return (f"-{shown}", SIGN) if negative else (shown, PRODUCT)


def _positive(e: Expression) -> Expression:
    return e.args[0] if e.data == -1 else Expression("power", e.args, e.shape, data=-e.data)


def _power(e: Expression, names: Names) -> Text:
    if e.data < 0:
        return f"1 / {_at_least(_positive(e), names, POWER)}", PRODUCT
    exponent = str(e.data) if isinstance(e.data, Fraction) and e.data.denominator == 1 else repr(float(e.data))
    return f"{_at_least(e.args[0], names, ATOM)}**{exponent}", POWER


def _transpose(e: Expression, names: Names) -> Text:
    return f"{_at_least(e.args[0], names, ATOM)}.T", ATOM


def _matmul(e: Expression, names: Names) -> Text:
    left, right = e.args
    if e.is_scalar:
        return f"jnp.vdot({_untransposed(left, names)}, {_text(right, names)[0]})", ATOM
    return _pair(left, right, e, names)


def _untransposed(e: Expression, names: Names) -> str:
    """The entries of a row in whatever shape is simplest."""
    return _text(e.args[0] if e.op == "T" else e, names)[0]


def _pair(left: Expression, right: Expression, whole: Expression, names: Names) -> Text:
    """One multiplication; sums, spreads, scalings of rows and outer products are no matrix products."""
    if right.op == "ones" or left.op == "ones":
        axis, other = (1, left) if right.op == "ones" else (0, right)
        inner = left.shape[1]
        narrow = (
            f"jnp.sum({_text(other, names)[0]}, axis={axis}, keepdims=True)" if inner != 1 else _text(other, names)[0]
        )
        if (right.shape[1] if axis else left.shape[0]) == 1:
            return narrow, ATOM
        return f"jnp.broadcast_to({narrow}, {_shape(whole, names)})", ATOM
    if left.op == "diag":
        return f"{_at_least(left.args[0], names, PRODUCT)} * {_at_least(right, names, SIGN)}", PRODUCT
    if right.op == "diag":
        return f"{_at_least(left, names, PRODUCT)} * {_at_least(right.args[0], names, ATOM)}.T", PRODUCT
    if right.shape[1] == 1 and left.op == "T" and left.shape[1] != 1:  # a product with a transpose is slow of a vector
        return f"({_turned(right, names)} @ {_at_least(left.args[0], names, ATOM)}).T", ATOM
    if left.shape[0] == 1 and right.op == "T" and left.shape[1] != 1:
        return f"({_at_least(right.args[0], names, ATOM)} @ {_turned(left, names)}).T", ATOM
    sign = "*" if left.shape[1] == 1 else "@"
    return f"{_at_least(left, names, ATOM)} {sign} {_at_least(right, names, ATOM)}", PRODUCT


def _turned(e: Expression, names: Names) -> str:
    """The code of the transpose."""
    return _at_least(e.args[0], names, ATOM) if e.op == "T" else f"{_at_least(e, names, ATOM)}.T"


def _trace(e: Expression, names: Names) -> Text:
    inside = e.args[0]
    if inside.op != "matmul" or inside.digest in names.values:
        return f"jnp.trace({_text(inside, names)[0]})", ATOM
    left, right = inside.args
    return f"jnp.vdot({_turned(left, names)}, {_text(right, names)[0]})", ATOM


def _softmax(function: str) -> Callable[[Expression, Names], Text]:
    def write(e: Expression, names: Names) -> Text:
        return f"jax.nn.{function}({_text(e.args[0], names)[0]}, axis={int(e.shape[1] != 1)})", ATOM

    return write


def _log_sum_exp(e: Expression, names: Names) -> Text:
    inside = _text(e.args[0], names)[0]
    return f"jax.nn.logsumexp({inside})" if e.is_scalar else f"jax.nn.logsumexp({inside}, axis=1, keepdims=True)", ATOM


def _norm2(e: Expression, names: Names) -> Text:
    inside = e.args[0]
    if not inside.args or inside.digest in names.values:
        shown = _text(inside, names)[0]
        return f"jnp.vdot({shown}, {shown})", ATOM
    return f"jnp.sum({_at_least(inside, names, ATOM)} ** 2)", ATOM


_CALLS = {
    "inv": "jnp.linalg.inv({})",
    "det": "jnp.linalg.det({})",
    "logdet": "jnp.linalg.slogdet({})[1]",
    "sum": "jnp.sum({})",
    "norm": "jnp.linalg.norm({})",
    "diag": "jnp.diag(jnp.ravel({}))",
    "diagonal": "jnp.diagonal({})[:, None]",
}
_WRITERS: Mapping[str, Callable[[Expression, Names], Text]] = {
    "symbol": lambda e, names: (e.data, ATOM),
    "gradient": lambda e, names: (names.gradient + e.data, ATOM),
    "size": lambda e, names: (_size(e.data, names), ATOM),
    "number": _number,
    "ones": lambda e, names: (f"jnp.ones({_shape(e, names)})", ATOM),
    "zeros": lambda e, names: (f"jnp.zeros({_shape(e, names)})", ATOM),
    "identity": lambda e, names: (f"jnp.eye({_size(e.shape[0], names)})", ATOM),
    "add": _sum,
    "mul": _product,
    "power": _power,
    "T": _transpose,
    "matmul": _matmul,
    "trace": _trace,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "logsumexp": _log_sum_exp,
    "norm2": _norm2,
    "apply": lambda e, names: (e.data.python.format(_text(e.args[0], names)[0]), ATOM),
}
