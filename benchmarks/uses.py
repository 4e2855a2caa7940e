"""The examples of `docs/uses.md` over several seeds: wrong labels, batch sizes, influence, kernel regression."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import machine, write_results
from uses_cases import Influence, Noise, Ranking, along, digits, influence, noise, ranking, regression, sgd_net
from uses_picture import draw

EVERY = 10


@dataclass(frozen=True)
class Options:
    """What per-example gradients are good for, measured on digits."""

    quick: bool = False
    """One seed and little training, to see that it works."""
    seeds: int = 10
    """Seeds of data, parameters and batches."""
    out: Path = Path("benchmarks/results")
    """Folder for tables (Markdown), numbers (JSON) and picture (PNG)."""


def range_of(values: Sequence[float], form: str) -> str:
    """Mean, least and largest."""
    return f"{np.mean(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def finite(rows: np.ndarray) -> list[list[float | None]]:
    """As lists; what is not finite, which JSON does not know, becomes None."""
    return [[float(value) if np.isfinite(value) else None for value in row] for row in rows]


def labels_table(rankings: Mapping[str, Sequence[Ranking]]) -> Lines:
    """A row for each way to train."""
    rows = [
        [way, *(range_of([one.precision(name) for one in found], ".1%") for name in found[0].scores)]
        for way, found in rankings.items()
    ]
    return Lines("Precision at 2 % of planted wrong labels", ["scored by", "by gradient norm", "by loss"], rows)


def ink_table(rankings: Sequence[Ranking], images: np.ndarray) -> Lines:
    """How much ink is in the digits that the first way is wrong about, all seeds together."""
    norms, rows = np.linalg.norm(images, axis=1), []
    for name in rankings[0].scores:
        both = zip(*(ranking.errors(name) for ranking in rankings), strict=True)
        rows.append([f"by {name}", *(f"{norms[np.concatenate(part)].mean():.2f}" for part in both)])
    title = f"Mean norm of the images, {norms.mean():.2f} over all digits, by networks that have not seen them"
    return Lines(title, ["ranked", "suspected wrongly", "missed"], rows)


def noise_table(noise: Noise) -> Lines:
    """A row for each batch size."""
    rows = [[str(b), f"{noise.seen[b]:.1f}", f"{noise.predicted(b):.1f}", f"{noise.rates[b]:g}"] for b in noise.seen]
    title = f"Steps to loss 0.5; all examples {noise.steps:.1f}; noise scale at the start "
    title += f"{range_of(noise.at_start, '.0f')}, in the mean over those steps {noise.mean:.1f}"
    return Lines(title, ["batch", "steps seen", "predicted", "best rate"], rows)


def influence_table(influences: Sequence[Influence]) -> Lines:
    """A row for each rate."""
    rates = influences[0].errors
    rows = [[f"{rate:g}", range_of([one.errors[rate] for one in influences], ".2%")] for rate in rates]
    kin = [np.mean([getattr(one, name) for one in influences]) for name in ("lowering", "raising")]
    title = "Change of a test example's loss by a step on each training example; of the 8 that lower it most "
    title += f"{kin[0]:.1f} have its label, of the 8 that raise it most {kin[1]:.1f} the label it is taken for"
    return Lines(title, ["rate", "seen against predicted, ‖difference‖ / ‖predicted‖"], rows)


def regression_table(errors: Sequence[Mapping[str, float]]) -> Lines:
    """A row for each model."""
    forms = {name: ".1e" if name == "linearised differs" else ".1%" for name in errors[0]}
    rows = [[name, range_of([one[name] for one in errors], form)] for name, form in forms.items()]
    return Lines("Kernel regression: wrong test labels, largest difference", ["model", "mean (range)"], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each use, print its table, write tables, numbers and the picture."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine())
    quick, seeds = options.quick, 1 if options.quick else options.seeds
    x, y = digits()
    ways: dict[str, tuple[int, int]] = {"networks that have not seen the example, 20 epochs": (20, 3)}
    if not quick:
        ways |= {f"the network that learned from it, {epochs} epochs": (epochs, 1) for epochs in (5, 20, 200)}
    rankings = {name: [ranking(x, y, seed, *way) for seed in range(seeds)] for name, way in ways.items()}
    steps = noise(x, y, seeds, (16, 64) if quick else (2, 4, 8, 16, 32, 64, 128, 256))
    inputs, labels = jnp.asarray(x), jnp.asarray(y)
    lines = [
        along(sgd_net(x), inputs, labels, jax.random.key(seed), 0.4, EVERY, 5 if quick else 40) for seed in range(seeds)
    ]
    losses, scales = (np.array(part) for part in zip(*lines, strict=True))
    influences = [influence(x, y, seed, 1 if quick else 5) for seed in range(seeds)]
    errors = [regression(x, y, seed, *((30, 2) if quick else (200, 100))) for seed in range(seeds)]
    unseen = next(iter(rankings.values()))
    tables = [labels_table(rankings), ink_table(unseen, x), noise_table(steps), influence_table(influences)]
    tables.append(regression_table(errors))
    console.print(*map(shown, tables), sep="\n")
    name = "uses_quick" if quick else "uses"
    draw(x, unseen, steps, (losses, scales, EVERY), options.out / f"{name}.png")
    record: dict[str, Any] = {
        "precision": {
            way: {score: [one.precision(score) for one in found] for score in found[0].scores}
            for way, found in rankings.items()
        },
        "noise": steps._asdict(), "losses": losses.tolist(), "noise scales": finite(scales),
        "influence": [one._asdict() for one in influences], "regression": errors,
    }  # fmt: skip
    console.print(write_results(options.out, name, record, "\n\n".join(map(markdown, tables)), "optax"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
