"""Derived gradients against `jax.grad` of the same expression: run time, jitted, at sizes of 256 and more.

The expressions are those of textbooks (`textbook_gradients.py`) and of the page of derivations, each with sizes
of 256, 320, 384, …. That both give the same, to what rounding explains, is checked before anything
is timed. How long deriving takes is told for each, and for networks of up to 50 layers.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from textbook_gradients import TEXTBOOK
from timing import CONTROL, Program, control, in_blocks, interleaved, machine, noise, program, spread, write_results

from funcnet.derive import Derivation, derive, parse, shapes
from funcnet.derive.assignments import sizes_in
from funcnet.derive.gallery import EXAMPLES
from funcnet.derive.module import arguments, draw, namespace, source

DERIVED, AUTODIFF = "derived", "jax.grad"
MEDIAN, WORST, SECONDS = 1.0, 1.3, 2.0
BLOCK = 2e-3
"""Seconds of calls between one of the two and the other: shorter than the machine's slow phases."""
ROUNDING = 2e-3
"""The largest relative difference of two right float32 gradients: inverses of 256 × 256 matrices are among them."""


@dataclass(frozen=True)
class Options:
    """Derived gradients against automatic differentiation."""

    quick: bool = False
    """Small sizes, few expressions and rounds, to see that it works."""
    size: int = 256
    """Of the first dimension that has a name; the next ones are a quarter larger each."""
    repeats: int = 99
    """Timed rounds."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


class Case(NamedTuple):
    """An expression, and what it is derived in."""

    title: str
    derivation: Derivation
    seconds: float


def derived(title: str, make: Callable[[], Derivation]) -> Case:
    """Derive, and take the time."""
    start = time.perf_counter()
    derivation = make()
    return Case(title, derivation, time.perf_counter() - start)


def cases() -> list[Case]:
    """All expressions."""
    book = [
        derived(f"{source} in {wrt}", lambda s=source, w=words, v=wrt: derive(parse(s, w), v))
        for source, words, wrt, _ in TEXTBOOK
    ]
    return [*book, *(derived(example.title, example.derivation) for example in EXAMPLES.values())]


def programs(case: Case, size: int) -> dict[str, Program]:
    """The two gradients, compiled, at one random point."""
    symbols, space = arguments(case.derivation), namespace(source(case.derivation))
    names = [s.data for s in symbols]
    sizes = {each: size + size // 4 * i for i, each in enumerate(sorted(sizes_in(symbols)))}
    drawn = draw(case.derivation, jax.random.key(0), sizes, attempt=3)
    values = [jnp.asarray(near_identity(i, s.traits, drawn[s.data]), "float32") for i, s in enumerate(symbols)]
    wanted = [s.data for s in case.derivation.gradient]
    at = tuple(names.index(name) for name in wanted)

    def own(*args: Any) -> Any:
        value, gradients = space["value_and_grad"](*args)
        return value, tuple(jnp.broadcast_to(gradients[n], args[i].shape) for n, i in zip(wanted, at, strict=True))

    return {DERIVED: program(own, *values), AUTODIFF: program(jax.value_and_grad(space["loss"], at), *values)}


def near_identity(seed: int, traits: frozenset[str], value: np.ndarray) -> np.ndarray:
    """Matrices whose determinants float32 can hold at this size; vectors and shares as they are."""
    if value.ndim < 2 or 1 in value.shape or "sums_to_one" in traits:
        return value
    noise = np.random.default_rng(seed).normal(0, 0.4 / np.sqrt(len(value)), value.shape)
    return np.eye(*value.shape) + ((noise + noise.T) / 2 if "symmetric" in traits else noise)


def check_equal(case: Case, ways: dict[str, Program]) -> None:
    """Refuse to time what is not the same."""
    (value, own), (other, theirs) = (ways[label].run() for label in (DERIVED, AUTODIFF))
    for a, b in zip((value, *own), (other, *theirs), strict=True):
        error = float(jnp.linalg.norm(a - b) / (jnp.linalg.norm(b) + 1e-30))
        if not error < ROUNDING:
            raise SystemExit(f"{case.title}: derived and jax.grad differ by {error:.1g}; nothing is timed")


def measure(case: Case, size: int, repeats: int) -> dict[str, Any]:
    """Seconds of both."""
    ways = programs(case, size)
    check_equal(case, ways)
    times = in_blocks({label: each.run for label, each in ways.items()}, repeats, block=BLOCK)
    times |= interleaved({CONTROL: control()}, 3, warm_up=1)
    return {
        "seconds": {label: spread(value)._asdict() for label, value in times.items()},
        "ratio": float(np.median(times[DERIVED] / times[AUTODIFF])),
        "temporary": {label: each.temporary for label, each in ways.items()},
        "deriving": case.seconds,
    }


def network(depth: int) -> Derivation:
    """A network of so many layers, derived in all its weights."""
    symbols = shapes([*(f"W{i}=d{i}xd{i - 1}" for i in range(1, depth + 1)), "x=d0", f"y=d{depth},sums_to_one"])
    h = symbols["x"]
    for i in range(1, depth):
        h = parse(f"tanh(W{i}@h)", {**symbols, "h": h})
    return derive(parse(f"-y.T@log_softmax(W{depth}@h)", {**symbols, "h": h}), [f"W{i}" for i in range(1, depth + 1)])


def summary(rows: dict[str, Any], depths: dict[int, float]) -> list[str]:
    """What was aimed at, and whether it was reached."""
    ratios = np.array([row["ratio"] for row in rows.values()])
    median, worst = float(np.median(ratios)), max(rows, key=lambda title: rows[title]["ratio"])
    largest = rows[worst]["ratio"]
    deep = "; ".join(f"{depth} layers {seconds:.2f} s" for depth, seconds in depths.items())
    return [
        f"median of {len(rows)} ratios {median:.2f} ≤ {MEDIAN:g}: {'not ' * (median > MEDIAN)}reached",
        f"largest {largest:.2f} ≤ {WORST:g}: {'not ' * (largest > WORST)}reached ({worst})",
        f"deriving: {deep}; 10 layers ≤ {SECONDS:g} s: {'not ' * (depths[10] > SECONDS)}reached",
    ]


def line(title: str, row: dict[str, Any]) -> list[str]:
    """A row of the table."""
    medians = [f"{1e3 * row['seconds'][way]['median']:.3g}" for way in (DERIVED, AUTODIFF)]
    return [title, *medians, f"{row['ratio']:.2f}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(machine())
    listed, size, repeats = cases(), options.size, options.repeats
    if options.quick:
        listed, size, repeats = listed[::20], 16, 2
    rows = {case.title: measure(case, size, repeats) for case in listed}
    depths = {depth: derived("", lambda depth=depth: network(depth)).seconds for depth in (2, 10, 50)}
    lines = Lines(
        f"Derived gradients against jax.grad, sizes from {size}",
        ["expression", "derived, ms", "jax.grad, ms", "derived / jax.grad"],
        [line(title, row) for title, row in sorted(rows.items(), key=lambda item: item[1]["ratio"])],
    )
    still = noise({CONTROL: np.array([row["seconds"][CONTROL]["median"] for row in rows.values()])})
    said = summary(rows, depths)
    console.print(shown(lines), *said, still, sep="\n")
    page = "\n\n".join([markdown(lines), *said, still])
    record = {"rows": rows, "deriving": {str(depth): value for depth, value in depths.items()}}
    console.print(write_results(options.out, "derived_quick" if options.quick else "derived", record, page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
