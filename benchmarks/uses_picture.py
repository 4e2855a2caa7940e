"""The picture of what `uses.py` measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from timing import machine, write_whole
from uses_cases import Noise, Ranking

ROWS, SHOWN = 2, 36
COLOURS = {"gradient norm": "#d95f02", "loss": "#1b6ca8"}


def found(axes: Axes, rankings: Sequence[Ranking]) -> None:
    """The share of planted labels found against the share of examples inspected, one thin line a seed."""
    n, m = len(rankings[0].labels), len(rankings[0].planted)
    inspected = np.arange(1, 5 * m + 1) / n
    for name, colour in COLOURS.items():
        lines = np.array([ranking.found(name)[: 5 * m] for ranking in rankings])
        axes.plot(100 * inspected, 100 * lines.T, color=colour, alpha=0.2, linewidth=0.7)
        axes.plot(100 * inspected, 100 * lines.mean(axis=0), color=colour, label=f"by {name}")
    axes.axvline(100 * m / n, color="gray", linestyle=":", label="as many as are planted")
    axes.set(xlabel="examples inspected, %", ylabel="wrong labels found, %", ylim=(0, 102), xlim=(0, None))
    axes.set_title("planted wrong labels", fontsize=9)
    axes.legend(fontsize=8)


def scale(axes: Axes, losses: Float[np.ndarray, "s t"], noise: Float[np.ndarray, "s t"], every: int) -> None:
    """The noise scale along training, one line a seed, and the mean loss."""
    at = every * np.arange(losses.shape[1])
    axes.plot(at, noise.T, color="#1b9e77", alpha=0.35, linewidth=0.8)
    axes.plot(at, np.median(noise, axis=0), color="#1b9e77", label="noise scale, median of seeds")
    axes.plot(at, losses.mean(axis=0), color="gray", linestyle="--", label="loss")
    axes.set(xlabel="steps", yscale="log")
    axes.set_yticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
    axes.set_title("noise scale along training, in examples", fontsize=9)
    axes.legend(fontsize=8)


def needed(axes: Axes, noise: Noise) -> None:
    """Steps to the loss against the batch size, seen and predicted."""
    batches = list(noise.seen)
    axes.plot(batches, list(noise.seen.values()), "o-", color="#7570b3", label="seen, best rate")
    axes.plot(batches, [noise.predicted(b) for b in batches], "k--", label="predicted")
    axes.axhline(noise.steps, color="gray", linestyle=":", label="with all examples")
    axes.set(xlabel="batch size", xscale="log", yscale="log")
    axes.set_xticks(batches, [str(b) for b in batches])
    axes.set_yticks([20, 50, 100, 200], ["20", "50", "100", "200"])
    axes.minorticks_off()
    axes.set_title("steps to loss 0.5", fontsize=9)
    axes.legend(fontsize=8)


def suspects(figure: SubFigure, images: Float[np.ndarray, "n d"], ranking: Ranking) -> None:
    """The digits with the largest gradients, largest first, and the label they came with; red where it was planted."""
    panels = figure.subplots(ROWS, SHOWN // ROWS)
    for axes, row in zip(panels.flat, np.argsort(-ranking.scores["gradient norm"])[:SHOWN], strict=True):
        axes.imshow(images[row].reshape(8, 8), cmap="gray_r")
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"“{ranking.labels[row]}”", fontsize=9, color="red" if row in ranking.planted else "black")
    figure.suptitle("the 36 largest gradient norms (seed 0) and their labels, planted wrong ones in red", fontsize=9)


def draw(
    images: Float[np.ndarray, "n d"],
    rankings: Sequence[Ranking],
    noise: Noise,
    line: tuple[Float[np.ndarray, "s t"], Float[np.ndarray, "s t"], int],
    path: Path,
) -> None:
    """Three panels, and under them the most suspicious digits."""
    figure = Figure(figsize=(12, 5.8), layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(3.4, 1.8))
    above, below = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    left, middle, right = above.subplots(1, 3)
    found(left, rankings)
    scale(middle, *line)
    needed(right, noise)
    suspects(below, images, rankings[0])
    below.supxlabel(machine(), fontsize=7)
    write_whole(path, lambda p: figure.savefig(p, dpi=120))
