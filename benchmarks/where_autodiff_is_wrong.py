"""Closed form against jax.grad against the truth: where autodiff fails, and controls where it does not.

Each case has a formula as users write it with jax.nn or jnp, funcnet's closed form of the same, and the truth: the
textbook's formula in mpmath with 50 digits, since neither of the two may be the judge of the other. A test makes the
table anew and compares it with the README's.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import tyro
from timing import write_whole

import funcnet as fn

DIGITS = 50
ALLOWED = 4.0
"""The largest error of a right number, in units of eps of its dtype times the truth."""
BEGIN, END = "<!-- where autodiff is wrong: begin -->", "<!-- where autodiff is wrong: end -->"
BELOW_HALF = 0.5 - 2.0**-25  # the next to ½ in float32
Number = Any  # of mpmath, which has no types


@dataclass(frozen=True)
class Options:
    """Closed form, jax.grad and the truth side by side, and which of the two is right."""

    write: bool = False
    """Put the table between its markers in the README."""
    readme: Path = Path(__file__).parent.parent / "README.md"
    """The file with the markers."""


class Case(NamedTuple):
    """One number, computed in three ways.

    Attributes:
        function: What a user writes, and which number of it is meant.
        where: The input, for people.
        dtype: The dtype of the input and of the results.
        z: The input.
        closed_form: The number, from z.
        usual: The scalar function of z that is given to jax.grad.
        truth: The number, from the entries of z as numbers of mpmath.
        entry: The entry of the gradient that is meant; None for the value.
    """

    function: str
    where: str
    dtype: str
    z: Any
    closed_form: Callable[[jax.Array], jax.Array]
    usual: Callable[[jax.Array], jax.Array]
    truth: Callable[..., Number]
    entry: tuple[int, ...] | None


class Row(NamedTuple):
    """A case, computed and judged."""

    case: Case
    closed_form: float
    autodiff: float
    truth: Number
    right: str


def units(got: float, truth: Number, dtype: str) -> float:
    """The error of `got` in units of eps times the truth; below the normal numbers, in units of their spacing."""
    if not np.isfinite(got):
        return float("inf")
    limits = jnp.finfo(dtype)
    return float(abs(mpmath.mpf(got) - truth) / (float(limits.eps) * max(abs(truth), float(limits.tiny))))


def verdict(closed_form: float, autodiff: float, truth: Number, dtype: str) -> str:
    """Which is right, judged by the truth alone."""
    ours, theirs = (units(got, truth, dtype) <= ALLOWED for got in (closed_form, autodiff))
    if ours:
        return "both" if theirs else "closed form"
    return "jax.grad" if theirs else "neither"


def true_number(case: Case, digits: int = DIGITS) -> Number:
    """The truth at the input as its dtype holds it."""
    held = np.ravel(np.asarray(case.z, jnp.dtype(case.dtype)).astype(np.float64)).tolist()
    with mpmath.workdps(digits):
        exact = {entry: mpmath.mpf(entry) for entry in set(held)}
        return case.truth(*(exact[entry] for entry in held))


def evaluate(cases: Sequence[Case]) -> list[Row]:
    """Compute cases, compiled and each in its own dtype; the configuration of JAX stays as it was."""
    rows = {}
    for wide in (False, True):
        here = {i: case for i, case in enumerate(cases) if (case.dtype == "float64") == wide}
        with jax.enable_x64(wide):
            inputs = {i: jnp.asarray(case.z, case.dtype) for i, case in here.items()}
            results = jax.jit(lambda inputs, here=here: {i: both(here[i], z) for i, z in inputs.items()})(inputs)
        for i, case in here.items():
            (ours, theirs), truth = map(float, results[i]), true_number(case)
            rows[i] = Row(case, ours, theirs, truth, verdict(ours, theirs, truth, case.dtype))
    return [rows[i] for i in range(len(cases))]


def both(case: Case, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The number in closed form and by autodiff."""
    value, gradient = jax.value_and_grad(case.usual)(z)
    return case.closed_form(z), value if case.entry is None else gradient[case.entry]


def softmax_case(
    formula: str, usual: Callable[..., jax.Array], dtype: str, where: str, z: Any, y: Any, entry: int | None = None
) -> Case:
    """The softmax cross-entropy of one example, y being its label or its weights of classes."""
    by_label = isinstance(y, int)

    def target(z: jax.Array) -> jax.Array:
        return jnp.asarray(y, "int32" if by_label else z.dtype)

    def closed_form(z: jax.Array) -> jax.Array:
        compute = fn.softmax_cross_entropy.value if entry is None else fn.softmax_cross_entropy.gradient
        return compute(z[None], target(z)[None])[0 if entry is None else (0, entry)]

    def truth(*z: Number) -> Number:
        held = {y: 1} if by_label else dict(enumerate(mpmath.mpf(float(v)) for v in np.asarray(y, dtype)))
        total = mpmath.fsum(count * mpmath.exp(logit) for logit, count in Counter(z).items())
        if entry is None:
            return mpmath.fsum(w * (mpmath.log(total) - z[j]) for j, w in held.items() if w)
        return mpmath.fsum(held.values()) * mpmath.exp(z[entry]) / total - held.get(entry, 0)

    what, index = ("value", None) if entry is None else (f"∂/∂z{'₀₁'[entry]}", (entry,))
    return Case(f"`{formula}`, {what}", where, dtype, z, closed_form, lambda z: usual(z, target(z)), truth, index)


