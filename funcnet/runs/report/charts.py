"""Curves and residuals as SVG in the page, in the page's own colours and letters."""

import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from funcnet.runs.report.markup import element

NO_METADATA: Any = dict.fromkeys(("Date", "Creator", "Format", "Type"))
COLOURS = {"#010101": "ink", "#020202": "muted", "#030303": "line", "#040404": "first", "#050505": "second"}
"""What Matplotlib draws with, and the variables of the style that the page has in its place."""
INK, MUTED, LINE, FIRST, SECOND = COLOURS
POINTS = 1500
"""More than these are drawn as a picture, which grows no further; it needs a colour that is good on light and dark."""
BOTH = "#4d7de0"
SPAN = 100.0
"""A loss that falls by a larger factor is drawn over a logarithmic axis."""
_XLINK = "{http://www.w3.org/1999/xlink}href"
_FAMILY = re.compile(r"font-family:[^;]*;? ?")
_REFERENCE = re.compile(r"url\(#([^)]*)\)")


def axes_of(xlabel: str, ylabel: str) -> Axes:
    """Axes alone in a figure: two sides, a light grid, no constrained layout, which would take longer than the rest."""
    axes = Figure(figsize=(4.6, 2.9)).add_axes((0.135, 0.165, 0.85, 0.80))
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(which="both", color=LINE, labelcolor=MUTED, labelsize=9)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    if xlabel == "epoch":
        axes.locator_params(axis="x", integer=True)
    axes.set_xlabel(xlabel, color=MUTED, size=9.5)
    axes.set_ylabel(ylabel, color=MUTED, size=9.5)
    return axes


def drawing(axes: Any, label: str, name: str) -> Element:
    """The figure of some axes as an element of the page.

    Args:
        axes: The axes.
        label: What the drawing shows, for those who do not see it.
        name: What sets its references apart from those of the page's other drawings.
    """
    content = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        axes.figure.savefig(content, format="svg", metadata=NO_METADATA, transparent=True, dpi=200)
    root = fromstring(content.getvalue())
    for style in root.findall("{*}defs/{*}style/.."):
        root.remove(style)  # of all the page
    for part in root.iter():
        part.tag = part.tag.rpartition("}")[2]
        part.text, part.tail = ((text or "").strip() or None for text in (part.text, part.tail))
        if _XLINK in part.attrib:
            part.set("href", part.attrib.pop(_XLINK).replace("#", f"#{name}-"))
        for attribute in ("style", "clip-path"):
            if attribute in part.attrib:
                part.set(attribute, _in_the_page(part.attrib[attribute], name))
    _keep_references(root, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "chart", "role": "img", "aria-label": label}
    return root


def _in_the_page(style: str, name: str) -> str:
    for colour, variable in COLOURS.items():
        style = style.replace(colour, f"var(--{variable})")
    return _REFERENCE.sub(rf"url(#{name}-\1)", _FAMILY.sub("", style))


def _keep_references(root: Element, name: str) -> None:
    """Leave only the names that something refers to."""
    values = [value for part in root.iter() for value in part.attrib.values()]
    used = {value[1:] for value in values if value.startswith("#")}
    used |= {found for value in values for found in _REFERENCE.findall(value)}
    for part in root.iter():
        own = part.attrib.pop("id", None)
        if own is not None and f"{name}-{own}" in used:
            part.set("id", f"{name}-{own}")


def curves(history: Mapping[str, np.ndarray], metric: str, kept: int | None) -> Element:
    """One metric of the training and the validation part over epochs.

    Args:
        history: What training left.
        metric: Such as "loss".
        kept: The epoch whose parameters were kept, if not the last.
    """
    word = {"r2": "R²"}.get(metric, metric)
    axes = axes_of("epoch", word)
    columns = {part: history[f"{part}_{metric}"] for part in ("train", "validation") if f"{part}_{metric}" in history}
    epochs = np.arange(1, len(history[f"train_{metric}"]) + 1)
    for (part, values), colour in zip(columns.items(), (FIRST, SECOND), strict=False):
        label = {"train": "training"}.get(part, part)
        axes.plot(epochs, values, color=colour, linewidth=1.6, label=label, marker="o" if len(epochs) < 10 else None)
    if kept is not None:
        axes.axvline(kept, color=MUTED, linestyle=":", linewidth=1.2, label=f"kept: epoch {kept}")
    finite = np.concatenate([values[np.isfinite(values)] for values in columns.values()])
    if metric == "loss" and finite.size and finite.min() > 0 and finite.max() > SPAN * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    place = "upper right" if metric == "loss" else "lower right"
    axes.legend(frameon=False, loc=place, labelcolor=INK, fontsize=9)
    ends = ", ".join(f"{part} {values[0]:.4g} to {values[-1]:.4g}" for part, values in columns.items())
    return drawing(axes, f"{word} over {len(epochs)} epochs: {ends}", f"curve-{metric}")


def rates(values: Float[np.ndarray, " epochs"]) -> Element:
    """The learning rate over epochs."""
    axes = axes_of("epoch", "learning rate")
    axes.plot(np.arange(1, len(values) + 1), values, color=FIRST, linewidth=1.6)
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter("{x:g}")
    return drawing(axes, f"learning rate over {len(values)} epochs, {values.max():.3g} at most", "rates")


def predicted_against_true(truth: Float[np.ndarray, " n"], predicted: Float[np.ndarray, " n"], name: str) -> Element:
    """Each predicted number over the true one; the line is where they are equal."""
    axes = axes_of("true", "predicted")
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle="--")
    many = len(truth) > POINTS
    axes.plot(
        *(truth, predicted, "o"),
        **{
            "color": BOTH if many else FIRST,
            "markersize": 4.5,
            "alpha": 0.65,
            "markeredgewidth": 0,
            "rasterized": many,
        },
    )
    return drawing(axes, f"{len(truth):,} predicted numbers over the true ones", name)


def residuals(errors: Float[np.ndarray, " n"], name: str) -> Element:
    """How often predicted − true is how large."""
    axes = axes_of("predicted − true", "examples")
    counts, edges = np.histogram(errors, bins=min(40, max(8, int(2 * np.sqrt(len(errors))))))
    axes.stairs(counts, edges, fill=True, color=FIRST, alpha=0.75)
    axes.axvline(0, color=MUTED, linewidth=1, linestyle="--")
    axes.axvline(errors.mean(), color=SECOND, linewidth=1.4, label=f"mean {errors.mean():.3g}")
    axes.set_ylim(0, 1.2 * counts.max())  # room for the legend
    axes.locator_params(axis="y", integer=True)
    axes.legend(frameon=False, loc="upper right", labelcolor=INK, fontsize=9)
    return drawing(axes, f"histogram of {len(errors):,} residuals, mean {errors.mean():.3g}", name)


def chart(title: str, drawn: Element) -> Element:
    """A drawing under its title."""
    return element("figure", element("figcaption", title), drawn)
