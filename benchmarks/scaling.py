"""How the cost of one gradient grows with width, depth, batch and classes, and that of compiling it with depth.

Closed form and autodiff of the same loss, side by side. Equality is checked at every point before it is timed.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, log, sqrt
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from manual_vs_autodiff import Case, Contender, arguments_of, autodiff, build, check_equal, closed_form
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, control, interleaved, machine, noise, often, seconds, spread, write_results, write_whole

from funcnet.checking import TOLERANCE, compare

WAYS = {"closed": closed_form, "autodiff": autodiff}
ROUND = 0.005
"""A round calls a program as often as takes so many seconds, so that what is timed is not the clock."""
POINT = 3.0
"""About how many seconds the rounds of a point may take."""
MOST_UNITS, MOST_LAYERS = 300_000, 20
"""The largest networks that are compared in float64. Among more units one may sit so close to relu's kink that float32
and float64 fall on two sides of it; in deeper ones roundings add up beyond what is allowed to a shallow network."""
BEND = 0.3
"""How far a slope is from the final one where a curve is said to bend."""


class Sweep(NamedTuple):
    """One number that varies, all else being the same.

    Attributes:
        name: What varies.
        network: What is run, in words.
        values: Its values, in order.
        quick: Three small ones.
        case: The case of a value.
        timed: What is timed.
    """

    name: str
    network: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    case: Callable[[int], Case]
    timed: str = "one gradient"

    @property
    def builds(self) -> bool:
        """Whether it is tracing and compiling that is timed."""
        return self.timed == BUILDING


BUILDING = "trace and compile"
WIDTHS = (64, 128, 256, 512, 1024, 2048)
DEPTHS = (1, 2, 4, 8, 16, 32)
BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
CLASSES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
SWEEPS = (
    Sweep("width", "w-w-w-10, batch 128", WIDTHS, (16, 32, 64), lambda w: Case((w, w, w, 10), 128)),
    Sweep("depth", "128-128ᵈ-10, batch 128", DEPTHS, (1, 2, 4), lambda d: Case((128,) * (d + 1) + (10,), 128)),
    Sweep("batch", "784-512-512-10", BATCHES, (8, 16, 32), lambda n: Case((784, 512, 512, 10), n)),
    Sweep("classes", "64-64-k, batch 128", CLASSES, (10, 30, 100), lambda k: Case((64, 64, k), 128)),
    Sweep(
        "depth of what is compiled",
        "32-32ᵈ-10, batch 32",
        (*DEPTHS, 64, 128, 256),
        (1, 2, 4),
        lambda d: Case((32,) * (d + 1) + (10,), 32),
        BUILDING,
    ),
)


@dataclass(frozen=True)
class Options:
    """What a gradient costs against width, depth, batch and classes, and what compiling costs against depth."""

    quick: bool = False
    """Three small points of each sweep and one round, to see that it works."""
    repeats: int = 40
    """Timed rounds of each point, fewer where a round takes long."""
    out: Path = Path("benchmarks/results")
    """Folder for tables (Markdown), numbers (JSON) and picture (PNG)."""


def check(arguments: tuple[Any, ...], contenders: dict[str, Contender]) -> str:
    """Refuse to time gradients that differ; say what they were compared with."""
    net, params, x, _ = arguments
    if x.shape[0] * sum(net.widths[1:]) <= MOST_UNITS and net.n_layers <= MOST_LAYERS:
        check_equal(arguments, contenders)
        return f"float64, {TOLERANCE['float32']:.0f}"
    allowed = TOLERANCE["float32"] * sqrt(net.n_layers)  # roundings add up along the layers
    result = compare(contenders["closed"].run(), contenders["autodiff"].run(), like=(params[0].b[0], params))
    if not result.error <= allowed:
        raise SystemExit(f"closed form and autodiff differ by more than {allowed:.0f}; nothing is timed\n{result}")
    return f"autodiff, {allowed:.0f}"


def anew(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], Any]:
    """Trace, lower and compile a function that nothing is cached of."""
    return lambda: jax.jit(partial(function)).lower(*arguments).compile() and None


def timed(runs: dict[str, Callable[[], Any]], least: float, repeats: int) -> dict[str, np.ndarray]:
    """Seconds of one call of each, round by round; those of the control workload behind them.

    The control is not among the rounds: it leaves the caches cold, which would make what follows a fifth slower.
    """
    slowest = max(seconds(run) for run in runs.values())
    calls = max(1, ceil(least / slowest))
    rounds = min(repeats, max(3, int(POINT / (len(runs) * calls * slowest))))
    times = interleaved({name: often(run, calls) for name, run in runs.items()}, rounds, warm_up=min(calls - 1, 1))
    quiet = interleaved({CONTROL: control()}, min(repeats, 5), warm_up=min(repeats - 1, 1))
    return {name: taken / calls for name, taken in times.items()} | quiet


def measure(sweep: Sweep, value: int, repeats: int) -> tuple[dict[str, Any], np.ndarray]:
    """One point, and the times of the control workload beside it."""
    arguments = arguments_of(sweep.case(value))
    contenders = {name: build(way, arguments) for name, way in WAYS.items()}
    point: dict[str, Any] = {"value": value, "checked": check(arguments, contenders)}
    if sweep.builds:
        times = timed({name: anew(way, arguments) for name, way in WAYS.items()}, 0.0, min(repeats, 7))
    else:
        times = timed({name: contender.run for name, contender in contenders.items()}, ROUND, repeats)
    for name, contender in contenders.items():
        point[name] = {
            "seconds": spread(times[name])._asdict(),
            "trace": contender.trace + contender.lower,
            "compile": contender.compile,
            "temporary": contender.temporary,
            "flops": contender.flops,
        }
    point["ratio"] = spread(times["closed"] / times["autodiff"])._asdict()
    return point, times[CONTROL]


def slopes(values: Sequence[int], numbers: Sequence[float]) -> list[float]:
    """d log(number) / d log(value) between neighbours; NaN where a number is 0."""
    logs = [log(number) if number > 0 else np.nan for number in numbers]
    return [float(slope) for slope in np.diff(logs) / np.diff(np.log(values))]


def final_slope(values: Sequence[int], numbers: Sequence[float]) -> float:
    """The slope of the least-squares line through the upper half of the points, both axes logarithmic."""
    half = len(values) // 2
    if min(numbers[half:]) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(values[half:]), np.log(numbers[half:]), 1)[0])


def bend(values: Sequence[int], local: Sequence[float], final: float) -> tuple[int, int] | None:
    """The first point after which the slope is far from the final one, and the point from which on it stays near."""
    far = [i for i, slope in enumerate(local) if abs(slope - final) > BEND]
    return (values[far[0]], values[far[-1] + 1]) if far else None


def growth(sweep: Sweep, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How each quantity of a sweep grows, for both ways."""
    quantities = ["seconds", "temporary", "flops"] + ["trace", "compile"] * sweep.builds
    values, rows = [point["value"] for point in points], []
    for quantity in quantities:
        for way in WAYS:
            numbers = [point[way][quantity] for point in points]
            numbers = [number["median"] if quantity == "seconds" else number for number in numbers]
            local, final = slopes(values, numbers), final_slope(values, numbers)
            of = {"sweep": sweep.name, "quantity": quantity, "way": way}
            rows.append({**of, "local": local, "final": final, "bend": bend(values, local, final)})
    return rows


