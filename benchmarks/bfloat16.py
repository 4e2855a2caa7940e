"""Products of bfloat16 operands accumulated in float32, against products in float32: seconds and accuracy of an epoch.

784-1024-1024-10 in batches of 512, on MNIST. That the gradient is the loss's within bfloat16's rounding is checked
before anything is timed.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import tyro
from epoch_peers import Peer, Problem, Settings, examples, funcnet_peer
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, NEEDED, control, interleaved, machine, noise, spread, write_results

import funcnet as fn
from funcnet.checking import reference_value_and_grad

TARGET = 1.4
BOUNDS = {"float32": 1e-5, "bfloat16": 8 * 2.0**-8}
"""How long the error of a leaf may be by the leaf; 2⁻⁸ is what rounding to bfloat16 changes."""


@dataclass(frozen=True)
class Options:
    """bfloat16 operands against float32."""

    quick: bool = False
    """Random data and a small network, to see that it works."""
    epochs: int = 10
    """Epochs of each network; all are timed but the first."""
    seeds: int = 3
    """Networks trained in each way."""
    data_dir: Path = field(default_factory=lambda: Path(os.environ.get("FUNCNET_MNIST_DIR", "mnist")))
    """Folder with MNIST's files; by default that of the environment variable FUNCNET_MNIST_DIR."""
    out: Path = Path("benchmarks/results")
    """Folder for what was measured."""


def problems(options: Options) -> dict[str, Problem]:
    """The same problem in both precisions."""
    widths = (64, 32, 32, 10) if options.quick else (784, 1024, 1024, 10)
    net = fn.MLP(widths, activation=fn.relu, loss=fn.softmax_cross_entropy)
    one = Problem(net, None, *examples(options.quick, options.data_dir))
    return {"float32": one, "bfloat16": one._replace(net=replace(net, operand_dtype="bfloat16"))}


def check_gradients(given: dict[str, Problem], batch: int) -> None:
    """Refuse to time gradients that are not those of the loss."""
    for name, (net, _, x, y, *_) in given.items():
        params = fn.init(jax.random.key(0), net, dtype="float32")
        arguments = net, params, x[:batch], y[:batch]
        exact = replace(net, operand_dtype=None), *arguments[1:]
        truth = reference_value_and_grad(fn.loss, argnums=1, compiled=True)(*exact)
        leaves = zip(*map(jax.tree.leaves, (jax.jit(fn.value_and_grad)(*arguments), truth)), strict=True)
        errors = [np.linalg.norm(got - expected) / np.linalg.norm(expected) for got, expected in leaves]
        if not max(errors) <= BOUNDS[name]:
            raise SystemExit(f"{name}: not the gradient of the loss, {max(errors):.2%} off; nothing is timed")


def main(argv: Sequence[str] | None = None) -> int:
    """Check, measure, print, write."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    try:
        given = problems(options)
    except FileNotFoundError as error:
        console.print(f"Nothing is measured without MNIST: {NEEDED}; {error}")
        return 0
    epochs, seeds, batch = (2, 1, 128) if options.quick else (options.epochs, options.seeds, 512)
    check_gradients(given, batch)
    found: dict[str, list[float]] = {name: [] for name in (*given, CONTROL)}
    accuracies: dict[str, list[float]] = {name: [] for name in given}
    quiet = ""
    for seed in range(seeds):
        peers: dict[str, Peer] = {
            name: funcnet_peer(problem._replace(seed=seed), Settings(batch)) for name, problem in given.items()
        }
        runs = {name: peer.epoch for name, peer in peers.items()} | {CONTROL: control()}
        times = interleaved(runs, epochs - 1, warm_up=1)
        quiet = noise(times)
        for name, values in times.items():
            found[name] += values.tolist()
        for name, peer in peers.items():
            accuracies[name].append(peer.accuracy())
    ratio = float(np.median(np.array(found["float32"]) / np.array(found["bfloat16"])))
    rows = []
    for name, values in accuracies.items():
        taken = "{median:.3g} ({low:.3g}–{high:.3g})".format_map(spread(np.array(found[name]))._asdict())
        rows.append([name, taken, f"{np.mean(values):.2%} ({min(values):.2%}–{max(values):.2%})"])
    network = "-".join(map(str, given["float32"].net.widths))
    header = ["operands", "seconds an epoch (median, quartiles)", "test accuracy (mean, range)"]
    table = Lines(f"{network}, batch {batch}, Adam, epochs: {epochs}, seeds: {seeds}", header, rows)
    verdict = f"float32 / bfloat16: {ratio:.2f} (wanted: {TARGET}); {quiet}"
    console.print(machine("optax"), shown(table), verdict, sep="\n")
    record = {"ratio": ratio, "seconds": found, "accuracy": accuracies}
    name = "bfloat16_quick" if options.quick else "bfloat16"
    console.print(write_results(options.out, name, record, f"{markdown(table)}\n\n{verdict}", "optax"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
