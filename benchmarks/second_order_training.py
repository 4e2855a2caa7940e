"""Training with curvature beside Adam: Gauss-Newton on regressions in the same wall time, K-FAC on MNIST.

Regressions are of test functions from the literature on surrogate models, by a network 1-20-20-1 in float64 on 200
points. Adam gets the wall time of Gauss-Newton's steps, and of six rates and schedules the one that ends lowest on
each run. Compiling is left out of both. On MNIST the test accuracy is looked at after each quarter of an epoch; rates
and schedules were chosen on these images, with more tries for K-FAC than for Adam.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.flatten_util import ravel_pytree
from rich.console import Console
from tables import Lines, markdown, shown
from timing import NEEDED, machine, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare
from funcnet.data import load
from funcnet.training import Examples, epoch_in_order, gauss_newton, kfac, new_order, new_state, step
from funcnet.training.programs import compiled

LOWER, EPOCHS = 1000.0, 0.5
"""How many times lower than Adam's the loss of Gauss-Newton is to be; what share of Adam's epochs K-FAC may take."""
DAMPING, POINTS, CALIBRATION = 1e-2, 200, 2000
CHECKED = 10.0
"""So much damping that the first step that is tried is taken: with less, one solved with more might be."""
WANTED, BATCH, QUARTERS = 0.98, 250, 4


class Function(NamedTuple):
    """A function of one variable on an interval."""

    value: Callable[[np.ndarray], np.ndarray]
    low: float
    high: float


FUNCTIONS = {
    "Forrester, Sóbester, Keane 2008": Function(lambda x: (6 * x - 2) ** 2 * np.sin(12 * x - 4), 0, 1),
    "Gramacy, Lee 2012": Function(lambda x: np.sin(10 * np.pi * x) / (2 * x) + (x - 1) ** 4, 0.5, 2.5),
    "Higdon 2002": Function(lambda x: np.sin(2 * np.pi * x / 10) + 0.2 * np.sin(2 * np.pi * x / 2.5), 0, 10),
}
RATES = (1e-2, 3e-3, 1e-3)
KFAC, ONE_CYCLE = "K-FAC, cosine of 1.5 epochs from 0.2", "Adam, one cycle of 3 epochs to 6e-3"


@dataclass(frozen=True)
class Options:
    """Gauss-Newton on regressions and K-FAC on MNIST, beside Adam."""

    quick: bool = False
    """Few steps, one seed, and a small part of MNIST, to see that it works."""
    steps: int = 500
    """Gauss-Newton's steps."""
    seeds: int = 3
    """Runs of each, from other initial parameters."""
    epochs: int = 12
    """When to give up on the way to 98 %."""
    data_dir: Path = field(default_factory=lambda: Path(os.environ.get("FUNCNET_MNIST_DIR", "mnist")))
    """Folder with MNIST's files; by default that of the environment variable FUNCNET_MNIST_DIR."""
    out: Path = Path("benchmarks/results")
    """Folder for tables (Markdown) and numbers (JSON)."""


def points(function: Function) -> Examples:
    """The function on a grid, features and targets standardised."""
    x = np.linspace(function.low, function.high, POINTS)[:, None]
    x, y = ((values - values.mean()) / values.std() for values in (x, function.value(x)))
    return Examples(jnp.asarray(x), jnp.asarray(y), jnp.ones(POINTS))


def trained(net: fn.MLP, params: fn.Params, data: Examples, optimizer: Any, steps: int) -> tuple[float, float]:
    """The loss after so many steps on all points, and the seconds that they took."""

    @jax.jit
    def run(state: Any) -> Any:
        return jax.lax.scan(
            lambda state, _: (step(net, optimizer, state, data, None, "regression")[0], None), state, length=steps
        )[0]

    state = new_state(jax.random.key(0), params, optimizer)
    program = run.lower(state).compile()
    start = time.perf_counter()
    end = jax.block_until_ready(program(state))
    seconds = time.perf_counter() - start
    return float(fn.loss(net, end.params, data.x, data.y)), seconds


