"""Gradients of installed packages put before the checker: scikit-learn's, written by hand, Optax's and those of jax.nn.

Found is what the checker says, with its evidence where that tells more. In scikit-learn's rows the value that comes
with the gradient was compared as well: the function checked against is its own loss. "Right" is what neither finite
differences in float64 nor the arithmetic of float32 contradict.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from others_cases import Case, nn_cases, optax_cases, sklearn_cases
from rich.console import Console
from rich.table import Table

import funcnet as fn

QUICK = 20
COLUMNS = ("package", "function", "derivative rules", "input", "found")


@dataclass(frozen=True)
class Options:
    """What `fn.check_gradient` and `fn.check_vjp` find in gradients of scikit-learn, Optax and jax.nn."""

    markdown: bool = False
    """Print the table as Markdown."""
    only: str = ""
    """Only functions with this in their name, or in that of their package."""
    quick: bool = False
    """Every so manieth case only."""


class Row(NamedTuple):
    """A case, the derivative rules that it calls, and what was found."""

    case: Case
    rules: str
    report: fn.GradientReport
    value: float

    @property
    def ratio(self) -> float:
        """That of the gradient to the truth, by least squares."""
        return self.report.leaves[-1].runs[0].found.ratio


def rules_in(fun: Callable[..., Any], *args: Any) -> str:
    """The names of the derivative rules that a function calls."""
    names, left = set(), [jax.make_jaxpr(fun)(*args).jaxpr]
    while left:
        for equation in left.pop().eqns:
            inner = equation.params.get("call_jaxpr")
            if equation.primitive.name.startswith("custom_") and inner is not None:
                names.add(inner.jaxpr.debug_info.func_name)
            parts = [getattr(part, "jaxpr", part) for part in jax.tree.leaves(list(equation.params.values()))]
            left += [part for part in parts if hasattr(part, "eqns")]
    return ", ".join(sorted(names)) or "none"


def check(case: Case) -> Row:
    """Check a case under JAX's default promotion, and with x64 for scikit-learn alone; the configuration is kept."""
    by_hand = case.package == "scikit-learn"
    with jax.enable_x64(by_hand), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        rules = "by hand" if by_hand else rules_in(case.fun, *case.args)
        if case.grad_fun is None:
            return Row(case, rules, fn.check_vjp(case.fun, *case.args, raises=False), 0.0)
        report = fn.check_gradient(case.fun, case.grad_fun, *case.args, raises=False)
        return Row(case, rules, report, float(case.fun(*case.args)))


def found(row: Row) -> str:
    """What the checker found, in words."""
    report, texts = row.report, []
    if row.case.function == "MLPRegressor":
        texts.append(f"ratio {row.ratio:.3f}")
    if not np.isfinite(row.value):
        texts.append(f"the function is {row.value}")
    for cause in report.diagnoses:
        worst = next((leaf.worst.found for leaf in report.leaves if leaf.path in cause.paths and leaf.worst), None)
        numbers = f" (at worst {worst.got:.3g} for {worst.expected:.3g})" if worst else ""
        texts.append(f"{cause.kind}: {cause.text}{numbers}")
    for each in report.kinks:
        sides = "a kink between slopes {:.4g} and {:.4g}".format(*each.left_and_right)
        texts += [f"{sides}, gives {each.gradient:.4g}"] if each.index is not None else []
    rights = {each.right for each in report.evidence}
    if report.passed and rights <= {"cannot tell"}:
        texts.append("finite differences cannot tell")
    elif report.passed and rights & {"gradient", "neither"}:
        texts.append("passed, with evidence that jax.grad of the plain function is wrong")
    elif report.passed and not any(each.index is not None for each in report.kinks):
        zero = all(each.gradient == 0 < each.uncertainty for each in report.evidence)
        texts.append(
            "at a kink, as it allows" if report.kinks else "0, and so say finite differences" if zero else "right"
        )
    return "; ".join(texts)


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The lines of the table; neighbours that differ in their input alone share one."""
    lines = [(f"{r.case.package} {version(r.case.package)}", r.case.function, r.rules, found(r), r) for r in rows]
    shared = [(key, [line[-1] for line in group]) for key, group in groupby(lines, key=lambda line: line[:-1])]
    return [(*key[:-1], "; ".join(r.case.where for r in group), key[-1]) for key, group in shared]


def main(argv: Sequence[str] | None = None) -> int:
    """Check all, print the table."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    cases = [case for part in (sklearn_cases, optax_cases, nn_cases) for case in part()]
    chosen = [case for case in cases if options.only in f"{case.package} {case.function}"]
    lines = table([check(case) for case in (chosen[::QUICK] if options.quick else chosen)])
    if options.markdown:
        print("\n".join(f"| {' | '.join(line)} |" for line in (COLUMNS, ["---"] * len(COLUMNS), *lines)))
        return 0
    shown = Table(*COLUMNS)
    for line in lines:
        shown.add_row(*line)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
