"""The sections on the run itself: result at a glance, curves, proof, sweep, time, versions and options."""

from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from funcnet.checking import TOLERANCE
from funcnet.runs.config import Config
from funcnet.runs.display import WORDS, sweep_rows
from funcnet.runs.proof import layer_errors
from funcnet.runs.report.charts import chart, curves, rates
from funcnet.runs.report.markup import element, facts, paragraph, section, table
from funcnet.runs.setup import Setup, learning_rates
from funcnet.runs.trained import Trained
from funcnet.training.metrics import metric_names

GROUPS = {
    "source": "Data",
    "network": "Network",
    "optimization": "Optimizer",
    "training": "Training",
    "privacy": "Privacy",
    "output": "Output",
    "process": "Processes",
}
"""Of the options, in words."""
NETWORKS = 200
"""Of a sweep, the best of which are shown."""


def heading(trained: Trained) -> Element:
    """Which data, and the network in words."""
    failure = trained.summary["failure"]
    return element(
        "header",
        element("p", "funcnet · training run", class_="over"),
        element("h1", trained.setup.parts["train"].name),
        element("p", network_in_words(trained.setup), class_="lead"),
        element("p", f"Stopped: {failure}", class_="warning") if failure else None,
    )


def network_in_words(setup: Setup) -> str:
    """What was trained how, in two sentences."""
    options, net = setup.config.flat(), setup.net
    hidden = " and ".join(f"{width}" for width in net.widths[1:-1])
    layers = f"{hidden} hidden {options['activation']} units" if hidden else "no hidden units"
    count = sum((before + 1) * after for before, after in zip(net.widths[:-1], net.widths[1:], strict=True))
    outputs = "classes" if setup.task == "classification" else "outputs" if net.widths[-1] > 1 else "output"
    dropout = f", dropout {net.dropout:g}" if net.dropout else ""
    rate = "" if options["learning_rate"] is None else f" at a learning rate of {options['learning_rate']:g}"
    schedule = f" ({options['schedule']})" if options["schedule"] else ""
    batches = f"batches of {options['batch_size']}" if options["batch_size"] else "all examples in each step"
    return (
        f"A network of {net.widths[0]} inputs, {layers} and {net.widths[-1]} {outputs}: {count:,} parameters{dropout}. "
        f"Trained on {setup.counts['train']:,} examples by {options['optimizer']}{rate}{schedule}, {batches}, "
        f"to lower {options['loss']}."
    )


def glance(trained: Trained) -> Element:
    """The few numbers to look at first."""
    summary, kept = trained.summary, trained.summary["kept_epoch"]
    pairs = []
    for part in ("test", "validation", "train"):
        for name, value in summary.get(part, {}).items():
            if name != "mean_absolute_error" or part == "test":
                pairs.append((f"{part} {WORDS[name]}", measured_text(name, value)))
    part = "validation" if "validation_loss" in trained.result.history else "train"
    pairs.append((f"{part} loss", f"{trained.result.history[f'{part}_loss'][kept - 1]:.4f}"))
    if summary["privacy"]:
        pairs.append((f"ε at δ = {summary['privacy']['delta']:g}", f"{summary['privacy']['epsilon']:.3g}"))
    pairs += [("epochs", f"{summary['epochs']}"), ("seconds in all", f"{summary['seconds']:.1f}")]
    return facts(pairs, "glance")


def measured_text(name: str, value: float) -> str:
    """A measure as the result table shows it."""
    return f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"


def curve_section(trained: Trained) -> Element:
    """Loss and metric of both parts, and the learning rate where it changes."""
    history, summary = trained.result.history, trained.summary
    kept = summary["kept_epoch"] if summary["kept_epoch"] < summary["epochs"] else None
    metric = metric_names(trained.setup.task)[0]
    drawn = [chart({"r2": "R²"}.get(name, name.capitalize()), curves(history, name, kept)) for name in ("loss", metric)]
    changing = learning_rates(trained.setup, summary["epochs"])
    if changing is not None:
        drawn.append(chart("Learning rate", rates(changing)))
    note = paragraph("Training values are those seen during each epoch, with dropout; validation values follow it.")
    return section("curves", "Curves", element("div", *drawn, class_="charts"), note)