def check_step(net: fn.MLP, params: fn.Params, data: Examples) -> None:
    """Refuse to time steps that are not the solution of the damped Gauss-Newton system."""
    optimizer = gauss_newton(CHECKED)
    state, _ = step(net, optimizer, new_state(jax.random.key(0), params, optimizer), data, None, "regression")
    wanted = fn.gauss_newton_step(net, params, data.x, data.y, CHECKED)
    moved = jax.tree.map(jnp.subtract, state.params, params)
    result = compare(ravel_pytree(moved)[0], ravel_pytree(wanted)[0])
    if result.problems or not result.error <= 100 * TOLERANCE["float64"]:
        raise SystemExit(f"the first step is not that of gauss_newton_step; nothing is timed\n{result}")


def adams(steps: int) -> dict[str, Any]:
    """Adam with each rate, constant and falling to 0."""
    constant = {f"{rate:g}": optax.adam(rate) for rate in RATES}
    return constant | {f"{rate:g}, cosine": optax.adam(optax.cosine_decay_schedule(rate, steps)) for rate in RATES}


def regressions(options: Options) -> tuple[Lines, dict[str, Any]]:
    """Loss of Gauss-Newton and of the best Adam after the same wall time."""
    net = fn.MLP((1, 20, 20, 1), activation=fn.tanh, loss=fn.half_squared_error)
    steps, seeds = (20, 1) if options.quick else (options.steps, options.seeds)
    lines, record = [], {}
    for name, function in FUNCTIONS.items():
        data, runs = points(function), []
        for seed in range(seeds):
            params = fn.init(jax.random.key(seed), net, dtype="float64")
            check_step(net, params, data)
            loss, seconds = trained(net, params, data, gauss_newton(DAMPING), steps)
            _, of_some = trained(net, params, data, optax.adam(RATES[0]), CALIBRATION)
            count = max(1, round(CALIBRATION * seconds / of_some))
            ends = {label: trained(net, params, data, each, count) for label, each in adams(count).items()}
            best = min(ends, key=lambda label: ends[label][0])
            own = {"seed": seed, "loss": loss, "seconds": seconds, "adam_steps": count, "best": best}
            runs.append(own | {"adam_loss": ends[best][0], "adam_seconds": ends[best][1]})
        ratios = [run["adam_loss"] / run["loss"] for run in runs]
        columns = [span([run[key] for run in runs]) for key in ("loss", "seconds", "adam_loss", "adam_seconds")]
        counts = span([run["adam_steps"] for run in runs], ".0f")
        aim = "" if options.quick else f"≥ {LOWER:g}: {'' if min(ratios) >= LOWER else 'not '}reached"
        lines.append([name, *columns[:2], *columns[2:], counts, f"{min(ratios):.2g}", aim])
        record[name] = runs
    header = ["function", "loss", "s", "Adam's loss", "s", "steps", "least ratio", "aim"]
    return Lines(f"1-20-20-1, float64, {steps} Gauss-Newton steps beside Adam, {seeds} seeds", header, lines), record


def span(values: Sequence[float], form: str = ".2g") -> str:
    """The smallest and the largest."""
    return f"{min(values):{form}} to {max(values):{form}}"


class Way(NamedTuple):
    """A way to the accuracy: epochs and seconds of training until it was reached, or given up, and what it was."""

    epochs: float
    seconds: float
    accuracy: float


