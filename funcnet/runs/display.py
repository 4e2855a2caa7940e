"""What a person sees of a run: progress, and tables of the proof and the result."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from funcnet.network import MLP
from funcnet.runs.proof import Proof, layer_errors
from funcnet.training.metrics import Task, metric_names
from funcnet.training.sweep import Sweep, ranking

LINES = 10
"""Of progress, where the output is no terminal."""
WORDS = {"accuracy": "accuracy", "r2": "R²", "mean_absolute_error": "mean absolute error"}


def metrics_text(metrics: dict[str, float], task: Task) -> str:
    """One line on an epoch."""
    name = metric_names(task)[0]
    text = f"loss {metrics['train_loss']:.4f}  {WORDS[name]} {metrics[f'train_{name}']:.4f}"
    if "validation_loss" in metrics:
        text += f"  validation {metrics['validation_loss']:.4f} {metrics[f'validation_{name}']:.4f}"
    return text + _epsilon(metrics)


def short_text(metrics: dict[str, float], task: Task) -> str:
    """The same for a terminal of 80 columns: training / validation."""
    name = metric_names(task)[0]
    parts = [part for part in ("train", "validation") if f"{part}_loss" in metrics]
    loss, score = ("/".join(f"{metrics[f'{part}_{each}']:.3f}" for part in parts) for each in ("loss", name))
    return f"loss {loss}  {WORDS[name]} {score}{_epsilon(metrics)}"


def _epsilon(metrics: dict[str, float]) -> str:
    return f"  ε {metrics['epsilon']:.2f}" if "epsilon" in metrics else ""


class Shown(NamedTuple):
    """What to call while a run goes on.

    Attributes:
        epoch: After each epoch, with its number and metrics.
        part: After each part of an epoch that is streamed, with how many epochs there were.
    """

    epoch: Callable[[int, dict[str, float]], None]
    part: Callable[[float], None]


@contextmanager
def progress(console: Console, epochs: int, task: Task) -> Iterator[Shown]:
    """What shows how far a run is: a live bar in a terminal, else a few plain lines."""
    if not console.is_terminal:
        every = max(1, epochs // LINES)

        def line(number: int, metrics: dict[str, float]) -> None:
            if number % every == 0 or number == epochs:
                console.print(f"epoch {number}/{epochs}  {metrics_text(metrics, task)}", soft_wrap=True)

        yield Shown(line, lambda epochs: None)
        return
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(8), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        shown = bar.add_task("", total=epochs)
        yield Shown(
            lambda number, metrics: bar.update(shown, completed=number, description=short_text(metrics, task)),
            lambda epochs: bar.update(shown, completed=epochs),
        )


def proof_table(net: MLP, proof: Proof) -> Table:
    """The largest error of each layer in both precisions."""
    dtype = proof.arithmetic.leaves[0].dtype
    table = Table(title="Closed-form gradient of the first batch against jax.grad in float64")
    for column in ("layer", "weights", "largest error, float64", f"largest error, {dtype}"):
        table.add_column(column, justify="right")
    for number, (shape, errors) in enumerate(layer_errors(net, proof), 1):
        table.add_row(str(number), f"{shape[0]} x {shape[1]}", *(f"{error:.2f} eps·max" for error in errors))
    return table


def sweep_rows(sweep: Sweep, task: Task) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of all networks of a sweep, the best first."""
    names = (f"validation_{metric_names(task)[0]}", "validation_loss", "train_loss")
    rows = [
        [f"{column[number]:g}" for column in sweep.settings.values()]
        + [f"{sweep.history[name][-1, number]:.4f}" for name in names]
        for number in ranking(sweep.history, task)
    ]
    return [name.replace("_", " ") for name in (*sweep.settings, *names)], rows


def sweep_table(sweep: Sweep, task: Task) -> Table:
    """All networks of a sweep, the best first."""
    columns, rows = sweep_rows(sweep, task)
    table = Table(title=f"{len(rows)} networks, the best first")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def result_table(summary: dict[str, Any]) -> Table:
    """How good the model is on each part, and where the time went."""
    table = Table(title="Result", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for part, examples in summary["examples"].items():
        for name, value in summary[part].items():
            shown = f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"
            table.add_row(f"{part} {WORDS[name]} ({examples:,} {'example' if examples == 1 else 'examples'})", shown)
    table.add_section()
    early = summary["stopped"] != "epochs"
    table.add_row("epochs", f"{summary['epochs']}" + (f" of {summary['epochs_wanted']} ({summary['stopped']})" * early))
    if summary["kept_epoch"] != summary["epochs"]:
        table.add_row("parameters kept", f"those of epoch {summary['kept_epoch']}")
    if summary["networks"] > 1:
        table.add_row("networks trained at once", f"{summary['networks']}")
    if summary["devices"] > 1:
        several = f" of {summary['processes']} processes" if summary["processes"] > 1 else ""
        table.add_row("devices", f"{summary['devices']}{several}")
    if summary["privacy"]:
        own = summary["privacy"]
        table.add_row("privacy", f"ε = {own['epsilon']:.3g} at δ = {own['delta']:g}")
        table.add_row("noise, largest norm", f"{own['noise_multiplier']:g}, {own['max_norm']:g}")
    table.add_row("time to compile", f"{summary['compile_seconds']:.2f} s")
    table.add_row("time of an epoch (mean)", f"{summary['epoch_seconds']:.4f} s")
    table.add_row("training examples a second", f"{summary['examples_a_second']:,.0f}")
    table.add_row("time of training", f"{summary['training_seconds']:.1f} s")
    table.add_row("time in all, after imports", f"{summary['seconds']:.1f} s")
    return table