def softmax_cases() -> list[Case]:
    """By label and by weights; saturated, with many classes, with masked ones, and where nothing is the matter."""
    label = partial(softmax_case, "-log_softmax(z)[y]", lambda z, y: -jax.nn.log_softmax(z)[y])
    weights = partial(softmax_case, "-sum(y * log_softmax(z))", lambda z, y: -jnp.sum(y * jax.nn.log_softmax(z)))
    naive = partial(softmax_case, "-log(softmax(z)[y])", lambda z, y: -jnp.log(jax.nn.softmax(z)[y]))
    pair, zeros = (37.43, 0.0), np.zeros(70_000)
    return [
        label("float64", "z = (37.43, 0), y = 0", pair, 0, 0),
        label("float64", "z = (37.43, 0), y = 0", pair, 0),
        label("float32", "z = (20, 0), y = 0", (20.0, 0.0), 0, 0),
        label("float32", "z = (10⁴, −10⁴, 0), y = 1", (1e4, -1e4, 0.0), 1, 1),
        label("float16", "z = 70,000 zeros, y = 0", zeros, 0),
        label("float16", "z = 70,000 zeros, y = 0", zeros, 0, 1),
        label("bfloat16", "z = 70,000 zeros, y = 0", zeros, 0, 1),
        weights("float32", "z = (1, 2, −∞), y = (1, 0, 0)", (1.0, 2.0, -np.inf), (1.0, 0.0, 0.0)),
        naive("float32", "z = (0, 200), y = 0", (0.0, 200.0), 0, 0),
    ]


def logistic(z: Number) -> Number:
    """1 / (1 + e^{−z})."""
    return 1 / (1 + mpmath.exp(-z))


def sigmoid_case(formula: str, usual: Callable[..., jax.Array], dtype: str, z: float, y: float) -> Case:
    """The slope of the sigmoid cross-entropy of one logit."""

    def closed_form(z: jax.Array) -> jax.Array:
        return fn.sigmoid_cross_entropy.gradient(z[None, None], jnp.full((1, 1), y, z.dtype))[0, 0]

    where = f"z = {text(z)}, y = {'½ − 2⁻²⁵' if y == BELOW_HALF else text(y)}"
    name, truth = f"`{formula}`, slope", lambda z: logistic(z) - y
    return Case(name, where, dtype, z, closed_form, lambda z: usual(z, y), truth, ())


def sigmoid_cases() -> list[Case]:
    """The manuals' formula that cannot overflow, the one from probabilities, and the shortest."""

    def from_probability(z: jax.Array, y: float) -> jax.Array:
        return -y * jnp.log(jax.nn.sigmoid(z)) - (1 - y) * jnp.log(1 - jax.nn.sigmoid(z))

    def stable(z: jax.Array, y: float) -> jax.Array:
        return jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))

    formula = "maximum(z, 0) - z*y + log1p(exp(-abs(z)))"
    return [
        sigmoid_case(formula, stable, "float32", 0.0, 1.0),
        sigmoid_case(formula, stable, "float64", 50.0, 1.0),
        sigmoid_case("-y*log(p) - (1-y)*log(1-p), p = sigmoid(z)", from_probability, "float32", 20.0, 0.0),
        sigmoid_case("log1p(exp(z)) - y*z", lambda z, y: jnp.log1p(jnp.exp(z)) - y * z, "float32", 0.0, BELOW_HALF),
    ]


def gelu_tanh(z: Number) -> Number:
    """½ z (1 + tanh(√(2/π) (z + 0.044715 z³)))."""
    return z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + mpmath.mpf("0.044715") * z**3)))


def activation_case(
    formula: str, ours: fn.Activation, usual: Any, dtype: str, z: float, truth: Any, what: str = "slope"
) -> Case:
    """The slope of an activation or its value. The truth is that of the value; mpmath differentiates."""

    def closed_form(z: jax.Array) -> jax.Array:
        return ours.slope(z, ours.value(z)) if what == "slope" else ours.value(z)

    true, entry = (partial(mpmath.diff, truth), ()) if what == "slope" else (truth, None)
    return Case(f"`{formula}`, {what}", f"z = {text(z)}", dtype, z, closed_form, usual, true, entry)


