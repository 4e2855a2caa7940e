"""Predict with a run that scripts/train.py kept: predictions and probabilities as CSV.

DATA is what --data of scripts/train.py takes. Targets may be left out; where they are there, standard error tells how
good the predictions are.
"""

import csv
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from funcnet.data import read_features
from funcnet.interchange import write_whole
from funcnet.runs import Model, Predictions, predict, read_run


@dataclass(frozen=True)
class Options:
    """Predict with a run that scripts/train.py kept."""

    run: Annotated[Path, tyro.conf.Positional]
    """The folder of the run: --run-dir of scripts/train.py."""
    data: Annotated[str | None, tyro.conf.Positional] = None
    """digits, iris, …, mnist, openml:NAME, or a .csv, .tsv or .npz file. By default the data of the run."""
    data_dir: Path | None = None
    """The folder of MNIST's files, for mnist. By default that of the run."""
    target: str | None = None
    """The target column of a text file, if it has one under another name or place than in training."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first row names the columns."""
    part: str | None = None
    """train, validation or test, of a source that has several. By default test."""
    out: Path | None = None
    """The file to write. By default standard output."""


def columns(model: Model) -> list[str]:
    """The header of what is written."""
    names = model.schema.class_names
    if names:
        return ["prediction", *(f"{'probability' if model.net.loss.logits else 'score'}_{name}" for name in names)]
    targets = model.schema.target_names
    if len(targets) == model.schema.n_targets:
        return [f"prediction_{name}" for name in targets]
    return (
        ["prediction"] if model.schema.n_targets == 1 else [f"prediction_{i + 1}" for i in range(model.net.widths[-1])]
    )


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


def verdict(model: Model, predictions: Predictions, y: np.ndarray) -> str:
    """How good the predictions are, where there are targets to compare with."""
    if predictions.labels is None:
        known = np.isfinite(y).all(axis=1)
        error = np.abs(predictions.values - y)[known]
        return f"mean absolute error {np.mean(error):.4g} on {known.sum():,} examples" if known.any() else ""
    known = y >= 0
    right = int(np.sum(predictions.labels == y))
    if not known.any():
        return ""
    unknown = f"; {np.sum(~known):,} with labels that training never saw" if not known.all() else ""
    return f"accuracy {100 * right / known.sum():.2f} % ({right:,} of {known.sum():,}){unknown}"


def run(options: Options) -> None:
    """Read the run and the data, predict, and write."""
    if options.out is not None and options.out.exists():
        raise FileExistsError(f"out {options.out} is there already; choose another name")
    kept, model = read_run(options.run)
    own = options.data is None
    unnamed = not model.schema.feature_names  # then the target is told by its place, as in training
    x, y = read_features(
        kept["data"] if options.data is None else options.data,
        model.schema,
        folder=options.data_dir or _folder(kept, options.data),
        target=options.target or (kept["target"] if own or unnamed else None),
        header=kept["header"] if own and options.header == "auto" else options.header,
        part=options.part,
    )
    predictions = predict(model, x)
    text = as_csv(model, predictions)
    if options.out is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_whole(options.out, text.encode())
    if y is not None and (said := verdict(model, predictions, y)):
        print(said, file=sys.stderr)


def _folder(kept: dict[str, Any], data: str | None) -> str | None:
    """The folder that the run had its data from, where it is the same data."""
    return kept["data_dir"] if data in (None, kept["data"]) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; the exit status is 0, or 2 for a wrong option or file."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    try:
        run(options)
    except BrokenPipeError:  # the reader of standard output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (TypeError, ValueError, OSError, ModuleNotFoundError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
