"""Private training: what a step costs beside a plain one, and a published DP-SGD setting on MNIST.

The setting is that of Abadi et al. 2016, Deep learning with differential privacy, section 5.2: 60 principal
components found with noise, one hidden layer of 1,000 relu units, lots of 600, norms clipped to 4, a learning rate
from 0.1 down to 0.052 in ten epochs, δ = 1e-5. They report 90, 95 and 97 % of the test images at ε = 0.5, 2 and 8. ε
here is that of dp-accounting, of the principal components and all steps together; training ends where another epoch
would exceed it. A second recipe keeps network, noise and lots; its max_norm and rate were chosen on 10,000 of the
training images at ε = 2.
"""

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dp_accounting
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from dp_accounting.rdp import RdpAccountant
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, NEEDED, control, interleaved, machine, noise, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare
from funcnet.data import Dataset, load
from funcnet.training import Examples, Privacy, epoch_in_order, new_order, new_state, poisson_sum
from funcnet.training.private import Keys, private_epoch
from funcnet.training.programs import compiled

STEP = 1.5
"""How many times a plain step a private one may take."""
STEPS = 40
"""Steps of each timed program."""
NETWORKS = (((784, 128, 10), 128), ((784, 512, 512, 10), 256), ((784, 1024, 1024, 10), 512), ((60, 1000, 10), 600))
OPTIMIZERS = {"SGD": optax.sgd(0.1), "Adam": optax.adam(1e-3)}
DELTA, LOT, HIDDEN, COMPONENTS = 1e-5, 600, 1000, 60


class Level(NamedTuple):
    """A row of the paper: ε, σ of the steps, σ of the principal components, test accuracy."""

    epsilon: float
    noise: float
    components_noise: float
    accuracy: float


class Recipe(NamedTuple):
    """How the network is trained.

    Attributes:
        name: Of the recipe.
        max_norm: What norms are clipped to.
        first: The learning rate of the first step.
        last: The one it falls to, in a straight line.
        epochs: In so many epochs; None for all.
    """

    name: str
    max_norm: float
    first: float
    last: float
    epochs: int | None


RECIPES = (Recipe("published", 4.0, 0.1, 0.052, 10), Recipe("tuned", 1.0, 0.4, 0.04, None))
LEVELS = (Level(0.5, 8.0, 16.0, 0.90), Level(2.0, 4.0, 7.0, 0.95), Level(8.0, 2.0, 4.0, 0.97))


@dataclass(frozen=True)
class Options:
    """The cost of private steps, and a published setting on MNIST."""

    quick: bool = False
    """A small network and one epoch of MNIST, to see that it works."""
    repeats: int = 15
    """Timed rounds."""
    epochs: int = 1000
    """At most so many epochs of MNIST; ε = 8 allows 838, four minutes for each seed and recipe."""
    seeds: int = 3
    """Runs of each level and recipe."""
    data_dir: Path = field(default_factory=lambda: Path(os.environ.get("FUNCNET_MNIST_DIR", "mnist")))
    """Folder with MNIST's files; by default that of the environment variable FUNCNET_MNIST_DIR."""
    out: Path = Path("benchmarks/results")
    """Folder for tables (Markdown) and numbers (JSON)."""


def check_sum(net: fn.MLP, params: fn.Params, data: Examples) -> None:
    """Refuse to time a sum that is not that of clipped gradients: with everyone drawn it is known."""
    few = Examples(data.x[:32], data.y[:32], data.weights[:32])
    keys = Keys(*jax.random.split(jax.random.key(0), 3))
    got = jax.jit(lambda: poisson_sum(net, params, few, Privacy(1.0, 0.5), 32, keys)[0])()
    result = compare(got, fn.clipped_grad_sum(net, params, few.x, few.y, 0.5))
    if result.problems or not result.error <= TOLERANCE["float32"]:
        raise SystemExit(f"the sum is not that of clipped gradients; nothing is timed\n{result}")


def programs(widths: tuple[int, ...], batch: int, optimizer: Any) -> dict[str, Callable[[], Any]]:
    """Epochs of `STEPS` plain and private steps, compiled as `fit` compiles them."""
    net = fn.MLP(widths, activation=fn.relu, loss=fn.softmax_cross_entropy)
    random, n = np.random.default_rng(0), STEPS * batch
    x = jnp.asarray(random.normal(0, 1, (n, widths[0])), "float32")
    y = jnp.asarray(random.integers(0, widths[-1], n), "int32")
    data, params = Examples(x, y, jnp.ones(n, "float32")), fn.init(jax.random.key(0), net, dtype="float32")
    check_sum(net, params, data)
    state, privacy = new_state(jax.random.key(1), params, optimizer), Privacy(1.0, 1.0)
    rows = jnp.asarray(new_order(state.key, n, batch))
    plain, private = compiled(epoch_in_order, net), compiled(private_epoch, net)
    return {
        "plain": lambda: plain(net, optimizer, rows, state, data),
        "private": lambda: private(net, optimizer, privacy, batch, state, data),
    }