def way_to(wanted: float, net: fn.MLP, optimizer: Any, parts: Any, seed: int, most: int) -> Way:
    """Train by quarters of epochs until the test part is classified so well."""
    (x, y), (test_x, test_y) = ((jnp.asarray(part.x), jnp.asarray(part.y)) for part in parts)
    data = Examples(x, y, jnp.ones(len(x), x.dtype))
    epoch, params = compiled(epoch_in_order, net), fn.init(jax.random.key(seed), net, dtype="float32")
    right = jax.jit(lambda params: jnp.mean(jnp.argmax(fn.apply(net, params, test_x), axis=1) == test_y))

    def quarters(number: int) -> list[Any]:
        return np.split(new_order(jax.random.fold_in(jax.random.key(seed), number), len(x), BATCH), QUARTERS)

    warm = new_state(jax.random.key(seed), params, optimizer)
    jax.block_until_ready(epoch(net, optimizer, jnp.asarray(quarters(0)[0]), warm, data))
    state, seconds = new_state(jax.random.key(seed), params, optimizer), 0.0
    accuracy = taken = 0
    while taken < most * QUARTERS and accuracy < wanted:
        rows = jnp.asarray(quarters(taken // QUARTERS)[taken % QUARTERS])
        start = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(net, optimizer, rows, state, data))
        seconds += time.perf_counter() - start
        accuracy, taken = float(right(state.params)), taken + 1
    return Way(taken / QUARTERS, seconds, accuracy)


def mnist_table(options: Options, parts: Mapping[str, Any]) -> tuple[Lines, dict[str, Any]]:
    """Epochs and seconds to the accuracy."""
    small = slice(2000) if options.quick else slice(None)
    both = [parts[name]._replace(x=parts[name].x[small], y=parts[name].y[small]) for name in ("train", "test")]
    net = fn.MLP((784, 512, 512, 10), activation=fn.relu, loss=fn.softmax_cross_entropy)
    wanted, seeds, most = (0.8, 1, 3) if options.quick else (WANTED, options.seeds, options.epochs)
    epoch = len(both[0].x) // BATCH  # in steps
    falling = optax.cosine_decay_schedule(0.2, round(1.5 * epoch))
    optimizers: dict[str, Any] = {KFAC: kfac(falling, 0.95), "K-FAC, 0.1": kfac(0.1)}
    optimizers |= {f"Adam, {rate:g}": optax.adam(rate) for rate in (5e-4, 1e-3, 2e-3)}
    optimizers[ONE_CYCLE] = optax.adam(optax.cosine_onecycle_schedule(3 * epoch, 6e-3))
    ways = {
        label: [way_to(wanted, net, optimizer, both, seed, most) for seed in range(seeds)]
        for label, optimizer in optimizers.items()
    }
    lines, own = [], float(np.mean([way.epochs for way in ways[KFAC]]))
    for label, each in ways.items():
        mean = float(np.mean([way.epochs for way in each]))
        lost = sum(way.accuracy < wanted for way in each)
        aim = f"{own / mean:.2f} ≤ {EPOCHS:g}: {'' if own <= EPOCHS * mean else 'not '}reached"
        epochs = span([way.epochs for way in each]) + f" ({lost} of {seeds} not there)" * bool(lost)
        seconds = span([way.seconds for way in each], ".1f")
        lines.append(
            [label, f"{mean:.3g}", epochs, seconds, aim if label.startswith("Adam") and not options.quick else ""]
        )
    header = ["optimizer", "epochs, mean", "from, to", "seconds", "K-FAC's share of them"]
    title = f"784-512-512-10 on MNIST in batches of {BATCH} to {wanted:.0%} of the test images, {seeds} seeds"
    return Lines(title, header, lines), {label: [way._asdict() for way in each] for label, each in ways.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print and write the tables."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine("optax"))
    with jax.enable_x64(True):
        lines, record = regressions(options)
    console.print(shown(lines))
    page, record = [markdown(lines)], {"regressions": record}
    try:
        parts = load("mnist", folder=options.data_dir)
    except (OSError, ValueError) as error:
        console.print(f"MNIST is left out: {NEEDED}; {error}")
    else:
        lines, record["mnist"] = mnist_table(options, parts)
        console.print(shown(lines))
        page.append(markdown(lines))
    name = "second_order_training_quick" if options.quick else "second_order_training"
    console.print(write_results(options.out, name, record, "\n\n".join(page), "optax"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
