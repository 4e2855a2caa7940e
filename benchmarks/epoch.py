"""An epoch of MNIST by funcnet, scikit-learn, PyTorch and a JAX step loop, beside the matrix products it is made of.

All learn from the same start with the same optimizer in batches of 128 in a new random order each epoch. That they take
the same step is checked before anything is timed; they are timed in turn, round by round.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import tyro
from epoch_peers import FUNCNET, SKLEARN, STEP_LOOP, TORCH, Builder, Problem, Settings, available, examples
from epoch_picture import draw
from epoch_products import products
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, NEEDED, control, interleaved, machine, noise, seconds, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare, reference_value_and_grad

NETWORKS, QUICK = ((784, 128, 10), (784, 512, 512, 10)), ((64, 32, 10),)
BATCH, WANTED, PRODUCTS = 128, 0.98, "products alone"
EPOCH_TARGETS = {
    NETWORKS[0]: {PRODUCTS: 0.75, SKLEARN: 3.0, TORCH: 2.0, STEP_LOOP: 1.4},
    NETWORKS[1]: {PRODUCTS: 0.88, SKLEARN: 3.5, TORCH: 1.7, STEP_LOOP: 1.2},
}
"""How many of funcnet's epochs are to fit into one of another; and what share of its own is to be products."""
WAY_TARGETS = {SKLEARN: 3.0, TORCH: 1.5}
"""How many of funcnet's ways to 98 % are to fit into one of another."""
COMPILE_TARGET = 1.0
"""Seconds that compiling an epoch may take."""
SMALL_STEPS, LARGE_STEPS = Settings(rate=1e-2, cycle=7), Settings(batch_size=256, rate=1.2e-2, cycle=7)
SOON = Settings(batch_size=256, rate=6e-3, cycle=4)
WAYS = {
    NETWORKS[0]: {FUNCNET: SMALL_STEPS, TORCH: LARGE_STEPS, STEP_LOOP: LARGE_STEPS},
    NETWORKS[1]: {FUNCNET: SOON, TORCH: SOON, STEP_LOOP: SOON},
}
"""How they learn on their way to 98 %: chosen by the time that it took on two or three of the seeds that are measured.

funcnet's were the fastest of those tried, PyTorch's among the fastest; the step loop, for which none were tried, has
PyTorch's. NOTES.md says how many were tried for each.
"""
SKLEARN_WAY = Settings(batch_size=200)
"""scikit-learn's own defaults, as fast as any that were tried; its Adam has a constant rate."""
PRODUCTS_TOLERANCE = 4 * TOLERANCE["float32"]
"""Each product takes over the roundings of those before it."""
EQUAL = 0.01
"""Test accuracies no further apart than this are called equal."""
SURE, NEAR = 0.01, 0.02
"""Where a gradient is above the first share of its largest entry, Adam's first step must be near its rate, whatever its
epsilon; the second says how near."""


@dataclass(frozen=True)
class Options:
    """Seconds of an epoch, of compiling it, and to an accuracy on the test part; with targets."""

    quick: bool = False
    """Random data, a small network and few rounds, to see that it works."""
    repeats: int = 7
    """Timed rounds: epochs of each contender."""
    to_98: bool = True
    """Measure the time to 98 % test accuracy (in a quick run: 50 %)."""
    seeds: int = 3
    """How often that is measured, each with another seed."""
    most_epochs: int = 40
    """When to give up on the way there."""
    data_dir: Path = field(default_factory=lambda: Path(os.environ.get("FUNCNET_MNIST_DIR", "mnist")))
    """Folder with MNIST's files; by default that of the environment variable FUNCNET_MNIST_DIR."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown), numbers (JSON) and picture (PNG)."""


class Way(NamedTuple):
    """A way to an accuracy: wall time and epochs until it was reached (or given up), and the accuracy then."""

    seconds: float
    epochs: int
    accuracy: float
    reached: bool


def problems(options: Options) -> list[Problem]:
    """The networks, each with initial parameters and data."""
    data = examples(options.quick, options.data_dir)
    networks = QUICK if options.quick else NETWORKS
    nets = [fn.MLP(widths, activation=fn.relu, loss=fn.softmax_cross_entropy) for widths in networks]
    return [Problem(net, fn.init(jax.random.key(0), net, dtype="float32"), *data) for net in nets]


