"""Predict with a run that scripts/train.py kept: predictions and probabilities as CSV.

DATA is what --data of scripts/train.py takes. Targets may be left out; where they are there, standard error tells how
good the predictions are.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from sklearn.metrics import r2_score
from tyro.conf import Positional, arg

from funcnet.data import read_features
from funcnet.interchange import write_whole
from funcnet.runs import Model, Predictions, predict, read_run
from funcnet.runs.command_line import parse, run_script, stop_output
from funcnet.runs.config import OpenPath, OpenText


@dataclass(frozen=True)
class Options:
    """Predict with a run that scripts/train.py kept."""

    run: Annotated[Path, Positional, arg(metavar="RUN")]
    """The folder of the run: --run-dir of scripts/train.py."""
    data: Annotated[str | None, Positional, arg(metavar="[DATA]", help_behavior_hint="")] = None
    """digits, iris, …, mnist, openml:NAME, a .csv, .tsv, .txt or .npz file, or a folder of .npy files. By default the
    data of the run."""
    data_dir: OpenPath = None
    """The folder of MNIST's files, for mnist. By default that of the run."""
    target: OpenText = None
    """The target column of a text file, if it has one under another name or place than in training."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first row names the columns."""
    part: OpenText = None
    """train, validation or test, of a source that has several. By default test."""
    out: OpenPath = None
    """The file to write, which must not be there yet. By default standard output."""


def columns(model: Model) -> list[str]:
    """The header of what is written."""
    names, targets, k = model.schema.class_names, model.schema.target_names, model.schema.n_targets
    if names:
        kind = "probability" if model.net.loss.logits else "score"
        return ["prediction", *(f"{kind}_{name}" for name in names)]
    if k == 1:
        return ["prediction"]
    return [f"prediction_{name}" for name in (targets if len(targets) == k else range(1, k + 1))]


def as_csv(model: Model, predictions: Predictions) -> str:
    """One row for each example, with as many digits as it takes to tell float32 numbers apart."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns(model))
    values = [[str(value) for value in row] for row in predictions.values]
    if predictions.labels is None:
        writer.writerows(values)
    else:
        names = model.schema.class_names
        writer.writerows([names[label], *row] for label, row in zip(predictions.labels, values, strict=True))
    return text.getvalue()


def verdict(predictions: Predictions, y: np.ndarray) -> str:
    """How good the predictions are on the examples whose targets are known, of which there are some."""
    if predictions.labels is None:
        known = np.isfinite(y).all(axis=1)
        truth, values = y[known], predictions.values[known]
        r2 = f"R² {r2_score(truth, values):.4f}, " if len(truth) > 1 else ""
        return f"{r2}mean absolute error {np.mean(np.abs(values - truth)):.4g} on {len(truth):,} examples"
    known, right = int(np.sum(y >= 0)), int(np.sum(predictions.labels == y))
    unknown = f"; {len(y) - known:,} with labels that training never saw" if known < len(y) else ""
    return f"accuracy {right / known:.2%} ({right:,} of {known:,}){unknown}"


def run(options: Options) -> None:
    """Read the run and the data, predict, and write."""
    if options.out is not None and options.out.exists():
        raise FileExistsError(f"out {options.out} is there already; choose another name")
    kept = read_run(options.run)
    model, own = kept.model, options.data in (None, kept.config["data"])
    unnamed = not model.schema.feature_names  # then the target is told by its place, as in training
    x, y = read_features(
        options.data or kept.config["data"],
        model.schema,
        folder=options.data_dir or (kept.config["data_dir"] if own else None),
        target=options.target or (kept.config["target"] if own or unnamed else None),
        header=kept.config["header"] if own and options.header == "auto" else options.header,
        part=options.part,
    )
    predictions = predict(model, x)
    text = as_csv(model, predictions)
    if options.out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(options.out, text.encode())
    if y is not None:
        seen = "; those it was trained on are among them" if own and len(x) >= kept.trained_on else ""
        print(verdict(predictions, y) + seen, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; the exit status is 0, 2 for a wrong option or file, 130 for Ctrl-C."""
    options = parse(Options, argv, __doc__, "predict.py")
    try:
        run(options)
    except BrokenPipeError:  # the reader of standard output has had enough
        stop_output()
    except (TypeError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("predict.py: interrupted; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_script(main)
