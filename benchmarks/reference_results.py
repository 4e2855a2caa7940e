"""Published results of multilayer perceptrons on MNIST, trained again: the same network and loss, several seeds.

Nothing is chosen on test images: every run has a fixed number of epochs and is measured after the last of them. Where
the published figure is the best epoch's, ours is given beside it, as what it is: chosen on the images that it is
measured on. Where a source leaves learning rate or decay open, a few values were compared on the last 10,000 training
images, by seeds that learned from the others.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import NEEDED, machine, write_results

import funcnet as fn
from funcnet.data import load
from funcnet.runs.proof import prove
from funcnet.training import optimizer_by_name

PROVEN = 32
"""So many examples are in the batch whose gradient is proven before a row is trained."""


@dataclass(frozen=True)
class Row:
    """One published result and how it is made again.

    Attributes:
        name: The task in words.
        source: Who published it.
        published: The figure, in percent.
        measure: What it is a figure of.
        net: The network.
        free: Which settings the source leaves open, or are changed here.
        optimizer: By name, as are the next three in `optimizer_by_name`.
        learning_rate: Its largest.
        schedule: How it goes on.
        weight_decay: That of adamw.
        epochs: How often every example is seen.
        batch_size: Examples for each step.
        start: Initial parameters: those of `funcnet.init`, or normal numbers of deviation 1 for biases and of 1
            ("normal") or 1/√n_in ("scaled normal") for weights.
        train_on: How many training images are learned from, the first ones.
        measured_on: "test" for the 10,000 test images, "validation" for the last 10,000 training images.
        peak: Published is the best of all epochs, so that of ours is wanted too; of an accuracy on the first part of
            `measured_on`.
    """

    name: str
    source: str
    published: float
    measure: Literal["test error", "accuracy"]
    net: fn.MLP
    free: str
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    weight_decay: float | None = None
    epochs: int = 20
    batch_size: int = 128
    start: Literal["funcnet.init", "normal", "scaled normal"] = "funcnet.init"
    train_on: int = 60_000
    measured_on: tuple[str, ...] = ("test",)
    peak: bool = False

    def parts(self) -> tuple[str, ...]:
        """What is measured, by name."""
        return (*self.measured_on, *([f"{self.measured_on[0]}, best epoch"] if self.peak else []))


def relu(loss: fn.Loss, *hidden: int, dropout: float | None = None) -> fn.MLP:
    """A relu network for MNIST."""
    return fn.MLP((784, *hidden, 10), activation=fn.relu, loss=loss, dropout=dropout)


SQUARED, SOFTMAX = fn.half_squared_error, fn.softmax_cross_entropy
QUADRATIC = fn.MLP((784, 30, 10), activation=fn.sigmoid, output_activation=fn.sigmoid, loss=SQUARED)
L2 = fn.MLP((784, 100, 10), activation=fn.sigmoid, loss=fn.sigmoid_cross_entropy, l2=5 / 50_000)  # λ / n
LECUN, NIELSEN = "LeCun et al. 1998", "Nielsen, Neural Networks and Deep Learning, ch. "
OPEN = "activation, optimizer, batch, epochs, initial weights"
KERAS = Row("784-512-512-10, relu, dropout 0.2, RMSprop", "Keras examples/mnist_mlp.py", 98.40, "accuracy",
            relu(SOFTMAX, 512, 512, dropout=0.2), "nothing", "rmsprop", 1e-3, "constant")  # fmt: skip
CHAPTER_1 = Row("784-30-10, sigmoid, quadratic cost", f"{NIELSEN}1", 95.42, "accuracy", QUADRATIC,
                "nothing; published is the best epoch of one run", "sgd", 3.0, "constant", epochs=30, batch_size=10,
                start="normal", train_on=50_000, peak=True)  # fmt: skip
CHAPTER_3 = Row("784-100-10, sigmoid, cross-entropy, L2 λ = 5", f"{NIELSEN}3", 98.04, "accuracy", L2,
                "nothing; published is the best epoch of one run on the validation images", "sgd", 0.1, "constant",
                epochs=60, batch_size=10, start="normal", train_on=50_000, measured_on=("validation", "test"),
                peak=True)  # fmt: skip
ROWS = (
    Row("784-300-10, squared error", LECUN, 4.7, "test error", relu(SQUARED, 300), OPEN),
    Row("784-300-100-10, squared error", LECUN, 3.05, "test error", relu(SQUARED, 300, 100), OPEN),
    Row("784-500-150-10, squared error", LECUN, 2.95, "test error", relu(SQUARED, 500, 150), OPEN),
    Row("784-800-10, cross-entropy, no distortions", "Simard, Steinkraus, Platt 2003", 1.6, "test error",
        relu(SOFTMAX, 800), OPEN),
    Row("784-500-300-10, softmax cross-entropy, weight decay", "Hinton, unpublished, 2005", 1.53, "test error",
        relu(SOFTMAX, 500, 300), f"{OPEN}, amount of decay", "adamw", 2e-3, weight_decay=0.5),
    KERAS,
    replace(KERAS, name=f"{KERAS.name}, with a cosine", schedule="cosine", free="schedule (constant there)"),
    CHAPTER_1,
    replace(CHAPTER_1, name=f"{CHAPTER_1.name}, smaller initial weights", start="funcnet.init",
            free="initial weights (normal there); published is the best epoch of one run"),
    CHAPTER_3,
    replace(CHAPTER_3, name=f"{CHAPTER_3.name}, smaller initial weights", start="scaled normal",
            free="initial weights (normal there); published is the best epoch of one run on the validation images"),
    replace(CHAPTER_3, name=f"{CHAPTER_3.name}, Adam", optimizer="adam", learning_rate=1e-2, schedule="cosine",
            batch_size=128, start="funcnet.init", free="optimizer, rate, schedule, batch, initial weights; published "
            "is the best epoch of one run on the validation images"),
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Train published MNIST networks again and compare."""

    seeds: int = 5
    """How many runs each row is the mean of."""
    only: str = ""
    """Only rows whose name or source holds this; the results then go into files of their own."""
    data_dir: Path | None = Path(os.environ["FUNCNET_MNIST_DIR"]) if "FUNCNET_MNIST_DIR" in os.environ else None
    """The folder of MNIST's files; by default what FUNCNET_MNIST_DIR says."""
    quick: bool = False
    """One epoch and seed of each method on scikit-learn's digits with small networks, to see that it works."""
    out: Path = Path("benchmarks/results")
    """Folder for the table (Markdown) and every seed's value (JSON)."""


Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Images in rows, ink from 0 to 1, and labels: "train", "validation" (its last part) and "test"."""


def mnist(folder: Path) -> Parts:
    """MNIST; a run that is measured on the validation images must not learn from them."""
    sets = load("mnist", folder=folder)
    if "test" not in sets:
        raise SystemExit(f"{folder} holds no test images")
    (x, y), test = sets["train"][1:3], sets["test"]
    return {"train": (x, y), "validation": (x[50_000:], y[50_000:]), "test": (test.x, test.y)}


def digits() -> Parts:
    """The same of scikit-learn's digits."""
    x, y = load("digits")["train"][1:3]
    cuts = {"train": slice(0, 1500), "validation": slice(1250, 1500), "test": slice(1500, None)}
    return {name: (x[cut], y[cut]) for name, cut in cuts.items()}


