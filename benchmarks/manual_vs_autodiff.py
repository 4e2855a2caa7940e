"""The plain gradient by closed form and by autodiff of the same loss: what each costs to trace, compile, run and hold.

Equality is checked before anything is timed. Parity at run time is the honest expectation: both are the same products.
"""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from timing import interleaved, machine, seconds, spread, write_whole

import funcnet as fn
from funcnet.checking import TOLERANCE, compare, reference_value_and_grad

GRID = [
    *(
        ((784, *[width] * depth, 10), batch, "float32")
        for width in (128, 512, 1024)
        for depth in (1, 2, 4)
        for batch in (32, 128, 512)
    ),
    *(((784, 512, 512, 10), 128, dtype) for dtype in ("float16", "bfloat16", "float64", "bfloat16 operands")),
]
QUICK = [((64, 32, 10), 32, "float32"), ((64, 32, 32, 10), 64, "bfloat16"), ((64, 32, 10), 32, "float64")]


@dataclass(frozen=True)
class Options:
    """Closed-form against autodiff gradients: trace, compile and run time, memory, FLOPs."""

    quick: bool = False
    """A small grid and few repeats, to see that it works."""
    repeats: int = 60
    """Timed rounds of each case."""
    out: Path = Path("benchmarks/results")
    """Folder for the table (CSV) and the picture (PNG)."""


class Contender(NamedTuple):
    """One way to the gradient, compiled for one case.

    Attributes:
        run: The compiled program on its arguments.
        trace: Seconds to trace and lower, the median of three.
        compile: Seconds to compile.
        temporary: Bytes of temporary memory, by XLA.
        flops: Floating-point operations, by XLA.
    """

    run: Callable[[], Any]
    trace: float
    compile: float
    temporary: int
    flops: float


def closed_form(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array) -> Any:
    """The gradient of funcnet."""
    return fn.value_and_grad(net, params, x, y)


def autodiff(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array) -> Any:
    """The gradient of the same loss by JAX."""
    return jax.value_and_grad(fn.loss, argnums=1)(net, params, x, y)