def proof_section(trained: Trained) -> Element:
    """The errors of each layer's gradient in both precisions, beside what rounding may explain."""
    proof, net = trained.proof, trained.setup.net
    dtypes = [each.leaves[0].dtype for each in proof]
    columns = ["layer", "weights"]
    for dtype in dtypes:
        columns += [f"error, {dtype}", "allowed"]
    allowed = [TOLERANCE[dtype] for dtype in dtypes]

    def row(*words: str, errors: list[float]) -> list[str | Element]:
        cells: list[str | Element] = [*words]
        for error, limit in zip(errors, allowed, strict=True):
            cells += [element("td", f"{error:.2f}", class_="right" if error <= limit else "wrong"), f"{limit:g}"]
        return cells

    rows = [row("loss", "", errors=[each.leaves[0].error for each in proof])]
    for number, (shape, errors) in enumerate(layer_errors(net, proof), 1):
        rows.append(row(str(number), f"{shape[0]}\u00a0×\u00a0{shape[1]}", errors=errors))
    note = paragraph(
        "Before training, loss and closed-form gradient of the first batch were compared with jax.grad in float64. "
        "Errors are the largest of weights and biases, in units of last place: eps times the largest entry."
    )
    holds = "Every difference is explained by rounding." if proof.holds else "The proof failed."
    return section("proof", "Proof of the gradient", note, table(holds, columns, rows, words=(0, 1)))


def sweep_section(trained: Trained) -> Element | None:
    """All networks that were trained at once."""
    if trained.sweep is None:
        return None
    columns, rows = sweep_rows(trained.sweep, trained.setup.task)
    shown = table(f"{len(rows)} networks, the best first", columns, rows[:NETWORKS], words=())
    for best in shown.findall("table/tbody/tr")[:1]:
        best.set("class", "best")
    rest = paragraph(f"The best {NETWORKS} are shown.") if len(rows) > NETWORKS else None
    return section("sweep", "Sweep", shown, rest)


def time_section(trained: Trained, made: dict[str, Any]) -> Element:
    """Where the time went, and what it was spent with."""
    summary = trained.summary
    times = [
        ("to compile", f"{summary['compile_seconds']:.2f} s"),
        ("of an epoch (mean)", f"{summary['epoch_seconds']:.4f} s"),
        ("of training", f"{summary['training_seconds']:.1f} s"),
        ("in all, after imports", f"{summary['seconds']:.1f} s"),
        ("training examples a second", f"{summary['examples_a_second']:,.0f}"),
    ]
    if summary["networks"] > 1:
        times.append(("networks trained at once", f"{summary['networks']}"))
    epochs = f"{summary['epochs']}"
    if summary["stopped"] != "epochs":
        epochs += f" of {summary['epochs_wanted']} ({summary['stopped']})"
    times += [("epochs", epochs), ("parameters kept of epoch", f"{summary['kept_epoch']}")]
    times += [(f"examples, {part}", f"{count:,}") for part, count in summary["examples"].items()]
    versions = [("device", str(made["device"])), ("made", str(made["created"]))]
    versions += [(name, version) for name, version in made["versions"].items()]
    return section(
        "time", "Time and versions", element("h3", "Time"), facts(times), element("h3", "Versions"), facts(versions)
    )


def options_section(config: Config) -> Element:
    """Every option with its value."""
    parts = []
    for group, options in asdict(config).items():
        parts += [element("h3", GROUPS[group]), facts((name, option_text(value)) for name, value in options.items())]
    return section("options", "Options", *parts)


def option_text(value: Any) -> Element:
    """An option's value as it would be typed."""
    if value is None:
        return element("span", "none", class_="open")
    if isinstance(value, tuple):
        return element("span", " ".join(map(str, value)) or "none")
    if isinstance(value, float):
        return element("span", np.format_float_positional(value, trim="-") if 1e-4 <= value < 1e6 else f"{value:g}")
    return element("span", str(value) if not isinstance(value, Path) else value.as_posix())
