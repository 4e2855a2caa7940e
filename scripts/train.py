"""Train an MLP on real data by closed-form gradients, after proving them against `jax.grad`.

Alone, it trains on the handwritten digits that scikit-learn carries and draws the curves of the run.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import funcnet as fn
from funcnet.checking import TOLERANCE, Comparison, compare, in_float64, reference_value_and_grad
from funcnet.data import load, stratified
from funcnet.training.checks import check_count

OPTIMIZERS = {"adam": optax.adam, "sgd": optax.sgd}
LINES = 10  # of progress, where the output is no terminal


@dataclass(frozen=True)
class Options:
    """Train an MLP on real data by closed-form gradients, after proving them against jax.grad."""

    data: Literal["digits"] = "digits"
    """The data set."""
    hidden: tuple[int, ...] = (512,)
    """Units in each hidden layer."""
    activation: str = "relu"
    """Activation of the hidden layers: relu, gelu, tanh, …"""
    loss: str = "label_smoothed"
    """The loss: softmax_cross_entropy, label_smoothed, half_squared_error, …"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The optimizer, of Optax."""
    learning_rate: float = 2e-3
    """The learning rate at the start; it falls to 0 along a cosine."""
    batch_size: int = 32
    """Examples in each step."""
    epochs: int = 60
    """How often every example is seen."""
    dropout: float = 0.5
    """The share of hidden outputs dropped in training."""
    l2: float = 0.0
    """Factor of the penalty on squared weights."""
    seed: int = 0
    """What the parts of the data, initial parameters, order and dropout depend on."""
    plot: Path = Path("training.png")
    """Where the picture of the curves goes: .png, .pdf or .svg."""


class Setup(NamedTuple):
    """What the options stand for.

    Attributes:
        net: The network.
        optimizer: The optimizer with its schedule.
        parts: (x, labels) of the training, validation and test part.
    """

    net: fn.MLP
    optimizer: optax.GradientTransformation
    parts: dict[str, tuple[np.ndarray, np.ndarray]]

    def data(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) as the loss wants it: labels, or unit vectors for a loss on real targets."""
        x, labels = self.parts[part]
        if self.net.loss.targets == "classes":
            return x, labels
        return x, np.eye(self.net.widths[-1], dtype=x.dtype)[labels]


def set_up(options: Options) -> Setup:
    """Build everything that training needs, so that a wrong option is told before any work is done."""
    epochs, batch_size = check_count("epochs", options.epochs), check_count("batch_size", options.batch_size)
    if not 0 < options.learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be a positive finite number; got {options.learning_rate}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to {2**32 - 1}; got {options.seed}")
    check_plot(options.plot)
    dataset = load(options.data)
    rows = stratified(dataset.y, options.seed)
    parts = {name: (dataset.x[part], dataset.y[part]) for name, part in rows._asdict().items()}
    net = fn.MLP(
        (dataset.x.shape[1], *options.hidden, len(dataset.class_names)),
        activation=fn.activations.by_name(options.activation),
        loss=fn.losses.by_name(options.loss),
        l2=options.l2 or None,
        dropout=options.dropout or None,
    )
    steps = epochs * -(-len(rows.train) // min(batch_size, len(rows.train)))
    schedule = optax.cosine_decay_schedule(options.learning_rate, steps)
    return Setup(net, OPTIMIZERS[options.optimizer](schedule), parts)


def prove(net: fn.MLP, params: fn.Params, x: Any, y: Any, key: Any) -> tuple[Comparison, Comparison]:
    """The closed-form gradient against `jax.grad` in float64: itself in float64, and in the dtype of params."""
    reference = reference_value_and_grad(fn.loss, argnums=1, compiled=True)(net, params, x, y, key=key)
    formula = compare(in_float64(fn.value_and_grad, compiled=True)(net, params, x, y, key=key), reference)
    got = jax.jit(fn.value_and_grad)(net, params, x, y, key=key)
    arithmetic = compare(got, reference, like=(params[0].b[0], params))
    return formula, arithmetic


def proof_table(net: fn.MLP, formula: Comparison, arithmetic: Comparison) -> Table:
    """The largest error of each layer in both precisions."""
    dtype = arithmetic.leaves[0].dtype
    table = Table(title="Closed-form gradient of the first batch against jax.grad in float64")
    for column in ("layer", "weights", "largest error, float64", f"largest error, {dtype}"):
        table.add_column(column, justify="right")
    for i, shape in enumerate(zip(net.widths[:-1], net.widths[1:], strict=True)):
        leaves = slice(1 + 2 * i, 3 + 2 * i)  # behind the value, w and b of each layer
        errors = [max(leaf.error for leaf in each.leaves[leaves]) for each in (formula, arithmetic)]
        table.add_row(str(i + 1), f"{shape[0]} x {shape[1]}", *(f"{error:.2f} eps·max" for error in errors))
    return table


def holds(comparison: Comparison) -> bool:
    """Whether rounding explains every difference."""
    return not comparison.problems and all(leaf.error <= TOLERANCE[leaf.dtype] for leaf in comparison.leaves)


@contextmanager
def progress(console: Console, epochs: int, score: str) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """What to call after each epoch: a live bar in a terminal, else a few plain lines."""

    def text(metrics: dict[str, float]) -> str:
        return (
            f"loss {metrics['train_loss']:.4f}  {score} {metrics[f'train_{score}']:.4f}  "
            f"validation {metrics[f'validation_{score}']:.4f}"
        )

    if not console.is_terminal:
        every = max(1, epochs // LINES)
        yield lambda n, m: console.print(f"epoch {n}/{epochs}  {text(m)}") if n % every == 0 or n == epochs else None
        return
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("compiling", total=epochs)
        yield lambda n, m: bar.update(task, completed=n, description=text(m))


def accuracies(setup: Setup, params: fn.Params) -> dict[str, float]:
    """The share of examples of each part whose largest output is that of their label."""
    x = np.concatenate([x for x, _ in setup.parts.values()])
    predicted = np.argmax(np.asarray(jax.jit(fn.apply)(setup.net, params, x)), axis=1)
    ends = np.cumsum([len(labels) for _, labels in setup.parts.values()])[:-1]
    pairs = zip(setup.parts.items(), np.split(predicted, ends), strict=True)
    return {part: float(np.mean(guess == labels)) for (part, (_, labels)), guess in pairs}


def result_table(setup: Setup, params: fn.Params, history: dict[str, np.ndarray], seconds: float) -> Table:
    """Accuracy on each part, and where the time went."""
    table = Table(title="Result", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for part, share in accuracies(setup, params).items():
        table.add_row(f"{part} accuracy ({len(setup.parts[part][1]):,} examples)", f"{100 * share:.2f} %")
    epoch, examples = float(np.median(history["seconds"])), len(setup.parts["train"][1])
    table.add_section()
    table.add_row("time to compile", f"{history['compile_seconds'].sum():.2f} s")
    table.add_row(f"time of an epoch (median of {len(history['seconds'])})", f"{epoch:.4f} s")
    table.add_row("training examples a second", f"{examples / epoch:,.0f}")
    table.add_row("time in all, after imports", f"{seconds:.1f} s")
    return table


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be written, before the work is done."""
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"plot must end in .png, .pdf or .svg; got {path}")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"plot must be a file in a folder that exists and can be written; got {path}")


