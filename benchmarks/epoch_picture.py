"""The picture of what `epoch.py` measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from epoch_peers import FUNCNET
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from timing import CONTROL, machine, spread, write_whole


def bars(axes: Axes, taken: Mapping[str, np.ndarray], title: str) -> None:
    """The median of each contender as a bar, with quartiles."""
    names = list(taken)[::-1]
    middle, low, high = np.array([spread(taken[name]) for name in names]).T
    colours = ["#8fbfe0" if name == FUNCNET else "0.8" for name in names]
    axes.barh(names, middle, xerr=[middle - low, high - middle], color=colours, ecolor="0.3")
    for place, value in enumerate(middle):
        axes.annotate(f" {value:.3g} s", (0, place), va="center", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)


def draw(record: Mapping[str, Any], path: Path) -> None:
    """For each network the seconds of an epoch, and beside them those of the way to the accuracy where measured."""
    figure = Figure(figsize=(11, 2.7 * len(record)), layout="constrained")
    panels = figure.subplots(len(record), 2, squeeze=False)
    for (name, measured), (left, right) in zip(record.items(), panels, strict=True):
        taken = {
            contender: np.array(values) for contender, values in measured["seconds"].items() if contender != CONTROL
        }
        bars(left, taken, f"{name}: seconds an epoch")
        ways = {
            contender: np.array([way["seconds"] for way in ways])
            for contender, ways in measured["ways"].items()
            if all(way["reached"] for way in ways)
        }
        if FUNCNET in ways:
            bars(right, ways, f"{name}: seconds to {measured['wanted']:.0%}, from nothing")
        else:
            right.set_axis_off()
    figure.suptitle(f"medians, lines from first to third quartile; {machine()}", fontsize=7)
    write_whole(path, lambda p: figure.savefig(p, dpi=120))
