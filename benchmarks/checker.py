"""What a gradient checker catches: planted faults and correct gradients, put before `fn.check_gradient` and JAX's own.

JAX's `jax.test_util.check_grads` gets each gradient as the rule of a `jax.custom_vjp`, with its default tolerances. It
sees neither structure, nor the value, nor what compiling does, and says nothing of causes.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from correct_gradients import correct
from gradient_cases import Case
from jax.test_util import check_grads
from planted_faults import faults
from rich.console import Console
from rich.table import Table
from timing import machine, write_whole

import funcnet as fn


@dataclass(frozen=True)
class Options:
    """Put planted faults and correct gradients before both checkers."""

    every: int = 1
    """Only every so manieth case."""
    jobs: int = 2
    """How many processes share the work."""
    out: Path = Path("benchmarks/results")
    """Where the results go, as checker.json."""


def ours(case: Case) -> fn.GradientReport:
    """funcnet's checker on a case."""
    if case.grad_fun is not None:
        return fn.check_gradient(case.fun, case.grad_fun, *case.args, argnums=case.argnums, raises=False)
    rule = None if case.rule is case.fun else case.rule
    return fn.check_vjp(case.fun, *case.args, rule=rule, raises=False)


def _positions(case: Case) -> tuple[int, ...]:
    if case.grad_fun is not None:
        return (case.argnums,) if isinstance(case.argnums, int) else tuple(case.argnums)
    floats = [any(jnp.issubdtype(jnp.result_type(x), jnp.floating) for x in jax.tree.leaves(a)) for a in case.args]
    return tuple(i for i, is_float in enumerate(floats) if is_float)


def as_rule(case: Case) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A case as a function with a backward rule, of the arguments that it is differentiated in."""
    positions = _positions(case)

    def whole(given: Sequence[Any]) -> list[Any]:
        args = list(case.args)
        for i, value in zip(positions, given, strict=True):
            args[i] = value
        return args

    chosen = tuple(case.args[i] for i in positions)
    if case.grad_fun is None and case.rule is case.fun:
        return lambda *given: case.fun(*whole(given)), chosen
    rule = jax.custom_vjp(lambda *given: case.fun(*whole(given)))
    if case.grad_fun is None:
        fwd, bwd = case.rule
        rule.defvjp(lambda *given: fwd(*whole(given)), lambda saved, g: tuple(bwd(saved, g)[i] for i in positions))
        return rule, chosen

    def backward(given: Any, g: Any) -> Any:
        result = case.grad_fun(*whole(given)) if case.grad_fun is not None else None
        like = chosen[0] if isinstance(case.argnums, int) else chosen
        if jax.tree.structure(result) != jax.tree.structure(like) and isinstance(result, tuple):
            result = result[1]
        scaled = jax.tree.map(lambda leaf: g.astype(leaf.dtype) * leaf, result)
        return (scaled,) if isinstance(case.argnums, int) else tuple(scaled)

    rule.defvjp(lambda *given: (case.fun(*whole(given)), given), backward)
    return rule, chosen


def theirs(case: Case) -> bool:
    """Whether `jax.test_util.check_grads` accepts a case; any error is a refusal."""
    rule, args = as_rule(case)
    try:
        check_grads(rule, args, order=1, modes=("rev",))
    except Exception:  # a wrong gradient is an AssertionError; one of wrong shape may be anything
        return False
    return True


def start_worker() -> None:
    """Let every process have float64."""
    jax.config.update("jax_enable_x64", True)


@cache
def catalogue(name: str) -> list[Case]:
    """The faults, or the correct gradients: built once in each process, since some faults keep a state."""
    return faults() if name == "fault" else correct()


def one(which: tuple[str, int]) -> dict[str, Any]:
    """A case, by catalogue and number, before both."""
    case = catalogue(which[0])[which[1]]
    start, report = time.perf_counter(), None
    try:
        report = ours(case)
        text = str(report)
    except Exception as error:  # it would be a fault of the checker
        text = f"{type(error).__name__}: {error}"
    took = time.perf_counter() - start
    if which[1] % 40 == 0:
        jax.clear_caches()  # a thousand programs fill the memory
    kinds = sorted({cause.kind for cause in report.diagnoses}) if report is not None else []
    return {
        "catalogue": which[0],
        "name": case.name,
        "kind": case.kind,
        "passed": report is not None and report.passed,
        "failed": report is None,
        "found": kinds,
        "check_grads": theirs(case),
        "seconds": took,
        "text": text,
    }


def results(cases: Sequence[tuple[str, int]], jobs: int) -> Iterator[dict[str, Any]]:
    """The results in order."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), start_worker) as pool:
        yield from pool.map(one, cases)


def as_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Caught, missed and falsely accused, for both."""
    wrong = [row for row in rows if row["catalogue"] == "fault"]
    right = [row for row in rows if row["catalogue"] == "correct"]
    table = Table("", "fn.check_gradient, fn.check_vjp", "jax.test_util.check_grads")
    for name, own, key in (("caught", wrong, False), ("missed", wrong, True), ("falsely accused", right, False)):
        counts = [sum(row[checker] is key for row in own) for checker in ("passed", "check_grads")]
        what = "planted faults" if own is wrong else "correct gradients"
        table.add_row(f"{name}, of {len(own)} {what}", *map(str, counts))
    named = [row for row in wrong if row["kind"]]
    told = sum(row["kind"] in row["found"] for row in named)
    table.add_row(f"cause named, of {len(named)} faults with one", str(told), "0")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run both catalogues, print the table and what went wrong, write all as JSON."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    start_worker()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(machine())
    cases = [(name, i) for name in ("fault", "correct") for i in range(len(catalogue(name)))]
    rows, wrong = [], 0
    for row in results(cases[:: options.every], options.jobs):
        rows.append(row)
        good = row["passed"] if row["catalogue"] == "correct" else not row["passed"] and not row["failed"]
        named = row["kind"] is None or row["kind"] in row["found"]
        if not good or not named:
            wrong += 1
            what = "named otherwise" if good else "missed" if row["catalogue"] == "fault" else "accused"
            console.print(
                f"{what}: {row['name']} (expected {row['kind']}, found {', '.join(row['found'])})", markup=False
            )
    counts = Counter(row["kind"] or "wrong" for row in rows if row["catalogue"] == "fault")
    console.print("planted: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    console.print(as_table(rows))
    name = "checker.json" if options.every == 1 else f"checker_every_{options.every}.json"
    write_whole(options.out / name, lambda path: path.write_text(json.dumps(rows, indent=1) + "\n"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
