"""What is written into a run's folder."""

import csv
import importlib.metadata
import io
import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from funcnet.interchange import write_whole
from funcnet.runs.folder import CONFIG, CONFUSION, CURVES, METRICS, MODEL, PREDICTIONS, SUMMARY, SWEEP
from funcnet.runs.model import Model, save_model
from funcnet.runs.outcome import outcome
from funcnet.runs.pictures import confusion, curves, predicted_against_true, write_figure
from funcnet.runs.setup import Setup
from funcnet.training.metrics import metric_names
from funcnet.training.run import Result
from funcnet.training.sweep import Sweep

PACKAGES = ("funcnet", "jax", "jaxlib", "numpy", "optax", "scikit-learn")


def write_run(folder: Path, setup: Setup, result: Result, model: Model, summary: dict[str, Any]) -> None:
    """Write options, metrics, summary, model and pictures of a run.

    Raises:
        OSError: If a file cannot be written.
    """
    options = {"options": setup.config.flat(), "trained_on": setup.counts["train"]}
    _write_json(folder / CONFIG, {**options, **origin(setup)})
    _write_json(folder / SUMMARY, summary)
    write_metrics(folder / METRICS, result.history)
    save_model(folder / MODEL, model)
    write_figure(run_curves(setup, result), folder / CURVES)
    name, figure = _outcome(setup, model)
    write_figure(figure, folder / name)


def origin(setup: Setup) -> dict[str, Any]:
    """With which versions a run was made, when, and on what."""
    packages = PACKAGES if setup.privacy is None else (*PACKAGES, "dp-accounting")
    versions = {name: importlib.metadata.version(name) for name in packages}
    now, device = datetime.now(UTC).isoformat(timespec="seconds"), jax.devices()[0].device_kind
    return {"versions": versions, "created": now, "device": device}


def run_curves(setup: Setup, result: Result) -> Figure:
    """The curves of a run, with the epoch that was gone back to."""
    best = result.epoch if result.epoch < len(result.history["train_loss"]) else None
    return curves(result.history, metric_names(setup.task)[0], best)


def write_metrics(path: Path, history: dict[str, np.ndarray]) -> None:
    """Write one row for each epoch and one column for each metric.

    Raises:
        OSError: If it cannot be written.
    """
    rows = enumerate(zip(*history.values(), strict=True), 1)
    _write_csv(path, ["epoch", *history], [[number, *(float(value) for value in row)] for number, row in rows])


def write_sweep(folder: Path, sweep: Sweep) -> None:
    """Write one row for each network: its settings and its last metrics.

    Raises:
        OSError: If it cannot be written.
    """
    columns = {**sweep.settings, **{name: values[-1] for name, values in sweep.history.items()}}
    _write_csv(folder / SWEEP, columns, zip(*(column.tolist() for column in columns.values()), strict=True))


def _outcome(setup: Setup, model: Model) -> tuple[str, Figure]:
    """What the model makes of the part it was never trained on, or of the training part if there is no other."""
    part, dataset, (labels, values) = outcome(model, setup.parts)
    if labels is not None:
        return CONFUSION, confusion(dataset.y, labels, dataset.class_names, part)
    return PREDICTIONS, predicted_against_true(dataset.y, values, dataset.target_names, part)


def _write_csv(path: Path, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([names, *rows])
    write_whole(path, text.getvalue().encode())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON has no NaN: what is not finite is written as null."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_whole(path, f"{json.dumps(clean(content), indent=2, ensure_ascii=False)}\n".encode())
