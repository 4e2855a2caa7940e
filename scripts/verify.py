"""Put every closed form of funcnet before its checker, or a function and gradient of your own.

Every pair of closed form, loss, activation, dtype and option is met at least once, in float64 and in the dtype itself,
compiled and eager. Errors are in units of eps times the leaf's largest entry. The status is 1 if anything is wrong.

    scripts/verify.py --function mine.py:loss    # with loss_grad and loss_args beside it in mine.py
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import Any

import jax
from rich.console import Console
from rich.text import Text

from funcnet.checking import GradientReport
from funcnet.interchange import write_whole
from funcnet.runs.command_line import Output, parse, run_script
from funcnet.runs.config import OpenPath, OpenText
from funcnet.verification import FORMS, Choice, catalogue, check, own_case


@dataclass(frozen=True)
class Options:
    """Put every closed form of funcnet before its checker, or a function and gradient of your own."""

    only: OpenText = None
    """Only closed forms whose name contains this, such as Loss or value_and_grad."""
    function: OpenText = None
    """Check a function of your own instead: module:name, with a module as it is imported or a path ending in .py."""
    gradient: OpenText = None
    """The name of its gradient there. By default name_grad, grad_name or dname; a custom_vjp function needs none."""
    args: OpenText = None
    """The name of a tuple of arguments there, or of a function that returns one. By default name_args."""
    argnums: tuple[int, ...] = (0,)
    """Which of the arguments the gradient is in."""
    json: OpenPath = None
    """A file for all numbers as JSON, which is overwritten."""
    jobs: int = min(4, os.cpu_count() or 1)
    """How many processes share the work."""


def summary(report: GradientReport) -> dict[str, Any]:
    """A report in plain values."""
    runs = [(run.name, run.found.error, run.allowed) for leaf in report.leaves for run in leaf.runs]
    errors = {
        name: max((error for own, error, _ in runs if own == name), default=None)
        for name in ("formula", "compiled", "eager")
    }
    return {
        "passed": report.passed,
        **errors,
        "allowed": max((allowed for name, _, allowed in runs if name != "formula"), default=None),
        "oracle": report.oracle,
        "diagnoses": [{"kind": d.kind, "leaves": d.paths, "text": d.text} for d in report.diagnoses],
        "leaves": [
            {
                "path": leaf.path, "shape": leaf.shape, "dtype": leaf.dtype, "right": leaf.right,
                **{run.name: {"error": run.found.error, "allowed": run.allowed} for run in leaf.runs},
            }
            for leaf in report.leaves
        ],
        "notes": report.notes,
        "text": str(report),
    }  # fmt: skip


@cache
def choices() -> list[Choice]:
    """The catalogue, built once in each process."""
    return catalogue()


def start_worker() -> None:
    """Let every process have float64, which half of the catalogue needs."""
    jax.config.update("jax_enable_x64", True)


def one(i: int) -> dict[str, Any]:
    """Run a check of the catalogue, by its number: reports travel between processes as plain values."""
    choice, start = choices()[i], time.perf_counter()
    try:
        result = summary(check(choice))
    except Exception as error:  # a check that cannot be run is a failure of its own, not of the others
        result = {"passed": False, "text": f"{type(error).__name__}: {error}"}
    return {"form": choice.form, **choice.setting._asdict(), **result, "seconds": time.perf_counter() - start}


def rows_of(numbers: Sequence[int], jobs: int) -> Iterator[dict[str, Any]]:
    """The checks' results in order, as they come."""
    if jobs <= 1 or len(numbers) <= jobs:
        start_worker()
        yield from map(one, numbers)
        return
    with ProcessPoolExecutor(min(jobs, len(numbers)), get_context("spawn"), start_worker) as pool:
        yield from pool.map(one, numbers)


COLUMNS = ("closed form", "activation", "loss", "dtype", "option", "float64", "compiled", "eager", "allowed", "verdict")
WIDTHS = (20, 11, 22, 9, 28, 8, 8, 8, 8, 7)


def cells(row: dict[str, Any]) -> list[Any]:
    """One line of the table; what does not concern a closed form is left out."""
    concerns = FORMS[row["form"]].factors
    errors = [row.get(name) for name in ("formula", "compiled", "eager", "allowed")]
    numbers = ["–" if error is None else f"{error:.2g}" for error in errors]
    verdict = Text("right", "green") if row["passed"] else Text("WRONG", "bold red")
    return [
        row["form"],
        *(row[f] if f in concerns else "" for f in ("activation", "loss", "dtype", "option")),
        *numbers,
        verdict,
    ]


def line(values: Sequence[Any]) -> Text:
    """A line in columns of fixed widths, so that each can be shown as soon as it is there."""
    parts = [v if isinstance(v, Text) else Text(str(v)) for v in values]
    for i, (part, width) in enumerate(zip(parts, WIDTHS, strict=True)):
        part.truncate(width)
        part.align("right" if 5 <= i < 9 else "left", width)
    return Text(" ").join(parts)


def verify_library(options: Options, console: Console) -> list[dict[str, Any]]:
    """Run the catalogue and show its lines as they come."""
    start_worker()
    numbers = [i for i, choice in enumerate(choices()) if (options.only or "") in choice.form]
    if not numbers:
        raise ValueError(f"--only must be part of a closed form's name; got {options.only!r}")
    console.print(line([Text(name, "bold") for name in COLUMNS]))
    rows = []
    for row in rows_of(numbers, options.jobs):
        rows.append(row)
        console.print(line(cells(row)))
        if not row["passed"]:
            console.print(Text(row["text"], "red"))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Verify, and say with the status whether all is right."""
    options, start = parse(Options, argv, __doc__, "verify.py"), time.perf_counter()
    console = Output(width=None if sys.stdout.isatty() else 160, highlight=False)
    try:
        if options.function is not None:
            own = own_case(options.function, options.gradient, options.args, options.argnums)
            report = own.check()
            rows = [{"form": own.name, **summary(report)}]
            console.print(Text(str(report), "green" if report.passed else "red"))
        else:
            rows = verify_library(options, console)
    except (ValueError, TypeError) as error:
        print(f"verify.py: {error}", file=sys.stderr)
        return 2
    wrong = sum(not row["passed"] for row in rows)
    if options.json is not None:
        write_whole(options.json, (json.dumps(rows, indent=1) + "\n").encode())
    if options.function is None:
        where = f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {options.jobs} processes"
        told = f"{len(rows) - wrong} of {len(rows)} checks right, {wrong} wrong, in {time.perf_counter() - start:.0f} s"
        console.print(Text(f"{told} ({where})", "bold red" if wrong else "bold green"))
    return 1 if wrong else 0


if __name__ == "__main__":
    run_script(main)