def build(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Contender:
    """Trace, lower and compile, each timed."""

    def lower() -> Any:
        return jax.jit(partial(function)).lower(*arguments)  # a new function each time: nothing is cached

    lower()
    trace = float(np.median([seconds(lower) for _ in range(3)]))
    lowered = lower()
    compiled: list[Any] = []
    compile_seconds = seconds(lambda: compiled.append(lowered.compile()))
    program = compiled[0]
    memory, cost = program.memory_analysis(), program.cost_analysis()
    return Contender(
        lambda: program(*arguments), trace, compile_seconds, memory.temp_size_in_bytes, float(cost.get("flops", np.nan))
    )


def arguments_of(widths: tuple[int, ...], batch: int, dtype: str) -> tuple[fn.MLP, fn.Params, jax.Array, jax.Array]:
    """A relu classifier and a random batch."""
    operands = "bfloat16" if dtype == "bfloat16 operands" else None
    dtype = "float32" if operands else dtype
    net = fn.MLP(widths, activation=fn.relu, loss=fn.softmax_cross_entropy, operand_dtype=operands)
    random = np.random.default_rng(0)
    x = jax.numpy.asarray(random.normal(0, 1, (batch, widths[0])), dtype)
    y = jax.numpy.asarray(random.integers(0, widths[-1], batch), "int32")
    return net, fn.init(jax.random.key(0), net, dtype=dtype), x, y


def check_equal(arguments: tuple[Any, ...], contenders: dict[str, Contender]) -> None:
    """Refuse to time gradients that are not those of the loss in float64."""
    net, params = arguments[:2]
    reference = reference_value_and_grad(fn.loss, argnums=1, compiled=True)(*arguments)
    for name, contender in contenders.items():
        result = compare(contender.run(), reference, like=(params[0].b[0], params))
        bound = {leaf.dtype: TOLERANCE[leaf.dtype] for leaf in result.leaves}
        if net.operand_dtype:  # rounded operands: bfloat16's eps instead of float32's
            bound = {"float32": 4 * 2.0**16}
        if result.problems or any(leaf.error > bound[leaf.dtype] for leaf in result.leaves):
            raise SystemExit(f"{name} is not the gradient of the loss; nothing is timed\n{result}")


def measure(case: tuple[tuple[int, ...], int, str], repeats: int) -> dict[str, Any]:
    """One row of the table."""
    widths, batch, dtype = case
    with jax.enable_x64(dtype == "float64"):
        arguments = arguments_of(widths, batch, dtype)
        contenders = {
            "closed": build(closed_form, arguments),
            "autodiff": build(autodiff, arguments),
            "control": build(autodiff, arguments),
        }
        check_equal(arguments, contenders)
        times = interleaved({name: contender.run for name, contender in contenders.items()}, repeats)
    row: dict[str, Any] = {"network": "-".join(map(str, widths)), "batch": batch, "dtype": dtype}
    for name in ("closed", "autodiff"):
        row |= {f"{name}_{field}_ms": 1e3 * value for field, value in spread(times[name])._asdict().items()}
        row[f"{name}_trace_ms"], row[f"{name}_compile_ms"] = (
            1e3 * contenders[name].trace,
            1e3 * contenders[name].compile,
        )
        row[f"{name}_temporary_mb"], row[f"{name}_mflops"] = (
            contenders[name].temporary / 1e6,
            contenders[name].flops / 1e6,
        )
    row["run_ratio"] = float(np.median(times["closed"] / times["autodiff"]))
    row["control_ratio"] = float(np.median(times["control"] / times["autodiff"]))
    row["trace_ratio"] = row["closed_trace_ms"] / row["autodiff_trace_ms"]
    row["compile_ratio"] = row["closed_compile_ms"] / row["autodiff_compile_ms"]
    return row


def as_table(rows: list[dict[str, Any]]) -> Table:
    """The rows for people: closed form | autodiff, then ratios."""
    table = Table(title="Closed form | autodiff of the same loss")
    for column in (
        "network",
        "batch",
        "dtype",
        "run, ms (quartiles)",
        "trace, ms",
        "compile, ms",
        "temp., MB",
        "MFLOP",
    ):
        table.add_column(column)
    for column in ("run ratio", "control", "trace ratio"):
        table.add_column(column, justify="right")
    for row in rows:
        both = [
            " | ".join(
                text.format_map({key.removeprefix(f"{name}_"): row[key] for key in row if key.startswith(name)})
                for name in ("closed", "autodiff")
            )
            for text in (
                "{median_ms:.3g} ({low_ms:.3g}-{high_ms:.3g})",
                "{trace_ms:.0f}",
                "{compile_ms:.0f}",
                "{temporary_mb:.2f}",
                "{mflops:.1f}",
            )
        ]
        ratios = (f"{row[name]:.2f}" for name in ("run_ratio", "control_ratio", "trace_ratio"))
        table.add_row(row["network"], str(row["batch"]), row["dtype"], *both, *ratios)
    return table


def summary(rows: list[dict[str, Any]]) -> str:
    """The medians over the grid, in one line."""
    names = ("run", "control", "trace", "compile")
    run, control, trace, compilation = (np.median([row[f"{name}_ratio"] for row in rows]) for name in names)
    return (
        f"Median over {len(rows)} cases, closed form / autodiff: run {run:.3f} "
        f"(autodiff against itself {control:.3f}), trace {trace:.3f}, compile {compilation:.3f}"
    )


def draw(rows: list[dict[str, Any]], caption: str, path: Path) -> None:
    """The run-time ratio of each case, beside that of autodiff against itself."""
    figure = Figure(figsize=(9, 2 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    axes.scatter(
        [row["control_ratio"] for row in rows], places, marker="x", color="0.6", label="autodiff / autodiff (noise)"
    )
    axes.scatter([row["run_ratio"] for row in rows], places, label="closed form / autodiff, run time")
    axes.scatter([row["trace_ratio"] for row in rows], places, marker="^", label="closed form / autodiff, trace time")
    axes.axvline(1, color="0.3", linewidth=0.8)
    axes.set_yticks(places, [f"{row['network']}, {row['batch']}, {row['dtype']}" for row in rows], fontsize=7)
    axes.set(xlabel="ratio (left of 1: the closed form is faster)", xlim=(0, None))
    axes.set_title(caption, fontsize=6)
    axes.legend(fontsize=7)
    write_whole(path, lambda p: figure.savefig(p, dpi=120))


def save(rows: list[dict[str, Any]], path: Path) -> None:
    """All numbers as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the grid, print the table, write CSV and picture."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 240)
    where = machine()
    console.print(where)
    cases = QUICK if options.quick else GRID
    rows = [measure(case, 5 if options.quick else options.repeats) for case in cases]
    console.print(as_table(rows), summary(rows), sep="\n")
    name = "manual_vs_autodiff_quick" if options.quick else "manual_vs_autodiff"
    write_whole(options.out / f"{name}.csv", lambda path: save(rows, path))
    draw(rows, where, options.out / f"{name}.png")
    console.print(f"Table and picture: {options.out / name}.csv, .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