def small(row: Row) -> Row:
    """A row as --quick runs it."""
    net = replace(row.net, widths=(64, *(min(width, 32) for width in row.net.widths[1:-1]), 10))
    return replace(row, net=net, epochs=1, batch_size=10, train_on=row.train_on // 40)


def first_parameters(row: Row, key: jax.Array) -> fn.Params:
    """The parameters that a run starts from."""
    if row.start == "funcnet.init":
        return fn.init(key, row.net)
    keys = jax.random.split(key, (row.net.n_layers, 2))
    scales = [1.0 if row.start == "normal" else n_in**-0.5 for n_in in row.net.widths[:-1]]
    sizes = zip(keys, scales, row.net.widths[:-1], row.net.widths[1:], strict=True)
    return tuple(
        fn.Layer(scale * jax.random.normal(pair[0], (n_in, n_out)), jax.random.normal(pair[1], (n_out,)))
        for pair, scale, n_in, n_out in sizes
    )


def targets(net: fn.MLP, labels: np.ndarray) -> np.ndarray:
    """Labels, or unit vectors where the loss takes no labels."""
    return labels if net.loss.targets == "classes" else np.eye(10, dtype=np.float32)[labels]


def check(row: Row, parts: Parts) -> None:
    """Refuse to train by a gradient that is not that of the loss in float64, or on other ink than 0 to 1."""
    ink = {name: (float(x.min()), float(x.max())) for name, (x, _) in parts.items()}
    if set(ink.values()) != {(0.0, 1.0)}:
        raise SystemExit(f"ink must run from 0 to 1 in each part; got {ink}")
    x, y = (array[:PROVEN] for array in parts["train"])
    proof = prove(row.net, first_parameters(row, jax.random.key(0)), x, targets(row.net, y), jax.random.key(1))
    if not proof.holds:
        raise SystemExit(f"{row.name}: not the gradient of the loss; nothing is trained\n{proof.arithmetic}")


def train(row: Row, seed: int, parts: Parts) -> dict[str, Any]:
    """One run: percent on each part that it is measured on, after the last epoch."""
    key, start_key = jax.random.split(jax.random.key(seed))
    x, y = (array[: row.train_on] for array in parts["train"])
    optimizer = optimizer_by_name(  # equal calls give the same object: seeds share a program
        row.optimizer,
        learning_rate=row.learning_rate,
        schedule=row.schedule,
        steps=row.epochs * -(-row.train_on // row.batch_size),
        weight_decay=row.weight_decay,
    )
    data, start = (x, targets(row.net, y)), first_parameters(row, start_key)
    how: Any = {"epochs": row.epochs, "batch_size": row.batch_size, "params": start, "task": "classification"}
    if row.peak:
        images, labels = parts[row.measured_on[0]]
        how["validation"] = (images, targets(row.net, labels))
    state, history = fn.fit(key, row.net, optimizer, data, **how)
    run: dict[str, Any] = {"seed": seed, "seconds": float(history["seconds"].sum())}
    run["train_loss"] = float(history["train_loss"][-1])
    for name in row.measured_on:
        images, labels = parts[name]
        right = np.argmax(np.asarray(jax.jit(fn.apply)(row.net, state.params, images)), axis=1) == labels
        run[name] = 100 * float(np.mean(~right if row.measure == "test error" else right))
    if row.peak:
        run[row.parts()[-1]] = 100 * float(history["validation_accuracy"].max())
    return run


def protocol(row: Row) -> str:
    """How a row was trained, in words, from what was run."""
    net, decay = row.net, f", decay {row.weight_decay:g}" if row.weight_decay is not None else ""
    outputs = f", {net.output_activation.name} outputs" if net.output_activation != fn.identity else ""
    words = [f"{net.activations[0].name}{outputs}, {net.loss.name}"]
    words += [f"{name} {value:g}" for name, value in (("l2", net.l2), ("dropout", net.dropout)) if value is not None]
    words += [f"{row.optimizer} {row.learning_rate:g} ({row.schedule}){decay}, batch {row.batch_size}"]
    words += [f"{row.epochs} epochs on the first {row.train_on:,} training images", f"initial weights: {row.start}"]
    return "; ".join([*words, f"open or changed: {row.free}"])


def outcomes(row: Row, runs: Sequence[Mapping[str, Any]], judged: bool) -> list[dict[str, Any]]:
    """Mean, deviation and verdict on each part that a row is measured on.

    Beaten by the mean; or else reproduced, if the published figure lies within the range of the seeds.
    """
    found, sign = [], -1 if row.measure == "test error" else 1
    for part in row.parts():
        values = np.round([run[part] for run in runs], 6)
        mean, deviation = round(float(np.mean(values)), 6), float(np.std(values, ddof=int(len(values) > 1)))
        better = int(np.sum(sign * (values - row.published) > 0))
        verdict = "reproduced" if values.min() <= row.published <= values.max() else "not reached"
        verdict = "beaten" if sign * (mean - row.published) > 0 else verdict
        one = {"part": part, "values": values.tolist(), "mean": mean, "deviation": deviation}
        found.append({**one, "seeds_better": better, "verdict": verdict if judged else "other data"})
    return found


COLUMNS = ("task", "source", "how it was trained", "published", "funcnet", "measured on", "seeds better", "verdict")


def table_of(records: Sequence[Mapping[str, Any]], seeds: int, data: str) -> Lines:
    """One line for each result and each part that it is measured on."""
    lines = [
        [
            *(record["task"], record["source"], record["protocol"], f"{record['published']:.2f} % {record['measure']}"),
            f"{one['mean']:.2f} ± {one['deviation']:.2f} %",
            *(one["part"], f"{one['seeds_better']} of {len(one['values'])}", one["verdict"]),
        ]
        for record in records
        for one in record["outcomes"]
    ]
    title = f"{data}: mean ± standard deviation over {seeds} seeds, after the last epoch where no other is named"
    return Lines(title, COLUMNS, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the rows one after the other, saving after each; print the table."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine())
    if not options.quick and (options.data_dir is None or not options.data_dir.is_dir()):
        console.print(f"Nothing is trained without MNIST: {NEEDED}; got {options.data_dir}")
        return 0
    parts = mnist(options.data_dir) if options.data_dir and not options.quick else digits()
    rows = [row for row in ROWS if options.only.lower() in f"{row.name} {row.source}".lower()]
    if not rows:
        raise SystemExit(f"no row holds {options.only!r}; there are: {'; '.join(row.name for row in ROWS)}")
    seeds, data = (1, "scikit-learn's digits") if options.quick else (options.seeds, "MNIST, ink from 0 to 1")
    slug = "".join(c if c.isalnum() else "_" for c in options.only)
    name, records, said = "reference_results" + f"_{slug}" * bool(slug) + "_quick" * options.quick, [], ""
    for row in (small(row) for row in rows) if options.quick else rows:
        check(row, parts)
        runs = [train(row, seed, parts) for seed in range(seeds)]
        found = outcomes(row, runs, judged=not options.quick)
        about = {"task": row.name, "source": row.source, "published": row.published, "measure": row.measure}
        records.append({**about, "protocol": protocol(row), "outcomes": found, "runs": runs})
        for one in found:
            values = " ".join(f"{value:.2f}" for value in one["values"])
            console.print(f"{row.name}, {one['part']}: {values} → {one['verdict']} ({row.published:.2f})")
        record = {"data": data, "seeds": seeds, "complete": len(records) == len(rows), "rows": records}
        said = write_results(options.out, name, record, markdown(table_of(records, seeds, data)), "optax")
    console.print(shown(table_of(records, seeds, data)), said, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
