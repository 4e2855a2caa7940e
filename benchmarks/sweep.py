"""Many networks at once against one after the other: 64 networks 64-32-10 on scikit-learn's digits.

Both train the same networks on the same orders by a program compiled once. That they end with the same parameters is
checked before anything is timed.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, control, interleaved, machine, noise, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare
from funcnet.data import load
from funcnet.training import Sweep, fit_many, grid, new_order
from funcnet.training.preparation import Prepared, prepare

TARGET = 1.8
ROUNDINGS = 50
"""Adam divides small gradients by small roots, so that after an epoch the two are this many tolerances apart."""
ADAM = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)


@dataclass(frozen=True)
class Options:
    """64 networks as one program against one after the other."""

    quick: bool = False
    """4 networks and one epoch, to see that it works."""
    epochs: int = 10
    """Epochs that each network is trained for."""
    repeats: int = 5
    """Timed rounds."""
    batch_size: int = 32
    """Examples for each step."""
    out: Path = Path("benchmarks/results")
    """Folder for what was measured."""


class Case:
    """The sweep, and what either way of training it needs."""

    def __init__(self, quick: bool, epochs: int, batch_size: int) -> None:
        """Read the data and compile both programs."""
        digits = load("digits")["train"]
        order = np.random.default_rng(0).permutation(len(digits.x))
        self.train, self.validation = ((digits.x[rows], digits.y[rows]) for rows in (order[:1400], order[1400:]))
        self.net = fn.MLP((64, 32, 10), activation=fn.relu, loss=fn.softmax_cross_entropy, l2=0.0, dropout=0.0)
        rates, shares = ([5e-4, 1e-3, 2e-3, 5e-3], [0.0, 0.1, 0.2, 0.5]) if not quick else ([1e-3, 2e-3], [0.0, 0.2])
        self.settings = grid(learning_rate=rates, dropout=shares, l2=[0.0] if quick else [0.0, 1e-5, 1e-4, 1e-3])
        self.epochs, self.batch_size = epochs, batch_size
        self.key = jax.random.key(0)
        self.prepared = prepare(self.key, self.net, ADAM, self.train, batch_size=batch_size, validation=self.validation)

    def together(self) -> Sweep:
        """All networks as one program."""
        return fit_many(
            self.key, self.net, ADAM, self.train, self.settings,
            epochs=self.epochs, validation=self.validation, batch_size=self.batch_size,
        )  # fmt: skip

    def start(self, number: int) -> Prepared:
        """One network of the sweep before its first step."""
        own = {name: values[number] for name, values in self.settings.items()}
        _, seed_key = jax.random.split(self.key)
        init_key, key = jax.random.split(jax.random.fold_in(seed_key, 0))
        state = fn.training.new_state(key, fn.init(init_key, self.net), ADAM)
        opt_state: Any = state.opt_state
        rate = jnp.asarray(own["learning_rate"], opt_state.hyperparams["learning_rate"].dtype)
        state = state._replace(opt_state=opt_state._replace(hyperparams={"learning_rate": rate}))
        net = dataclasses.replace(self.net, l2=own["l2"], dropout=own["dropout"])
        return self.prepared._replace(net=net, state=state)

    def one_by_one(self) -> list[fn.Params]:
        """One network after the other, on the same orders, measured after each epoch as the sweep is."""
        order_key, _ = jax.random.split(self.key)
        found = []
        for number in range(len(self.settings["l2"])):
            one = self.start(number)
            state, program = one.state, fn.training.epoch_program(one.net)
            for epoch in range(1, self.epochs + 1):
                rows = new_order(jax.random.fold_in(order_key, epoch), one.n, self.batch_size)
                state, report = program(one.net, ADAM, rows, state, one.train, one.task)
                sums = fn.training.evaluate(one.net, state.params, one.validation, one.task)
                jax.device_get((report.sums, sums))
            found.append(state.params)
        return found


def check_equal(case: Case) -> str:
    """Refuse to time two ways that do not lead to the same networks."""
    together, alone = case.together(), case.one_by_one()
    worst = 0.0
    for number, params in enumerate(alone):
        result = compare(together.params(number), params)
        if result.problems or not result.error <= ROUNDINGS * TOLERANCE["float32"]:
            raise SystemExit(f"network {number} is another one when trained alone; nothing is timed\n{result}")
        worst = max(worst, result.error)
    return f"after epoch {case.epochs} the networks are the same within {worst:.0f} eps of each leaf's largest entry"


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, print, write."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    epochs, repeats = (1, 2) if options.quick else (options.epochs, options.repeats)
    checked = check_equal(Case(options.quick, 1, options.batch_size))
    case = Case(options.quick, epochs, options.batch_size)
    runs: dict[str, Callable[[], Any]] = {
        "at once": lambda: case.together().states.params, "one by one": case.one_by_one, CONTROL: control()
    }  # fmt: skip
    times = interleaved(runs, repeats, warm_up=1)
    ratio = float(np.median(times["one by one"] / times["at once"]))
    taken = {name: "{median:.3g} ({low:.3g}–{high:.3g})".format_map(spread(times[name])._asdict()) for name in runs}
    count = len(case.settings["l2"])
    title = f"{count} networks 64-32-10, digits, batch {options.batch_size}, Adam, epochs: {epochs}, each evaluated"
    rows = [[name, taken[name]] for name in ("at once", "one by one")]
    lines = Lines(title, ["networks", "seconds (median, quartiles)"], rows)
    verdict = f"one by one / at once: {ratio:.2f} (wanted: {TARGET}); {checked}; {noise(times)}"
    console.print(machine("optax"), shown(lines), verdict, sep="\n", markup=False)
    record = {"networks": count, "epochs": epochs, "ratio": ratio, "seconds": {k: v.tolist() for k, v in times.items()}}
    name = "sweep_quick" if options.quick else "sweep"
    console.print(write_results(options.out, name, record, f"{markdown(lines)}\n\n{verdict}", "optax"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
