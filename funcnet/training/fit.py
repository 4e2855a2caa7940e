"""Training from data to parameters."""

import math
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import optax
from jax.sharding import Mesh

from funcnet.network import MLP
from funcnet.numbers import check_count, check_positive
from funcnet.training.accounting import Privacy, epsilon
from funcnet.training.checkpoints import Checkpoints, Decision, decided, read, write
from funcnet.training.checks import check_on_epoch
from funcnet.training.epoch import State, evaluate
from funcnet.training.failure import NonFinite, NonFiniteLoss, locate
from funcnet.training.metrics import Task, means
from funcnet.training.preparation import Data, Prepared, prepare
from funcnet.training.progress import Progress, begin
from funcnet.types import KeyArray, Params

History = dict[str, np.ndarray]
OnEpoch = Callable[[int, dict[str, float]], None]


class Result(NamedTuple):
    """What a run leaves.

    Attributes:
        state: The last state; where training was stopped for want of progress or by a loss that is not finite, the
            state of the best epoch.
        history: For each metric an array with one entry an epoch.
        epoch: The epoch that `state` is of; 0 for the state before training.
        stopped: What ended it: "epochs", "patience", "tolerance", "non-finite" or "interrupted".
        failure: The first value that is not finite, if there was one.
    """

    state: State
    history: History
    epoch: int
    stopped: str
    failure: NonFinite | None


def run(
    prepared: Prepared,
    epochs: int,
    *,
    patience: int | None = None,
    tolerance: float | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    interrupted: Callable[[], bool] = bool,
) -> Result:
    """Train what was prepared: the other half of `fit`, with its arguments. `prepared` can be run again.

    Args:
        prepared: What `prepare` gave.
        epochs: As in `fit`, and so are patience, tolerance and on_epoch.
        patience: See above.
        tolerance: See above.
        on_epoch: See above.
        checkpoints: Where to write checkpoints.
        resume: Whether to go on from the newest whole checkpoint, if there is one; bit for bit as if never stopped.
        interrupted: Asked after each epoch whether to write a checkpoint and stop.

    Raises:
        OSError: If the checkpoint of an interrupted run cannot be written; else it is told, and the next one tried.
        ValueError: If an argument is out of its range, or the checkpoint is of another run.
    """
    epochs = check_count("epochs", epochs)
    patience, tolerance = _limits(prepared, epochs, patience, tolerance)
    progress, failure = begin(prepared.state), None
    if checkpoints is not None and resume:
        progress = read(checkpoints, progress) or progress
    last, written = time.monotonic(), progress.epoch
    stopped = _reason(progress, epochs, patience, tolerance)
    while not stopped:
        progress, failure = _advance(prepared, progress)
        if on_epoch is not None:
            on_epoch(progress.epoch, progress.records[-1])
        stopped = "non-finite" if failure else _reason(progress, epochs, patience, tolerance)
        due = checkpoints is not None and time.monotonic() - last >= checkpoints.seconds
        ended = decided(due, interrupted()) if not stopped else Decision(True, False)
        stopped = stopped or ("interrupted" if ended.stop else "")
        if checkpoints is not None and not failure and (ended.write or ended.stop) and progress.epoch > written:
            written = progress.epoch
            try:
                write(checkpoints, progress)
            except OSError as error:
                if ended.stop:
                    raise
                checkpoints.tell(f"{error}; training {'is done' if stopped else 'goes on'}")
            last = time.monotonic()
    history = {name: np.array([record[name] for record in progress.records]) for name in progress.records[0]}
    if stopped in ("patience", "non-finite"):
        return Result(progress.best, history, progress.best_epoch, stopped, failure)
    return Result(progress.state, history, progress.epoch, stopped, failure)


def _reason(progress: Progress, epochs: int, patience: int, tolerance: float) -> str:
    """Why a run ends here; nothing where it goes on."""
    if progress.records and progress.records[-1].get("gradient_norm", math.inf) <= tolerance:
        return "tolerance"
    if progress.epoch - progress.since >= patience:
        return "patience"
    return "epochs" if progress.epoch >= epochs else ""


def _advance(prepared: Prepared, progress: Progress) -> tuple[Progress, NonFinite | None]:
    """The run after one more epoch, and what in that was not finite."""
    monitor = "train_loss" if prepared.validation is None else "validation_loss"
    blind = prepared.privacy is not None and prepared.validation is None  # the training loss is nobody's to look at
    early = prepared.validation is None and prepared.batch_size is None  # its loss is that of the state before the step
    before, number = progress.state, progress.epoch + 1
    state, metrics, broken = _one_epoch(prepared, before, number)
    progress = progress._replace(state=state, records=(*progress.records, metrics))
    if broken is not None:
        return progress, NonFinite(number, *broken, kept=progress.best_epoch)
    if blind or metrics[monitor] < progress.least:
        best = {"best": before if early else state, "best_epoch": number - early}
        progress = progress._replace(since=number, least=metrics[monitor], **best)
    return progress, None


def _limits(prepared: Prepared, epochs: int, patience: int | None, tolerance: float | None) -> tuple[int, float]:
    """Patience and tolerance as numbers that stop nothing where none is wished."""
    if patience is not None and prepared.privacy is not None and prepared.validation is None:
        raise ValueError("patience needs validation data in private training: the training loss is not private")
    if tolerance is not None and prepared.batch_size is not None:
        raise ValueError("tolerance needs batch_size=None: the gradient of a batch does not go to 0")
    patience = epochs + 1 if patience is None else check_count("patience", patience)
    return patience, 0.0 if tolerance is None else check_positive("tolerance", tolerance)


