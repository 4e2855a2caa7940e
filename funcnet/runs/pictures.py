"""Pictures of a run: curves over epochs, confusion of classes, predicted against true numbers."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from funcnet.interchange import write_whole
from funcnet.runs.outcome import confusion_counts

SUFFIXES = (".png", ".pdf", ".svg")
READABLE = 30
"""More classes than these have no room for numbers in their cells."""


def curves(history: Mapping[str, np.ndarray], metric: str, best: int | None = None) -> Figure:
    """Loss and one more metric over epochs, of the training part and, where it was seen, of the validation part.

    Args:
        history: What `funcnet.fit` returns.
        metric: The one beside the loss, such as "accuracy".
        best: The epoch whose parameters were kept, if not the last.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    epochs = np.arange(1, len(history["train_loss"]) + 1)
    marker = "o" if len(epochs) < 10 else None  # a line of one point is none
    for axes, name in zip(figure.subplots(1, 2), ("loss", metric), strict=True):
        axes.plot(epochs, history[f"train_{name}"], marker=marker, label="training (during the epoch, with dropout)")
        if f"validation_{name}" in history:
            axes.plot(epochs, history[f"validation_{name}"], marker=marker, label="validation")
        if best:
            axes.axvline(best, color="gray", linestyle=":", label=f"kept: epoch {best}")
        axes.set(xlabel="epoch", ylabel={"r2": "R²"}.get(name, name))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def confusion(
    truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], class_names: Sequence[str], part: str
) -> Figure:
    """How many examples of each class were taken for which."""
    k = len(class_names)
    counts = confusion_counts(truth, predicted, k)
    size = min(12.0, 2.5 + 0.45 * k)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"{part} part: {np.trace(counts)} of {len(truth)} right")
    if k <= READABLE:
        names = [_plain(name) for name in class_names]
        axes.set_xticks(range(k), names, rotation=45 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(k), names)
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = counts[row, column] > 0.5 * counts[row].sum()
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                color="white" if dark else "black",
                size=8,
            )
    return figure


def predicted_against_true(
    truth: Float[np.ndarray, "n k"], predicted: Float[np.ndarray, "n k"], names: Sequence[str], part: str
) -> Figure:
    """Each predicted number over the true one; the line is where they are equal."""
    k = truth.shape[1]
    figure = Figure(figsize=(4.2 * k, 4.2), layout="constrained")
    for i, axes in enumerate(figure.subplots(1, k, squeeze=False)[0]):
        name = _plain(names[i]) if names else f"target {i + 1}"
        ends = [min(truth[:, i].min(), predicted[:, i].min()), max(truth[:, i].max(), predicted[:, i].max())]
        axes.plot(ends, ends, color="gray", linewidth=1)
        axes.scatter(truth[:, i], predicted[:, i], s=10, alpha=0.6)
        axes.set(xlabel=f"{name}, true", ylabel=f"{name}, predicted", title=f"{part} part")
        axes.grid(alpha=0.3)
    return figure


def _plain(name: str) -> str:
    """A name from the data as Matplotlib shows it as it is: text between two dollars would be read as a formula."""
    return name.replace("$", r"\$")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a picture whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=120)
    write_whole(path, content.getvalue())
