"""Train an MLP on real data by closed-form gradients, after proving them against `jax.grad`.

Alone, it trains on the handwritten digits that scikit-learn carries and draws the curves of the run. With --run-dir it
keeps options, metrics, model and pictures; scripts/predict.py predicts with what was kept.
"""

import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

import funcnet as fn
from funcnet.runs import (
    Config,
    Proof,
    Setup,
    Trained,
    check_report,
    measured,
    new_folder,
    prove,
    run_curves,
    run_sweep,
    set_up,
    write_report,
    write_run,
    write_sweep,
)
from funcnet.runs.command_line import Output, parse, run_script
from funcnet.runs.display import progress, proof_table, result_table, sweep_table
from funcnet.runs.folder import REPORT
from funcnet.runs.pictures import SUFFIXES, write_figure
from funcnet.runs.processes import EndedError, check_agreement, gathered, join, leads, mesh_of, told_when_another_ends
from funcnet.runs.resuming import check_resuming, checkpoints_of, run_alone, what_is_kept
from funcnet.runs.signals import interruptible
from funcnet.runs.sweep import of_the_leader, with_largest_penalties
from funcnet.training.preparation import Prepared
from funcnet.training.progress import place

PROOF_ROWS = 128


class WrongGradientError(Exception):
    """The proof failed."""


class StoppedError(Exception):
    """A signal came; a checkpoint was written.

    Attributes:
        signal: Its number.
    """

    def __init__(self, signal: int, epoch: int, part: int) -> None:
        """After which epoch, and how many parts of the next."""
        super().__init__(f"stopped after {place(epoch, part)}; with --resume the run goes on from there")
        self.signal = signal


class NothingLearnedError(Exception):
    """The first epoch already met a loss that is not finite."""


@jax.jit
def drawn(seed: Any, net: fn.MLP) -> tuple[fn.Params, Any, Any]:
    """Initial parameters, and keys for proof and training: one program compiles faster than one for each of them."""
    init_key, proof_key, fit_key = jax.random.split(jax.random.key(seed), 3)
    return fn.init(init_key, net, dtype="float32"), proof_key, fit_key


def first_batch(setup: Setup) -> tuple[Any, Any]:
    """What the proof looks at."""
    x, y = setup.arrays("train")
    batch = slice(setup.config.training.batch_size or PROOF_ROWS)
    return x[batch], y[batch]


def compile_and_prove(setup: Setup) -> tuple[Prepared, Proof]:
    """The training program and the proof, side by side: two compilers, two cores."""
    training = setup.config.training
    params, proof_key, fit_key = drawn(np.uint32(training.seed), setup.net)
    if setup.privacy is not None:  # who knew the key would know the noise
        fit_key = jax.random.wrap_key_data(jax.numpy.asarray(np.frombuffer(secrets.token_bytes(8), np.uint32)))
    with ThreadPoolExecutor() as pool:
        proof = pool.submit(prove, setup.net, params, *first_batch(setup), proof_key)
        preparation = pool.submit(
            fn.training.prepare,
            fit_key,
            setup.net,
            setup.optimizer,
            setup.data(),
            batch_size=training.batch_size,
            validation=setup.arrays("validation") if "validation" in setup.parts else None,
            params=params,
            task=setup.task,
            privacy=setup.privacy,
            mesh=mesh_of(setup.config),
        )
    return preparation.result(), proof.result()


def check_proof(setup: Setup, proof: Proof, console: Console) -> None:
    """Show the proof, and refuse to go on if it fails."""
    console.print(proof_table(setup.net, proof))
    if not proof.holds:
        raise WrongGradientError("\n".join(("The gradient is wrong; nothing is trained.", *map(str, proof))))


def train(setup: Setup, console: Console, start: float) -> Trained:
    """Prove the gradient, train with progress, and measure the model on each part.

    Of several processes the first does what one alone would do, and the others help it train.
    """
    prepared, proof = compile_and_prove(setup)
    check_proof(setup, proof, console)
    training = setup.config.training
    began, checkpoints = time.perf_counter(), checkpoints_of(setup, complain)
    with (
        interruptible(checkpoints is not None, complain) as signalled,
        progress(console, setup.epochs, setup.task) as show,
        told_when_another_ends(),
    ):
        result = fn.training.run(
            prepared,
            setup.epochs,
            patience=training.patience,
            tolerance=training.tolerance,
            on_epoch=lambda number, metrics: show.epoch(number, setup.in_units(metrics)),
            on_part=show.part,
            checkpoints=checkpoints,
            resume=setup.config.output.resume,
            interrupted=lambda: bool(signalled()),
        )
        result = result._replace(state=result.state._replace(params=gathered(result.state.params)))
    if result.stopped == "interrupted":
        raise StoppedError(signalled() or signal.SIGTERM, result.epoch, result.part)
    if result.failure is not None and result.epoch == 0:
        raise NothingLearnedError(f"{result.failure.place}; nothing was learned, nothing is kept")
    return measured(setup, result, proof, start, time.perf_counter() - began)