def check_peers(problem: Problem, builders: dict[str, Builder]) -> str:
    """Refuse to time contenders that do not take the same step on one batch; say how near they were.

    A step of gradient descent at rate 1 shows the gradient, which is compared with that in float64. What Adam's first
    step must be follows from it.
    """
    one = problem._replace(**{part: getattr(problem, part)[:BATCH] for part in ("x", "y", "x_test", "y_test")})
    _, truth = reference_value_and_grad(fn.loss, argnums=1, compiled=True)(one.net, one.params, one.x, one.y)
    start, grads = one.matrices(), [np.asarray(leaf) for leaf in jax.tree.leaves(truth)]
    worst, furthest, rate = 0.0, 0.0, Settings().rate
    for name, build in builders.items():
        moves = {}
        for settings in (Settings(optimizer="sgd", rate=1.0), Settings()):
            peer = build(one, settings)
            peer.epoch()
            moves[settings.optimizer] = [np.float32(a - b) for a, b in zip(start, peer.matrices(), strict=True)]
        result = compare(moves["sgd"], grads, like=start)
        if result.problems:
            raise SystemExit(f"{name} has other parameters; nothing is timed\n{result}")
        for leaf, p, g, move in zip(result.leaves, start, grads, moves["adam"], strict=True):
            allowed = TOLERANCE["float32"] + np.max(np.abs(p)) / np.max(np.abs(g))  # parameters are rounded, too
            sure = np.abs(g) > SURE * np.max(np.abs(g))
            off = float(np.max(np.abs(move / rate - np.sign(g))[sure]))
            if not (leaf.error <= allowed and off <= NEAR):
                raise SystemExit(f"{name} does not follow the gradient; nothing is timed\n{leaf}\nAdam {off:.2%} off")
            worst, furthest = max(worst, float(leaf.error / allowed)), max(furthest, off)
    return f"gradients within {worst:.0%} of what rounding allows, Adam's first step within {furthest:.2%} of its rate"


def check_products(runs: dict[str, Callable[[], Any]]) -> None:
    """Refuse to time matrix products that are not the same."""
    expected = jax.tree.map(np.copy, next(iter(runs.values()))())
    for name, run in runs.items():
        result = compare(run(), expected)
        if not result.error <= PRODUCTS_TOLERANCE:
            raise SystemExit(f"{name} are not the others'; nothing is timed\n{result}")


def compile_seconds(problem: Problem) -> list[float]:
    """What `prepare` takes to compile an epoch where nothing is compiled yet, three times."""
    times, data = [], (problem.x, problem.y)
    for _ in range(3):
        jax.clear_caches()
        key, optimizer = jax.random.key(0), optax.adam(Settings().rate)
        prepared = fn.training.prepare(key, problem.net, optimizer, data, batch_size=BATCH, params=problem.params)
        times.append(prepared.compile_seconds)
    return times


def way_to(wanted: float, problem: Problem, build: Builder, settings: Settings, most_epochs: int) -> Way:
    """Train from a contender's own initial parameters, compile time included, evaluating after each epoch."""
    jax.clear_caches()
    epochs, accuracy, start = 0, 0.0, time.perf_counter()
    peer = build(problem, settings)
    while accuracy < wanted and epochs < most_epochs:
        peer.epoch()
        epochs, accuracy = epochs + 1, peer.accuracy()
    return Way(time.perf_counter() - start, epochs, accuracy, accuracy >= wanted)


def ways_to(wanted: float, problem: Problem, builders: dict[str, Builder], options: Options) -> dict[str, list[Way]]:
    """Those of all contenders, seed by seed in a new order."""
    random, ways = np.random.default_rng(0), {name: [] for name in builders}
    seeds, most_epochs = (1, 10) if options.quick else (options.seeds, options.most_epochs)
    for seed in range(seeds):
        own = problem._replace(params=None, seed=seed)
        for name in random.permutation(list(builders)).tolist():
            settings = SKLEARN_WAY if name == SKLEARN else WAYS.get(problem.net.widths, {}).get(name, Settings())
            ways[name].append(way_to(wanted, own, builders[name], settings, most_epochs))
    return ways