def activation_cases() -> list[Case]:
    """Saturated slopes, branches not taken, overflow, far tails, and where nothing is the matter."""
    case = activation_case
    branches, log1p_exp = (lambda z: jnp.where(z > 0, z, jnp.exp(z) - 1)), (lambda z: jnp.log1p(jnp.exp(z)))
    exact = partial(jax.nn.gelu, approximate=False)
    return [
        case("sigmoid(z)", fn.sigmoid, jax.nn.sigmoid, "float64", 40.0, logistic),
        case("sigmoid(z)", fn.sigmoid, jax.nn.sigmoid, "float64", -40.0, logistic),
        case("tanh(z)", fn.tanh, jnp.tanh, "float64", 20.0, mpmath.tanh),
        case("elu(z)", fn.elu, jax.nn.elu, "float64", -40.0, mpmath.expm1),
        case("where(z > 0, z, exp(z) - 1)", fn.elu, branches, "float32", 100.0, lambda z: z),
        case("log1p(exp(z))", fn.softplus, log1p_exp, "float32", 100.0, lambda z: mpmath.log1p(mpmath.exp(z))),
        case("softplus(z)", fn.softplus, jax.nn.softplus, "float32", 100.0, lambda z: mpmath.log1p(mpmath.exp(z))),
        case("gelu(z)", fn.gelu_tanh, jax.nn.gelu, "float16", 300.0, gelu_tanh),
        case("gelu(z)", fn.gelu_tanh, jax.nn.gelu, "float32", -6.0, gelu_tanh, "value"),
        case("gelu(z, approximate=False)", fn.gelu, exact, "float32", -12.0, lambda z: z * mpmath.ncdf(z), "value"),
    ]


def padded_case() -> Case:
    """The gradient of a batch filled up with a row that is not a number, at weight 0: the row is absent."""
    x, w = np.array([[1], [np.nan]], "float32"), np.array([[1, -1]], "float32")
    y, weights = np.array([0, 0], "int32"), np.array([1, 0], "float32")

    def closed_form(b: jax.Array) -> jax.Array:
        net = fn.MLP((1, 2), activation=fn.relu, loss=fn.softmax_cross_entropy)
        return fn.value_and_grad(net, (fn.Layer(jnp.asarray(w), b),), x, y, weights=weights)[1][0].b[0]

    def usual(b: jax.Array) -> jax.Array:
        losses = -jax.nn.log_softmax(x @ w + b[None])[jnp.arange(2), y]
        return jnp.sum(weights * losses) / jnp.sum(weights)

    name, where = "`sum(w * losses) / sum(w)`, ∂/∂b₀", "z = x·(1, −1) + b, x = (1, NaN), w = (1, 0), b = 0, y = 0"
    return Case(name, where, "float32", (0.0, 0.0), closed_form, usual, lambda b0, b1: logistic(2 + b0 - b1) - 1, (0,))


def cases() -> list[Case]:
    """All of them, in the order of the table; last, a square beyond float16 whose half is within."""

    def squared(z: jax.Array) -> jax.Array:
        return fn.half_squared_error.value(z[None], jnp.zeros_like(z)[None])[0]

    name, half = "`0.5 * sum((z - y)**2)`, value", lambda z: 0.5 * jnp.sum(z**2)
    beyond = Case(name, "z = 300, y = 0", "float16", (300.0,), squared, half, lambda z: z**2 / 2, None)
    return [*softmax_cases(), padded_case(), *sigmoid_cases(), *activation_cases(), beyond]


def text(x: float) -> str:
    """Three digits, so that all machines write the same."""
    if np.isnan(x):
        return "NaN"
    digits = "∞" if np.isinf(x) else f"{float(f'{abs(x):.3g}'):g}"
    return f"−{digits}" if x < 0 else digits


def table(rows: Sequence[Row]) -> str:
    """What stands between the markers: the version of JAX, then the table."""
    lines = ["| function | input | dtype | closed form | jax.grad | truth | right |", "|" + " --- |" * 7]
    for row in rows:
        numbers = (text(float(v)) for v in (row.closed_form, row.autodiff, row.truth))
        lines.append("| " + " | ".join([row.case.function, row.case.where, row.case.dtype, *numbers, row.right]) + " |")
    return "\n".join([f"jax {jax.__version__} on {jax.devices()[0].platform.upper()}:", "", *lines])


def put(block: str, path: Path) -> None:
    """Put the block between the markers of a file."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path} must have the markers {BEGIN} and {END}")
    write_whole(path, lambda p: p.write_text(f"{before}{begin}\n{block}\n\n{end}{after}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Compute the cases and print the table; with --write put it into the README."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    block = table(evaluate(cases()))
    print(block)
    if options.write:
        put(block, options.readme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