def train_many(setup: Setup, words: Sequence[str], console: Console, start: float) -> Trained:
    """Prove the gradient with the largest penalties of the sweep, train all networks, and measure the best."""
    hardest = with_largest_penalties(setup, words)
    params, proof_key, _ = drawn(np.uint32(setup.config.training.seed), hardest.net)
    proof = prove(hardest.net, params, *first_batch(hardest), proof_key)
    check_proof(hardest, proof, console)
    began = time.perf_counter()
    with progress(console, setup.epochs, setup.task) as show:
        sweep, chosen, result = run_sweep(
            setup, words, lambda number, metrics: show.epoch(number, setup.in_units(of_the_leader(metrics, setup.task)))
        )
    if not np.isfinite(result.history["validation_loss"][-1]):
        raise NothingLearnedError("the loss of every network is not finite; nothing was learned, nothing is kept")
    console.print(sweep_table(sweep, setup.task))
    networks = len(sweep.history["validation_loss"][-1])
    trained_in = time.perf_counter() - began - sweep.compile_seconds
    return measured(chosen, result, proof, start, trained_in, networks)._replace(sweep=sweep)


def complain(message: str) -> None:
    """Tell what went otherwise than wished."""
    print(f"train.py: {message}", file=sys.stderr)


@contextmanager
def output(config: Config) -> Iterator[Path | None]:
    """The folder to write the run into, if one is wanted; refused before the work is done if it could not be."""
    if config.output.run_dir is None:
        check_plot(plot_of(config))
        yield None
        return
    if config.output.plot is not None:
        raise ValueError("plot is for runs without run_dir, which holds the pictures")
    with new_folder(config.output.run_dir, config.output.overwrite) as folder:
        yield folder


def plot_of(config: Config) -> Path:
    """Where the curves go without a run folder; the report stands beside them."""
    return config.output.plot or Path("training.png")


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be written."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"plot must end in .png, .pdf or .svg; got {path}")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"plot must be a file in a folder that exists and can be written; got {path}")
    check_report(path.with_suffix(".html"))


def keep(trained: Trained, config: Config, folder: Path | None) -> list[str]:
    """Write what is kept of a run, and name it."""
    if folder is None:
        plot = plot_of(config)
        write_figure(run_curves(trained.setup, trained.result), plot)
        write_report(plot.with_suffix(".html"), trained)
        return [f"Curves: {plot}", f"Report: {plot.with_suffix('.html')}"]
    write_run(folder, trained.setup, trained.result, trained.model, trained.summary)
    if trained.sweep is not None:
        write_sweep(folder, trained.sweep)
    write_report(folder / REPORT, trained)
    return [f"Run: {config.output.run_dir}", f"Report: {Path(config.output.run_dir or '') / REPORT}"]


def run(config: Config, console: Console) -> int:
    """Prove, train, report and keep."""
    start = time.perf_counter()
    check_resuming(config)
    join(config.process, complain)
    check_agreement(config)
    if not leads():
        train(set_up(config), Console(quiet=True), start)
        return 0
    with output(config) as folder, run_alone(config):
        setup = set_up(config)
        if config.training.sweep is None:
            trained = train(setup, console, start)
        else:
            trained = train_many(setup, config.training.sweep, console, start)
        console.print(result_table(trained.summary))
        kept = keep(trained, config, folder)
    for line in kept:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    failure = trained.result.failure
    if failure is not None:
        complain(str(failure))
    return 0 if failure is None else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run with command-line arguments.

    Returns:
        0; 1 for a wrong gradient or a loss that is not finite, 2 for a wrong option or file, 130 for Ctrl-C.
    """
    config = parse(Config, argv, __doc__, "train.py")
    try:
        return run(config, Output())
    except WrongGradientError as error:
        print(error)
        return 1
    except StoppedError as error:
        if leads():
            complain(str(error))
        return 128 + error.signal
    except EndedError as error:
        complain(str(error))
        sys.stderr.flush()
        os._exit(1)  # JAX would wait for the one that has ended
    except NothingLearnedError as error:
        complain(str(error))
        return 1
    except (TypeError, ValueError, OSError, ModuleNotFoundError) as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain(f"interrupted; {what_is_kept(config)}")
        return 130


if __name__ == "__main__":
    run_script(main)
