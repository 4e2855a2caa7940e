"""The plain gradient by closed form and by autodiff of the same loss: what each costs to trace, compile, run and hold.

Equality is checked before anything is timed. Parity at run time is the honest expectation: both are the same products.
"""

import sys
import time
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
from tables import Lines, markdown, shown
from timing import CONTROL, control, interleaved, machine, noise, spread, write_results, write_whole

import funcnet as fn
from funcnet.checking import TOLERANCE, compare, reference_value_and_grad


class Case(NamedTuple):
    """A network and a batch. `dtype` may also be "bfloat16 operands": float32 with products of bfloat16."""

    widths: tuple[int, ...]
    batch: int
    dtype: str = "float32"
    activation: fn.Activation = fn.relu


SHALLOW, MIDDLE, DEEP = (784, 128, 10), (784, 512, 512, 10), (784, *[1024] * 4, 10)
GRID = [
    *(
        Case((784, *[width] * depth, 10), batch)
        for width in (128, 512, 1024)
        for depth in (1, 2, 4)
        for batch in (32, 128, 512)
    ),
    *(Case(MIDDLE, 128, dtype) for dtype in ("float16", "bfloat16", "float64", "bfloat16 operands")),
    *(Case(w, 128, activation=phi) for phi in (fn.sigmoid, fn.tanh, fn.gelu) for w in (SHALLOW, MIDDLE, DEEP)),
]
QUICK = [
    Case((64, 32, 10), 32), Case((64, 32, 32, 10), 64, "bfloat16"), Case((64, 32, 10), 32, "float64"),
    Case((64, 32, 10), 32, activation=fn.tanh),
]  # fmt: skip
BUILDS = 5
"""How often each program is traced, lowered and compiled; medians are kept."""
RELU, NEEDS_Z = ("relu",), ("sigmoid", "tanh")


class Goal(NamedTuple):
    """A ratio closed form / autodiff: its median over the grid is to be at most `most`, if anything was aimed at.

    Attributes:
        what: In words.
        ratio: Its name in a row.
        most: The aim.
        activations: Which rows it is about; None for all. The slopes of sigmoid and tanh are accurate only with z at
            hand, where autodiff makes do with φ(z).
    """

    what: str
    ratio: str
    most: float | None = None
    activations: tuple[str, ...] | None = None


GOALS = (
    Goal("run time", "run", 1.02),
    Goal("run time of autodiff, by itself", "again"),
    Goal("time to trace", "trace", 0.7),
    Goal("time to lower", "lower"),
    Goal("time to compile", "compile", 1.0),
    Goal("temporary memory, relu", "temporary", 1.0, RELU),
    Goal("temporary memory, sigmoid and tanh", "temporary", 1.9, NEEDS_Z),
    Goal("FLOPs", "flops", 1.0),
)


@dataclass(frozen=True)
class Options:
    """Closed-form against autodiff gradients: trace, compile and run time, memory, FLOPs."""

    quick: bool = False
    """A small grid and few repeats, to see that it works."""
    repeats: int = 60
    """Timed rounds of each case."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown), numbers (JSON) and picture (PNG)."""


class Contender(NamedTuple):
    """One way to the gradient, compiled for one case.

    Attributes:
        run: The compiled program on its arguments.
        trace: Seconds to trace.
        lower: Seconds to lower what was traced.
        compile: Seconds to compile what was lowered.
        temporary: Bytes of temporary memory, by XLA.
        flops: Floating-point operations, by XLA.
    """

    run: Callable[[], Any]
    trace: float
    lower: float
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
    """Trace, lower and compile several times, each step timed."""
    times: list[tuple[float, ...]] = []
    programs: list[Any] = []
    for _ in range(1 + BUILDS):  # the first one warms up
        start = time.perf_counter()
        traced = jax.jit(partial(function)).trace(*arguments)  # a new function each time: nothing is cached
        middle = time.perf_counter()
        lowered = traced.lower()
        end = time.perf_counter()
        programs.append(lowered.compile())
        times.append((middle - start, end - middle, time.perf_counter() - end))
    program = programs[-1]
    memory, cost = program.memory_analysis(), program.cost_analysis()
    trace, lower, compilation = np.median(times[1:], axis=0).tolist()
    flops = float(cost.get("flops", np.nan))
    return Contender(lambda: program(*arguments), trace, lower, compilation, memory.temp_size_in_bytes, flops)


