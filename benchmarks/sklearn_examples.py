"""Ten published examples of scikit-learn's MLP, with its estimators and with funcnet's in their place.

Data and settings are those of scikit-learn's documentation; the text is written anew. Each example says how good the
result is, in the measure that its page shows. The example on MNIST needs its files in FUNCNET_MNIST_DIR.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import partial_dependence
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from tables import Lines, markdown, shown
from timing import machine, write_results

from funcnet import estimators
from funcnet.data import read_mnist

EPS = 2.0**-52
MOVED = 6
PAIR = [[0.0, 0.0], [1.0, 1.0]]


@dataclass(frozen=True)
class Options:
    """Ten published examples, scikit-learn's import swapped for funcnet's."""

    quick: bool = False
    """The shorter ones alone."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


def planes() -> list[Any]:
    """Moons, circles, and two classes that a line can tell apart, nearly."""
    x, y = datasets.make_classification(
        n_features=2, n_redundant=0, n_informative=2, random_state=1, n_clusters_per_class=1
    )
    x = x + 2 * np.random.RandomState(2).uniform(size=np.shape(x))
    return [
        datasets.make_moons(noise=0.3, random_state=0),
        datasets.make_circles(noise=0.2, factor=0.5, random_state=1),
        (x, y),
    ]


def halves() -> list[Any]:
    """The same, each cut into training and test part."""
    return [train_test_split(x, y, test_size=0.4, random_state=42) for x, y in planes()]


def regularization(library: Any) -> float:
    """Varying regularization: test accuracy, mean over data sets and alphas."""
    scores = []
    for x, x_test, y, y_test in halves():
        for alpha in np.logspace(-1, 1, 5):
            model = library.MLPClassifier(
                solver="lbfgs",
                alpha=alpha,
                random_state=1,
                max_iter=2000,
                early_stopping=True,
                hidden_layer_sizes=[10, 10],
            )
            scores.append(make_pipeline(StandardScaler(), model).fit(x, y).score(x_test, y_test))
    return float(np.mean(scores))


def training_curves(library: Any) -> float:
    """Stochastic learning strategies: training accuracy, mean over data sets and strategies."""
    momentum = {"momentum": 0.9, "learning_rate_init": 0.2, "solver": "sgd"}
    strategies = [
        {"solver": "sgd", "learning_rate": rate, "momentum": 0, "learning_rate_init": 0.2}
        for rate in ("constant", "invscaling")
    ]
    strategies += [
        {**momentum, "learning_rate": rate, "nesterovs_momentum": nesterov}
        for rate in ("constant", "invscaling")
        for nesterov in (False, True)
    ]
    strategies.append({"solver": "adam", "learning_rate_init": 0.01})
    scores = []
    for name, (x, y) in {
        "iris": datasets.load_iris(return_X_y=True),
        "digits": datasets.load_digits(return_X_y=True),
        "circles": planes()[1],
        "moons": planes()[0],
    }.items():
        scaled = MinMaxScaler().fit_transform(x)
        for strategy in strategies:
            model = library.MLPClassifier(random_state=0, max_iter=15 if name == "digits" else 400, **strategy)
            scores.append(model.fit(scaled, y).score(scaled, y))
    return float(np.mean(scores))


def mnist_filters(library: Any) -> float:
    """Weights on MNIST: test accuracy after 8 passes over 21,000 images."""
    parts = read_mnist(os.environ["FUNCNET_MNIST_DIR"]).values()
    x, y = (np.concatenate([np.asarray(getattr(part, name)) for part in parts]) for name in "xy")
    x, x_test, y, y_test = train_test_split(x.astype(np.float64), y, random_state=0, test_size=0.7)
    model = library.MLPClassifier(
        hidden_layer_sizes=(40,), max_iter=8, alpha=1e-4, solver="sgd", random_state=1, learning_rate_init=0.2
    )
    return model.fit(x, y).score(x_test, y_test)


def classifier_comparison(library: Any) -> float:
    """Classifier comparison, the neural net: test accuracy, mean over data sets."""
    scores = []
    for x, x_test, y, y_test in halves():
        model = library.MLPClassifier(alpha=1, max_iter=1000, random_state=42)
        scores.append(make_pipeline(StandardScaler(), model).fit(x, y).score(x_test, y_test))
    return float(np.mean(scores))


def partial_dependence_api(library: Any) -> float:
    """Plotting with partial dependence: training R² on diabetes."""
    data: Any = datasets.load_diabetes()
    x, y = data.data, data.target
    model = library.MLPRegressor(hidden_layer_sizes=(100, 100), tol=1e-2, max_iter=500, random_state=0)
    model = make_pipeline(StandardScaler(), model).fit(x, y)
    assert partial_dependence(model, x, [2]).average.shape == (1, 100)
    return model.score(x, y)