def steps_table(repeats: int, quick: bool) -> tuple[Lines, str, dict[str, Any]]:
    """Time of a private step beside a plain one."""
    lines, record, quiet = [], {}, []
    networks = (((16, 32, 10), 32),) if quick else NETWORKS
    for (widths, batch), (own, optimizer) in itertools.product(networks, OPTIMIZERS.items()):
        times = interleaved(programs(widths, batch, optimizer) | {CONTROL: control()}, repeats)
        quiet.append(times[CONTROL])
        ratio, name = float(np.median(times["private"] / times["plain"])), "-".join(map(str, widths))
        each = [
            "{median:.3g} ({low:.3g}–{high:.3g})".format_map(spread(1e3 * times[kind] / STEPS)._asdict())
            for kind in ("plain", "private")
        ]
        aim = "" if quick else f"≤ {STEP}, {'not ' * (ratio > STEP)}reached"
        lines.append([name, str(batch), own, *each, f"{ratio:.2f}", aim])
        seconds = {kind: times[kind].tolist() for kind in ("plain", "private")}
        record[f"{name}, {own}"] = {"batch": batch, "ratio": ratio, **seconds}
    columns = ["network", "batch", "optimizer", "plain step, ms", "private step, ms", "private / plain", "aim"]
    said = noise({CONTROL: np.concatenate(quiet)})
    return Lines("A step, private and plain", columns, lines), said, record


def components(x: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Principal directions of rows brought to norm 1, by their second moments with noise; a row moves these by 1."""
    rows = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    drawn = np.random.default_rng(seed).normal(0, deviation, (x.shape[1], x.shape[1]))
    moments = rows.T @ rows + np.triu(drawn) + np.triu(drawn, 1).T
    return np.linalg.eigh(moments)[1][:, ::-1][:, :COMPONENTS].astype(np.float32)


def spent(level: Level, rate: float, steps: int) -> float:
    """ε of the principal components and of so many steps together."""
    step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(level.noise))
    accountant = RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(level.components_noise))
    accountant.compose(step, steps)
    return float(accountant.get_epsilon(DELTA))


def epochs_within(level: Level, rate: float, steps: int, most: int) -> int:
    """The largest number of epochs that keep to the level's ε."""
    return max((n for n in range(1, most + 1) if spent(level, rate, n * steps) <= level.epsilon), default=0)


def accuracies(sets: dict[str, Dataset], level: Level, recipe: Recipe, epochs: int, seeds: int) -> list[float]:
    """Of the test images, for each seed."""
    (x, y), (test_x, test_y) = ((sets[part].x, sets[part].y) for part in ("train", "test"))
    net = fn.MLP((COMPONENTS, HIDDEN, 10), activation=fn.relu, loss=fn.softmax_cross_entropy)
    steps = -(-len(x) // LOT)
    rates = optax.linear_schedule(recipe.first, recipe.last, steps * (recipe.epochs or epochs))
    found = []
    for seed in range(seeds):
        axes = components(x, level.components_noise, seed)
        _, history = fn.fit(
            jax.random.key(seed), net, optax.sgd(rates), (x @ axes, y), epochs=epochs, batch_size=LOT,
            validation=(test_x @ axes, test_y), privacy=Privacy(level.noise, recipe.max_norm, DELTA),
        )  # fmt: skip
        found.append(float(history["validation_accuracy"][-1]))
    return found


def mnist_table(options: Options, sets: dict[str, Dataset]) -> tuple[Lines, dict[str, Any]]:
    """Test accuracy of each level by each recipe, over seeds."""
    n = len(sets["train"].x)
    steps, seeds = -(-n // LOT), 1 if options.quick else options.seeds
    lines, record = [], {}
    for level in LEVELS[1:2] if options.quick else LEVELS:
        epochs = 1 if options.quick else epochs_within(level, LOT / n, steps, options.epochs)
        epsilon = spent(level, LOT / n, epochs * steps)
        for recipe in RECIPES:
            found = accuracies(sets, level, recipe, epochs, seeds)
            mean = float(np.mean(found))
            reached = "" if options.quick else f"{'' if mean >= level.accuracy else 'not '}reached"
            own = [f"{mean:.2%} ± {np.std(found, ddof=seeds > 1):.2%}", f"{epsilon:.3g}", str(epochs), reached]
            lines.append([f"{level.epsilon:g}", f"{level.noise:g}", recipe.name, f"{level.accuracy:.0%}", *own])
            told = {"accuracies": found, "epsilon": epsilon, "epochs": epochs}
            record[f"{level.epsilon:g}, {recipe.name}"] = told
    columns = ["ε", "σ", "recipe", "published", f"funcnet, {seeds} seeds", "ε spent", "epochs", ""]
    return Lines("MNIST, setting of Abadi et al. 2016, accuracy on the test images", columns, lines), record


def main(argv: Sequence[str] | None = None) -> int:
    """Time the steps, train on MNIST where it is at hand, print and write the tables."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine("dp-accounting"))
    lines, quiet, steps = steps_table(2 if options.quick else options.repeats, options.quick)
    console.print(shown(lines), quiet, sep="\n")
    page, record = [markdown(lines), quiet], {"steps": steps}
    try:
        sets = load("mnist", folder=options.data_dir)
    except (OSError, ValueError) as error:
        console.print(f"MNIST is left out: {NEEDED}; {error}")
    else:
        lines, record["mnist"] = mnist_table(options, sets)
        console.print(shown(lines))
        page.append(markdown(lines))
    name = "private_training_quick" if options.quick else "private_training"
    console.print(write_results(options.out, name, record, "\n\n".join(page), "dp-accounting"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