def _one_epoch(
    prepared: Prepared, before: State, number: int
) -> tuple[State, dict[str, float], tuple[int, int | None, str] | None]:
    """The state after an epoch, its metrics, and what in it is not finite: step, layer and what."""
    task, varied, privacy = prepared.task, prepared.variation, prepared.privacy
    start = time.perf_counter()
    program, arguments = prepared.epoch(before)
    state, report = program(*arguments)
    metrics = means(task, "train", report.sums, varied[0])
    if prepared.validation is not None:
        sums = evaluate(prepared.net, state.params, prepared.validation, task)
        metrics |= means(task, "validation", sums, varied[1])
    if report.gradient_norm is not None:
        metrics["gradient_norm"] = float(report.gradient_norm)
    losses, compile_seconds = np.asarray(report.losses), prepared.compile_seconds if number == 1 else 0.0
    metrics |= {"seconds": time.perf_counter() - start, "compile_seconds": compile_seconds}
    if privacy is not None:
        metrics["epsilon"] = epsilon(privacy, (prepared.batch_size or 1) / prepared.n, number * len(losses))
    if np.isfinite(losses).all() and bool(report.finite):
        return state, metrics, None
    if privacy is None:
        order = prepared.order(before)
        return state, metrics, locate(prepared.net, prepared.optimizer, order, before, prepared.train, losses)
    bad = np.flatnonzero(~np.isfinite(losses))
    return state, metrics, (int(bad[0]) + 1 if len(bad) else len(losses), None, "")


def fit(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data,
    *,
    epochs: int,
    batch_size: int | None = 128,
    validation: Data | None = None,
    params: Params | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    task: Task | None = None,
    privacy: Privacy | None = None,
    mesh: Mesh | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[State, History]:
    """Train a network by the closed-form gradient; each epoch, its shuffle included, is one compiled program.

    The same key gives the same result, bit for bit (on the same device and versions). Rows of weight 0 count as absent.
    It loops over epochs in Python and so cannot run inside `jax.jit` or `jax.vmap`; `funcnet.training.step` can.

    Args:
        key: The random key for initial parameters, order and dropout.
        net: The network.
        optimizer: Any Optax gradient transformation. Reuse the object and nothing compiles a second time. Line searches
            are handed `closed_form_loss`, so that the closed form is what they differentiate.
        data: `(x, y)` or `(x, y, weights)`.
        epochs: How often every example is seen.
        batch_size: Examples for each step; the last batch of an epoch may have fewer. None makes each epoch one step on
            all examples, for L-BFGS, line searches and `gauss_newton`, which takes nothing else, and no dropout.
        validation: Data that is only evaluated, after each epoch.
        params: Parameters to start from; by default `funcnet.init`. They are not changed.
        patience: Stop after so many epochs without a lower validation loss (without validation data, training loss);
            the state that comes back is then that of the best epoch.
        tolerance: Stop when ‖∇L‖ is no larger; with batch_size None only.
        task: "classification" measures the accuracy of the top class, "questions" that of each output as a yes or no,
            "regression" R² and mean absolute error; by default what the loss is for. (A squared error on unit vectors
            can be a classifier.)
        privacy: Makes training differentially private: each step draws batch_size examples on average, each by itself,
            clips their gradients and adds noise, then that of the l2 penalty; an epoch is n / batch_size steps, rounded
            up. ε of this run stands in the history as `epsilon`; runs that go on from `params` add up. It holds while
            the key stays secret, and covers neither what is measured on data nor what was chosen by looking at it.
        mesh: Devices to share the work, with axes "data", for batches, and "model", for wide layers: see
            `funcnet.training.device_mesh`. The numbers are those of one device up to rounding, for any mesh.
        on_epoch: Called after each epoch with its number, from 1, and its metrics.

    Returns:
        The last state, whose `params` are the trained ones, and the history: for each metric an array with one entry an
        epoch. `train_loss` and `train_accuracy` (for regression `train_r2` and `train_mean_absolute_error`) are over
        the epoch's steps, taken before each step's update and with dropout; `validation_…` are taken after the epoch,
        without. Both losses are L, the l2 penalty included. With batch_size None there is `gradient_norm`, before the
        step. `seconds` is the time of the epoch, `compile_seconds` that of compiling before it.

    Warns:
        NonFiniteLoss: If a step's loss or a parameter is not finite. Training stops, the message names epoch, step and
            layer, and the state of the best epoch before it comes back.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the data is empty, does not fit the network, is not finite, or holds labels out of range or of
            one class only; if weights are negative or all 0; if a number is out of its range.

    >>> import jax, optax
    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((2, 8, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> x, y = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([0, 1, 1, 0])
    >>> state, history = fn.fit(jax.random.key(0), net, optax.sgd(1.0), (x, y), epochs=100)
    >>> float(history["train_accuracy"][-1])
    1.0
    """
    check_count("epochs", epochs)
    check_on_epoch(on_epoch)
    prepared = prepare(
        key,
        net,
        optimizer,
        data,
        batch_size=batch_size,
        validation=validation,
        params=params,
        task=task,
        privacy=privacy,
        mesh=mesh,
    )
    result = run(prepared, epochs, patience=patience, tolerance=tolerance, on_epoch=on_epoch)
    if result.failure is not None:
        warnings.warn(str(result.failure), NonFiniteLoss, stacklevel=2)
    return result.state, result.history