def classifier_reference(library: Any) -> float:
    """`MLPClassifier`'s own example: test accuracy."""
    x, y = datasets.make_classification(n_samples=100, random_state=1)
    x, x_test, y, y_test = train_test_split(x, y, stratify=y, random_state=1)
    return library.MLPClassifier(random_state=1, max_iter=300).fit(x, y).score(x_test, y_test)


def regressor_reference(library: Any) -> float:
    """`MLPRegressor`'s own example: test R²."""
    x, y, *_ = datasets.make_regression(n_samples=200, n_features=20, random_state=1)
    x, x_test, y, y_test = train_test_split(x, y, random_state=1)
    return library.MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(x, y).score(x_test, y_test)


def guide_classification(library: Any) -> float:
    """User guide, classification: share of the two predictions that are right."""
    model = library.MLPClassifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(5, 2), random_state=1)
    return float(np.mean(model.fit(PAIR, [0, 1]).predict([[2.0, 2.0], [-1.0, -2.0]]) == [1, 0]))


def guide_labels(library: Any) -> float:
    """User guide, several labels: share of the labels of two predictions that are right."""
    model = library.MLPClassifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(15,), random_state=1)
    return float(np.mean(model.fit(PAIR, [[0, 1], [1, 1]]).predict([[1.0, 2.0], [0.0, 0.0]]) == [[1, 1], [0, 1]]))


def guide_warm_start(library: Any) -> float:
    """User guide, more control with warm_start: training accuracy after 10 calls of one pass."""
    model = library.MLPClassifier(hidden_layer_sizes=(15,), random_state=1, max_iter=1, warm_start=True)
    for _ in range(10):
        model.fit(PAIR, [0, 1])
    return model.score(PAIR, [0, 1])


EXAMPLES: tuple[Callable[[Any], float], ...] = (
    regularization,
    training_curves,
    mnist_filters,
    classifier_comparison,
    partial_dependence_api,
    classifier_reference,
    regressor_reference,
    guide_classification,
    guide_labels,
    guide_warm_start,
)


def chosen(quick: bool) -> list[Callable[[Any], float]]:
    """The examples that can be run."""
    left_out = {training_curves, mnist_filters, regularization} if quick else set()
    if not os.environ.get("FUNCNET_MNIST_DIR"):
        left_out.add(mnist_filters)
    return [example for example in EXAMPLES if example not in left_out]


def measured(example: Callable[[Any], float], library: Any) -> dict[str, float]:
    """How good it is, and how long it takes, compiling included."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the examples stop early on purpose
        score = example(library)
    return {"score": score, "seconds": time.perf_counter() - start}


def moved(seed: int) -> Any:
    """scikit-learn, which sees every feature moved by one rounding at most."""
    random = np.random.default_rng(seed)

    def trembling(kind: Any) -> Any:
        def fit(self: Any, x: Any, y: Any) -> Any:
            x = np.asarray(x)
            return kind.fit(self, x * (1 + random.integers(-1, 2, x.shape) * EPS), y)

        return type(kind.__name__, (kind,), {"fit": fit})

    kinds = (neural_network.MLPClassifier, neural_network.MLPRegressor)
    return SimpleNamespace(**{kind.__name__: trembling(kind) for kind in kinds})


def main(argv: Sequence[str] | None = None) -> int:
    """Run all, print the table, write table and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(machine("scikit-learn"))
    record, rows, said = {}, [], []
    for example in chosen(options.quick):
        theirs, ours = measured(example, neural_network), measured(example, estimators)
        record[example.__name__] = {"scikit-learn": theirs, "funcnet": ours}
        if ours["score"] < theirs["score"]:
            scores = sorted(measured(example, moved(seed))["score"] for seed in range(MOVED))
            record[example.__name__]["scikit-learn, features moved by one rounding"] = scores
            said.append(
                f"{example.__name__}: with features moved by one rounding scikit-learn itself gives "
                f"{', '.join(f'{score:.4f}' for score in scores)}"
            )
        rows.append(
            [
                (example.__doc__ or "").rstrip("."),
                *(f"{one['score']:.4f}" for one in (theirs, ours)),
                *(f"{one['seconds']:.2f}" for one in (theirs, ours)),
            ]
        )
    header = ["example: what is measured", "scikit-learn", "funcnet", "scikit-learn, s", "funcnet, s, with compiling"]
    lines = Lines("Published examples of scikit-learn, the import swapped", header, rows)
    good = sum(one["funcnet"]["score"] >= one["scikit-learn"]["score"] for one in record.values())
    said = "\n\n".join([f"at least as good: {good} of {len(record)}", *said])
    console.print(shown(lines), said, sep="\n")
    name = "sklearn_examples_quick" if options.quick else "sklearn_examples"
    console.print(write_results(options.out, name, record, f"{markdown(lines)}\n\n{said}", "scikit-learn"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