def arguments_of(case: Case) -> tuple[fn.MLP, fn.Params, jax.Array, jax.Array]:
    """A classifier and a random batch."""
    widths, batch, dtype, activation = case
    operands = "bfloat16" if dtype == "bfloat16 operands" else None
    dtype = "float32" if operands else dtype
    net = fn.MLP(widths, activation=activation, loss=fn.softmax_cross_entropy, operand_dtype=operands)
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


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """All numbers of one case."""
    with jax.enable_x64(case.dtype == "float64"):
        arguments = arguments_of(case)
        contenders = {
            "closed": build(closed_form, arguments),
            "autodiff": build(autodiff, arguments),
            "again": build(autodiff, arguments),
        }
        check_equal(arguments, contenders)
        runs = {name: contender.run for name, contender in contenders.items()}
        times = interleaved(runs, repeats) | interleaved({CONTROL: control()}, min(repeats, 5))
    row: dict[str, Any] = {"network": "-".join(map(str, case.widths)), "batch": case.batch, "dtype": case.dtype}
    row |= {"activation": case.activation.name, CONTROL: times[CONTROL].tolist()}
    for name in ("closed", "autodiff"):
        row[name] = contenders[name]._replace(run=spread(times[name])._asdict())._asdict()
    ratios = {
        key: row["closed"][key] / row["autodiff"][key] for key in ("trace", "lower", "compile", "temporary", "flops")
    }
    ratios |= {
        key: float(np.median(times[name] / times["autodiff"])) for key, name in (("run", "closed"), ("again", "again"))
    }
    row["ratios"] = ratios
    return row


def table_of(rows: list[dict[str, Any]]) -> Lines:
    """The rows for people: closed form | autodiff, then ratios."""
    units = {
        "run, ms (quartiles)": lambda one: "{median:.3g} ({low:.3g}–{high:.3g})".format_map(
            {name: 1e3 * value for name, value in one["run"].items()}
        ),
        "trace + lower, ms": lambda one: f"{1e3 * one['trace']:.1f} + {1e3 * one['lower']:.1f}",
        "compile, ms": lambda one: f"{1e3 * one['compile']:.0f}",
        "temporary, MB": lambda one: f"{one['temporary'] / 1e6:.3g}",
        "MFLOP": lambda one: f"{one['flops'] / 1e6:.5g}",
    }
    ratios = {
        "run": "run ratio",
        "again": "autodiff / autodiff",
        "trace": "trace ratio",
        "temporary": "temporary ratio",
    }
    lines = []
    for row in rows:
        both = [f"{text(row['closed'])} / {text(row['autodiff'])}" for text in units.values()]
        case = [row["network"], str(row["batch"]), row["dtype"], row["activation"]]
        lines.append([*case, *both, *(f"{row['ratios'][name]:.3f}" for name in ratios)])
    header = ["network", "batch", "dtype", "activation", *units, *ratios.values()]
    return Lines("Closed form / autodiff of the same loss", header, lines)


def summary(rows: list[dict[str, Any]]) -> Lines:
    """Medians and ranges over the grid, beside what was aimed at."""
    lines = []
    for goal in GOALS:
        ratios = [
            row["ratios"][goal.ratio] for row in rows if row["activation"] in (goal.activations or row["activation"])
        ]
        middle = float(np.median(ratios))
        aim = "" if goal.most is None else f"≤ {goal.most}, {'not ' * (middle > goal.most)}reached"
        lines.append([goal.what, str(len(ratios)), f"{middle:.4f}", f"{min(ratios):.3f}–{max(ratios):.3f}", aim])
    return Lines("Closed form / autodiff over the grid", ["ratio of", "cases", "median", "range", "aim"], lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The ratios of each case, beside that of autodiff to itself."""
    figure = Figure(figsize=(9, 2 + 0.2 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    for ratio, marker, colour, label in (
        ("again", "x", "0.6", "autodiff / autodiff, run time (noise)"),
        ("run", "o", "C0", "closed form / autodiff, run time"),
        ("trace", "^", "C1", "closed form / autodiff, time to trace"),
        ("temporary", "|", "C3", "closed form / autodiff, temporary memory"),
    ):
        axes.scatter([row["ratios"][ratio] for row in rows], places, marker=marker, color=colour, label=label)
    axes.axvline(1, color="0.3", linewidth=0.8)
    names = [f"{row['network']}, batch {row['batch']}, {row['dtype']}, {row['activation']}" for row in rows]
    axes.set_yticks(places, names, fontsize=7)
    axes.set(xlabel="ratio (left of 1: the closed form needs less)", xlim=(0, None))
    axes.set_title(machine(), fontsize=6)
    axes.legend(fontsize=7)
    write_whole(path, lambda p: figure.savefig(p, dpi=120))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the grid, print the tables, write tables, numbers and picture."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    jax.config.update("jax_enable_compilation_cache", False)  # what is timed is compiling, not reading a file
    console = Console(width=None if sys.stdout.isatty() else 240, highlight=False, markup=False)
    console.print(machine())
    rows = [measure(case, 5 if options.quick else options.repeats) for case in (QUICK if options.quick else GRID)]
    tables, quiet = (summary(rows), table_of(rows)), noise({CONTROL: np.concatenate([row[CONTROL] for row in rows])})
    console.print(*map(shown, tables), quiet, sep="\n")
    name = "manual_vs_autodiff_quick" if options.quick else "manual_vs_autodiff"
    draw(rows, options.out / f"{name}.png")
    page = "\n\n".join([*map(markdown, tables), quiet])
    console.print(write_results(options.out, name, {"rows": rows}, page, "matplotlib"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