def table_of(sweep: Sweep, points: Sequence[dict[str, Any]], grown: Sequence[dict[str, Any]]) -> Lines:
    """The points of a sweep for people, closed form | autodiff, with the slope of the time since the point before."""
    header = [sweep.name, f"{sweep.timed}, closed form", "autodiff", "ratio", "slopes", "temporary, MB", "MFLOP"]
    header += ["trace, ms", "compile, ms"] * sweep.builds + ["compared with"]
    local = {row["way"]: [float("nan"), *row["local"]] for row in grown if row["quantity"] == "seconds"}
    rows = []
    for i, point in enumerate(points):
        times = [
            "{median:.3g} ms ({low:.3g}–{high:.3g})".format_map({k: 1e3 * s for k, s in point[way]["seconds"].items()})
            for way in WAYS
        ]
        scales = [("temporary", "{:.3g}", 1e6), ("flops", "{:.4g}", 1e6)]
        scales += [("trace", "{:.0f}", 1e-3), ("compile", "{:.0f}", 1e-3)] * sweep.builds
        both = [" / ".join(text.format(point[way][key] / unit) for way in WAYS) for key, text, unit in scales]
        ratio = "{median:.3f} ({low:.3f}–{high:.3f})".format_map(point["ratio"])
        steep = " / ".join(f"{local[way][i]:.2f}" for way in WAYS) if i else ""
        rows.append([f"{point['value']:,}", *times, ratio, steep, *both, point["checked"]])
    return Lines(f"{sweep.name}: {sweep.network}", header, rows)