def settled(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, np.ndarray]:
    """Seconds of each, interleaved; just before it is timed each runs once untimed, which at first also compiles.

    Else the threads of the one before would still be in the way: PyTorch's epoch takes a tenth of a second longer.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}

    def twice(name: str) -> None:
        seconds(runs[name])
        times[name].append(seconds(runs[name]))

    interleaved({name: partial(twice, name) for name in runs}, repeats, warm_up=0)
    return {name: np.array(values) for name, values in times.items()}


def measure(problem: Problem, builders: dict[str, Builder], options: Options) -> dict[str, Any]:
    """All numbers of one network."""
    measured: dict[str, Any] = {"widths": problem.net.widths, "checked": check_peers(problem, builders)}
    measured["compile"] = compile_seconds(problem)
    peers = {name: build(problem, Settings()) for name, build in builders.items()}
    steps, repeats = -(-len(problem.x) // BATCH), 2 if options.quick else options.repeats
    bare = {f"{PRODUCTS}, {name}": run for name, run in products(problem.net.widths, BATCH, steps).items()}
    check_products(bare)
    runs = {name: peer.epoch for name, peer in peers.items()} | bare | {CONTROL: control()}
    times = settled(runs, repeats)
    for name, peer in peers.items():
        if peer.steps() != 2 * repeats * steps:
            raise SystemExit(f"{name} took {peer.steps()} steps; expected {steps} in each of {2 * repeats} epochs")
    measured |= {"seconds": {name: values.tolist() for name, values in times.items()}, "noise": noise(times)}
    measured |= {"epochs": 2 * repeats, "accuracy": {name: peer.accuracy() for name, peer in peers.items()}}
    measured["wanted"] = 0.5 if options.quick else WANTED
    measured["ways"] = ways_to(measured["wanted"], problem, builders, options) if options.to_98 else {}
    return measured


def ratios(measured: dict[str, Any], name: str) -> np.ndarray:
    """Seconds of an epoch by those of funcnet in the same round."""
    return np.array(measured["seconds"][name]) / np.array(measured["seconds"][FUNCNET])


def targets(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """What was aimed at and what came of it, as far as it was measured; `row` is the contender it is about.

    Another's way that was given up counts for as long as it lasted; none of funcnet's may be.
    """
    compiling = float(np.median(measured["compile"]))
    found = [(FUNCNET, "compile, s ≤", COMPILE_TARGET, compiling, compiling <= COMPILE_TARGET)]
    middle = {name: float(np.median(values)) for name, values in measured["seconds"].items()}
    for name, least in EPOCH_TARGETS.get(measured["widths"], {}).items():
        row = min((row for row in middle if row.startswith(name)), key=lambda row: middle[row], default=None)
        if row is not None:  # of the products the fastest
            ratio = float(np.median(ratios(measured, row)))
            found.append((row, "share ≥" if name == PRODUCTS else "epoch ≥", least, ratio, ratio >= least))
    ways = measured["ways"]
    for name, least in WAY_TARGETS.items() if measured["wanted"] == WANTED else ():
        if name in ways:
            own, other = (float(np.median([way.seconds for way in ways[n]])) for n in (FUNCNET, name))
            there = all(way.reached for way in ways[FUNCNET]) and other / own >= least
            found.append((name, f"to {WANTED:.0%} ≥", least, other / own, there))
    return [dict(zip(("row", "what", "target", "measured", "reached"), one, strict=True)) for one in found]


def way_text(ways: list[Way]) -> str:
    """Median and range of the seconds, and the epochs; or how often it was given up."""
    lost = [way.epochs for way in ways if not way.reached]
    if lost:
        return f"not reached in {max(lost)} epochs ({len(lost)} of {len(ways)})"
    times, epochs = [way.seconds for way in ways], [way.epochs for way in ways]
    return f"{np.median(times):.3g} ({min(times):.3g}–{max(times):.3g}), {min(epochs)}–{max(epochs)} epochs"


def table_of(title: str, measured: dict[str, Any]) -> Lines:
    """The table of a network: a row for each contender."""
    header = ["contender", "seconds an epoch", "ratio to funcnet", "test accuracy"]
    header += [f"seconds to {measured['wanted']:.0%}", "targets"]
    rows = []
    for name in [name for name in measured["seconds"] if name != CONTROL]:
        both = [spread(np.array(values)) for values in (measured["seconds"][name], ratios(measured, name))]
        both = [f"{median:.3g} ({low:.3g}–{high:.3g})" for median, low, high in both]
        accuracy = f"{measured['accuracy'][name]:.2%}" if name in measured["accuracy"] else ""
        way = way_text(measured["ways"][name]) if name in measured["ways"] else ""
        own = [one for one in measured["targets"] if one["row"] == name]
        met = [f"{t['what']} {t['target']:g}: {t['measured']:.3g}, {'not ' * (not t['reached'])}reached" for t in own]
        rows.append([name, *both, accuracy, way, "; ".join(met)])
    return Lines(title, header, rows)


def notes(measured: dict[str, Any]) -> list[str]:
    """What belongs under the table."""
    low, high = min(measured["accuracy"].values()), max(measured["accuracy"].values())
    equal = "equal" if high - low <= EQUAL else "not equal"
    compiling = ", ".join(f"{value:.2f}" for value in measured["compile"])
    return [
        f"checked before: {measured['checked']}",
        f"test accuracies after {measured['epochs']} epochs: {low:.2%} to {high:.2%}, {equal} within {EQUAL:.0%}",
        f"compiling funcnet's epoch: {compiling} s; {measured['noise']}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each network, print its table, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are of compiling, not of reading a file
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    builders, missing = available()
    console.print(machine(), *missing, sep="\n")
    try:
        given = problems(options)
    except FileNotFoundError as error:
        console.print(f"Nothing is measured without MNIST: {NEEDED}; {error}")
        return 0
    record, page, said = {}, [], ""
    packages = ["optax", "scikit-learn"] + ["torch"] * (TORCH in builders)
    for problem in given:
        name, measured = "-".join(map(str, problem.net.widths)), measure(problem, builders, options)
        measured["targets"] = targets(measured)
        lines, under = table_of(name, measured), notes(measured)
        console.print(shown(lines), *under, sep="\n")
        page += [markdown(lines), *under]
        record[name] = measured | {"ways": {n: [way._asdict() for way in w] for n, w in measured["ways"].items()}}
        stem = "epoch_quick" if options.quick else "epoch"
        draw(record, options.out / f"{stem}.png")
        said = write_results(options.out, stem, record, "\n\n".join(page), *packages)
    console.print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
