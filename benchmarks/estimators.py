"""Estimators against scikit-learn's own at default settings: five-fold accuracy or R², and time.

Both see the same folds and random states; times of all folds together, funcnet's with the compiling that a fresh
process does and without.
"""

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold
from tables import Lines, markdown, shown
from timing import machine, write_results

from funcnet import estimators

DATA: dict[str, Callable[[], Any]] = {
    "digits": datasets.load_digits,
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
WAYS = ("scikit-learn", "funcnet", "funcnet, compiled before")


@dataclass(frozen=True)
class Options:
    """Five-fold cross-validation of both libraries' estimators."""

    quick: bool = False
    """One seed and one data set, to see that it works."""
    seeds: int = 5
    """Seeds of folds and estimators."""
    float32: bool = False
    """Features in float32, which both then compute in."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


def five_folds(make: Callable[[], Any], x: np.ndarray, y: np.ndarray, folds: Any) -> tuple[float, float]:
    """Mean score, and seconds of fitting and predicting."""
    start, scores = time.perf_counter(), []
    for train, test in folds.split(x, y):
        scores.append(make().fit(x[train], y[train]).score(x[test], y[test]))
    return float(np.mean(scores)), time.perf_counter() - start


def measured(name: str, seeds: int, dtype: str) -> dict[str, Any]:
    """Scores and seconds of each way, seed by seed."""
    data = DATA[name]()
    x, y, numbers = data.data.astype(dtype), data.target, name == "diabetes"
    found: dict[str, Any] = {way: {"score": [], "seconds": []} for way in WAYS}
    for seed in range(seeds):
        folds = (KFold if numbers else StratifiedKFold)(5, shuffle=True, random_state=seed)
        for way in WAYS:
            library: Any = neural_network if way == WAYS[0] else estimators
            if way == "funcnet":
                jax.clear_caches()
            kind = library.MLPRegressor if numbers else library.MLPClassifier
            score, seconds = five_folds(lambda kind=kind, seed=seed: kind(random_state=seed), x, y, folds)
            found[way]["score"].append(score)
            found[way]["seconds"].append(seconds)
    return found


def row(name: str, found: dict[str, Any]) -> list[str]:
    """Means of the scores with the number of seeds that are at least as good, and medians of the seconds."""
    theirs, ours = (np.array(found[way]["score"]) for way in WAYS[:2])
    good = f"{np.mean(ours):.4f} ({int((ours >= theirs).sum())} of {len(ours)})"
    return [name, f"{np.mean(theirs):.4f}", good, *(f"{np.median(found[way]['seconds']):.2f}" for way in WAYS)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write table and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(machine("scikit-learn"))
    names, seeds = (["wine"], 1) if options.quick else (list(DATA), options.seeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 iterations are few
        record = {name: measured(name, seeds, "float32" if options.float32 else "float64") for name in names}
    header = ["data", "scikit-learn", "funcnet (seeds at least as good)", *(f"{way}, s" for way in WAYS)]
    title = f"Five folds at default settings, {seeds} seeds, float{32 if options.float32 else 64}"
    lines = Lines(title, header, [row(name, found) for name, found in record.items()])
    console.print(shown(lines))
    name = "estimators" + "_float32" * options.float32 + "_quick" * options.quick
    console.print(write_results(options.out, name, record, markdown(lines), "scikit-learn"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
