"""Curvature from closed forms, against the best compositions of JAX's transformations, and against other packages.

That all give the same is checked before anything is timed. A plain gradient runs in the same rounds, so that products
stand in gradients as well. BackPACK and curvlinops stand beside them where they are installed (the extra `bench`).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from curvature_forms import AUTODIFF, CLOSED, DIAGONAL, GGN_VP, HVP, RANDOM
from curvature_peers import BUILDERS, DISTRIBUTIONS, available
from per_example_forms import Case, problem
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, Program, control, in_blocks, machine, noise, program, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare

FUNCNET, PLAIN = "funcnet", "plain gradient"
ROUNDINGS = 50
"""Long sums in another order: so many tolerances may lie between."""
FULL, QUICK = Case((784, 512, 512, 10), 256, {}), Case((16, 32, 10), 32, {})


class Aim(NamedTuple):
    """What a quantity is to reach.

    Attributes:
        gradients: Its time in plain gradients, at most.
        parity: Its time over that of the best composition, at most.
        faster: How many times faster than that it is, at least.
        memory: Its temporary memory over that of the best composition, at most.
    """

    gradients: float | None = None
    parity: float | None = None
    faster: float | None = None
    memory: float | None = None


AIMS = {HVP: Aim(2.3, 1.05), GGN_VP: Aim(1.8, 1.05), DIAGONAL: Aim(faster=100, memory=0.05)}


@dataclass(frozen=True)
class Options:
    """Hessian and Gauss-Newton products, Gauss-Newton diagonal, Kronecker factors: closed forms beside others."""

    quick: bool = False
    """A small network and few rounds, to see that it works."""
    repeats: int = 21
    """Timed rounds."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


def check_equal(name: str, forms: Mapping[str, Callable[[], Any]]) -> None:
    """Refuse to time what is not the same."""
    ours = forms[FUNCNET]()
    for label, run in forms.items():
        result = compare(run(), ours)
        if result.problems or not result.error <= ROUNDINGS * TOLERANCE["float32"]:
            raise SystemExit(f"{name}: {label} does not give what the closed form gives; nothing is timed\n{result}")


def measure_quantity(
    name: str, programs: Mapping[str, Program], peers: Mapping[str, Callable[[], Any]], plain: Program, repeats: int
) -> dict[str, Any]:
    """Seconds and temporary memory of a quantity's forms."""
    runs = {label: each.run for label, each in programs.items()}
    rounds = max(2, repeats // 7) if name == DIAGONAL else repeats  # its compositions take many seconds
    times = in_blocks(runs | {PLAIN: plain.run, CONTROL: control()}, rounds)
    over = {label: float(np.median(times[FUNCNET] / times[label])) for label in (*runs, PLAIN)}
    if peers:  # in rounds of their own: PyTorch's threads stay awake for a while, and slow down what comes next
        beside = in_blocks({FUNCNET: runs[FUNCNET], **peers}, repeats)
        over |= {label: float(np.median(beside[FUNCNET] / beside[label])) for label in peers}
        times |= {label: beside[label] for label in peers}
    return {
        "seconds": {label: value.tolist() for label, value in times.items()},
        "over": over,
        "best": max(AUTODIFF.get(name, {}), key=lambda label: over[label], default=None),
        "temporary": {label: each.temporary for label, each in programs.items()} | {PLAIN: plain.temporary},
    }


def measure(case: Case, builders: Mapping[str, Callable[..., Any]], repeats: int) -> dict[str, Any]:
    """Every quantity in every form."""
    net, params, x, y = problem(case)
    v = jax.tree.map(lambda w: jnp.asarray(np.random.default_rng(1).normal(0, 0.1, w.shape), w.dtype), params)
    plain, rows = program(fn.value_and_grad, net, params, x, y), {}
    peers = {label: build(net, params, x, y, v) for label, build in builders.items()}
    for name, closed in CLOSED.items():
        forms = {FUNCNET: closed} | AUTODIFF.get(name, {})
        programs = {label: program(fun, net, params, x, y, v) for label, fun in forms.items()}
        beside = {label: built[name] for label, built in peers.items() if name in built}
        if name not in RANDOM:
            given = {label: each.run for label, each in programs.items()}
            check_equal(name, given | {label: peer.read for label, peer in beside.items()})
        runs = {label: peer.run for label, peer in beside.items()}
        rows[name] = measure_quantity(name, programs, runs, plain, repeats)
    still = np.concatenate([row["seconds"][CONTROL] for row in rows.values()])
    about = {"network": "-".join(map(str, case.widths)), "batch": case.batch}
    return about | {"rows": rows, "noise": noise({CONTROL: still})}


def verdicts(name: str, row: Mapping[str, Any]) -> str:
    """What was aimed at, and whether it was reached."""
    if name not in AIMS:
        return ""
    aim, over, memory = AIMS[name], row["over"], row["temporary"]
    values = {"gradients ≤": over[PLAIN], f"of the time of {row['best']} ≤": over[row["best"]]}
    values |= {"times faster ≥": 1 / over[row["best"]], "of its memory ≤": memory[FUNCNET] / memory[row["best"]]}
    said = []
    for (words, value), wanted in zip(values.items(), aim, strict=True):
        if wanted is not None:
            reached = value >= wanted if words.endswith("≥") else value <= wanted
            said.append(f"{words} {wanted:g}: {value:.3g}, {'not ' * (not reached)}reached")
    return "; ".join(said)


def tables(measured: Mapping[str, Any], quick: bool) -> tuple[Lines, Lines]:
    """What was aimed at, and every form."""
    aims, lines = [], []
    for name, row in measured["rows"].items():
        aims += [] if quick or name not in AIMS else [[name, verdicts(name, row)]]
        for label, times in row["seconds"].items():
            if label in (PLAIN, CONTROL):
                continue
            median, low, high = spread(1e3 * np.array(times))
            memory = f"{row['temporary'][label] / 1e6:.3g}" if label in row["temporary"] else "–"
            ratio, gradients = f"{1 / row['over'][label]:.2f}", f"{row['over'][PLAIN] / row['over'][label]:.2f}"
            lines.append([name, label, f"{median:.3g} ({low:.3g}–{high:.3g})", ratio, gradients, memory])
    header = ["quantity", "form", "ms", "times funcnet's", "in plain gradients", "temporary, MB"]
    title = f"{measured['network']}, batch {measured['batch']}"
    return Lines(f"{title}: aims", ["quantity", "aims"], aims), Lines(f"{title}: every form", header, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    builders, left_out = available()
    packages = sorted({DISTRIBUTIONS[package] for label in builders for package in BUILDERS[label].packages})
    console.print(machine(*packages), *left_out, sep="\n")
    measured = measure(QUICK if options.quick else FULL, builders, 2 if options.quick else options.repeats)
    lines = tables(measured, options.quick)
    console.print(*map(shown, lines), measured["noise"], sep="\n")
    page = "\n\n".join([*left_out, *map(markdown, lines), measured["noise"]])
    name = "curvature_quick" if options.quick else "curvature"
    console.print(write_results(options.out, name, measured, page, *packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