def draw(history: dict[str, np.ndarray], score: str, path: Path) -> None:
    """The curves of loss and score over epochs, on both parts; written whole or not at all."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = np.arange(1, len(history["seconds"]) + 1)
    for axes, name in zip(figure.subplots(1, 2), ("loss", score), strict=True):
        axes.plot(epochs, history[f"train_{name}"], label="training (running mean, with dropout)")
        axes.plot(epochs, history[f"validation_{name}"], label="validation")
        axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend()
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    figure.savefig(unfinished, dpi=120)
    unfinished.replace(path)


def run(options: Options, console: Console) -> int:
    """Prove, train, report and draw."""
    start = time.perf_counter()
    setup = set_up(options)
    net, (x, y) = setup.net, setup.data("train")
    init_key, proof_key, fit_key = jax.random.split(jax.random.key(options.seed), 3)
    params = fn.init(init_key, net, dtype="float32")
    with ThreadPoolExecutor() as pool:  # two compilers, two cores
        batch = slice(options.batch_size)
        proof = pool.submit(prove, net, params, x[batch], y[batch], proof_key)
        preparation = pool.submit(
            fn.training.prepare,
            fit_key,
            net,
            setup.optimizer,
            (x, y),
            batch_size=options.batch_size,
            validation=setup.data("validation"),
            params=params,
        )
    formula, arithmetic = proof.result()
    console.print(proof_table(net, formula, arithmetic))
    if not (holds(formula) and holds(arithmetic)):
        console.print("The gradient is wrong; nothing is trained.", formula, arithmetic, sep="\n")
        return 1
    score = fn.training.score_name(net)
    with progress(console, options.epochs, score) as on_epoch:
        state, history = fn.training.run(preparation.result(), options.epochs, on_epoch)
    console.print(result_table(setup, state.params, history, time.perf_counter() - start))
    draw(history, score, options.plot)
    console.print(f"Curves: {options.plot}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; the exit status is 0, 1 for a wrong gradient, 2 for a wrong option."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    try:
        return run(options, Console())
    except (TypeError, ValueError, OSError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