def growth_table(grown: Sequence[dict[str, Any]]) -> Lines:
    """Final slopes and bends."""
    rows = []
    for row in grown:
        bends = row["bend"]
        where = "no bend" if bends is None else f"after {bends[0]:,}; final slope from {bends[1]:,} on"
        way = "closed form" if row["way"] == "closed" else row["way"]
        rows.append([row["sweep"], row["quantity"], way, f"{row['final']:.2f}", where])
    title = f"Slopes of the upper half; a bend is where a slope is {BEND} off"
    return Lines(title, ["sweep", "quantity", "way", "final slope", "bend"], rows)


def draw_sweep(axes: Axes, sweep: Sweep, points: Sequence[dict[str, Any]], grown: Sequence[dict[str, Any]]) -> None:
    """Times with quartiles on the left axis, temporary memory (dotted) on the right."""
    values = [point["value"] for point in points]
    memory = axes.twinx()
    for way, colour, mark in (("closed", "C0", "o"), ("autodiff", "C1", "x")):
        low, middle, high = (np.array([p[way]["seconds"][q] for p in points]) for q in ("low", "median", "high"))
        final = next(r["final"] for r in grown if (r["quantity"], r["way"]) == ("seconds", way))
        name = "closed form" if way == "closed" else way
        errors = [middle - low, high - middle]
        axes.errorbar(
            values, middle, errors, color=colour, marker=mark, markersize=4, label=f"{name}, slope {final:.2f}"
        )
        memory.plot(values, [p[way]["temporary"] for p in points], ":", color=colour, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel=sweep.name, ylabel=f"seconds, {sweep.timed}")
    axes.set_xticks(values, [f"{value:,}" for value in values], fontsize=7, rotation=45)
    axes.set_xticks([], minor=True)
    memory.set(yscale="log")
    memory.set_ylabel("temporary bytes (dotted)", fontsize=7)
    axes.set_title(sweep.network, fontsize=8)
    axes.legend(fontsize=7, loc="upper left")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the sweeps, print their tables, write tables, numbers and picture."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    jax.config.update("jax_enable_compilation_cache", False)  # what is timed is compiling, not reading a file
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine())
    figure, record, page, grown = Figure(figsize=(13, 7.5), layout="constrained"), {}, [], []
    panels = figure.subplots(2, 3).flat
    for sweep, axes in zip(SWEEPS, panels, strict=False):
        values = sweep.quick if options.quick else sweep.values
        measured = [measure(sweep, value, 1 if options.quick else options.repeats) for value in values]
        points = [point for point, _ in measured]
        own, quiet = growth(sweep, points), noise({CONTROL: np.concatenate([times for _, times in measured])})
        lines = table_of(sweep, points, own)
        console.print(shown(lines), quiet, sep="\n")
        page.append(f"{markdown(lines)}\n\n{quiet}")
        record[sweep.name] = {"network": sweep.network, "points": points, "growth": own, "noise": quiet}
        draw_sweep(axes, sweep, points, own)
        grown += own
    figure.axes[len(SWEEPS)].set_axis_off()  # the sixth panel is not used
    figure.suptitle(machine(), fontsize=7)
    name = "scaling_quick" if options.quick else "scaling"
    console.print(shown(growth_table(grown)))
    page.append(markdown(growth_table(grown)))
    write_whole(options.out / f"{name}.png", lambda path: figure.savefig(path, dpi=120))
    console.print(write_results(options.out, name, record, "\n\n".join(page), "matplotlib"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
