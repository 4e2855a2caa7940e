"""The loop over epochs and their parts: all of training that comes after it was prepared."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from funcnet.numbers import check_count, check_positive
from funcnet.training.accounting import epsilon
from funcnet.training.checkpoints import Checkpoints, Decision, decided, read, write
from funcnet.training.epoch import Report, State
from funcnet.training.failure import NonFinite, locate
from funcnet.training.metrics import Sums, added, means
from funcnet.training.preparation import Prepared
from funcnet.training.progress import Progress, begin
from funcnet.training.streaming import Loaded

History = dict[str, np.ndarray]
OnEpoch = Callable[[int, dict[str, float]], None]


class Result(NamedTuple):
    """What a run leaves.

    Attributes:
        state: The last state; where training was stopped for want of progress or by a loss that is not finite, the
            state of the best epoch.
        history: For each metric an array with one entry an epoch.
        epoch: The epoch that `state` is of; 0 for the state before training.
        part: The parts of the next epoch that `state` has seen too, where a stream was interrupted; else 0.
        stopped: What ended it: "epochs", "patience", "tolerance", "non-finite" or "interrupted".
        failure: The first value that is not finite, if there was one.
    """

    state: State
    history: History
    epoch: int
    part: int
    stopped: str
    failure: NonFinite | None


def run(
    prepared: Prepared,
    epochs: int,
    *,
    patience: int | None = None,
    tolerance: float | None = None,
    on_epoch: OnEpoch | None = None,
    on_part: Callable[[float], None] | None = None,
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
        on_part: Called after each part of an epoch of a stream with how many epochs there were, such as 2.25.
        checkpoints: Where to write checkpoints.
        resume: Whether to go on from the newest whole checkpoint, if there is one; bit for bit as if never stopped.
        interrupted: Asked after each epoch, of a stream after each part of one, whether to write a checkpoint and stop.

    Raises:
        OSError: If the checkpoint of an interrupted run cannot be written; else it is told, and the next one tried. If
            a stream cannot be read.
        ValueError: If an argument is out of its range, the checkpoint is of another run, or features of a stream are
            not finite.
    """
    epochs = check_count("epochs", epochs)
    patience, tolerance = _limits(prepared, epochs, patience, tolerance)
    progress, failure = begin(prepared.state, prepared.parts, prepared.window), None
    if checkpoints is not None and resume:
        progress = read(checkpoints, progress) or progress
    last, written = time.monotonic(), progress.position
    stopped = _reason(progress, epochs, patience, tolerance)
    with contextlib.closing(prepared.loads(progress.state.key, progress.part)) as loads:
        while not stopped:
            progress, failure = _advance(prepared, progress, loads)
            if on_part is not None and progress.parts > 1:
                on_part(progress.position / progress.parts)
            if on_epoch is not None and progress.part == 0:
                on_epoch(progress.epoch, progress.records[-1])
            stopped = "non-finite" if failure else _reason(progress, epochs, patience, tolerance)
            due = checkpoints is not None and time.monotonic() - last >= checkpoints.seconds
            ended = decided(due, interrupted()) if not stopped else Decision(True, False)
            stopped = stopped or ("interrupted" if ended.stop else "")
            if checkpoints is not None and not failure and (ended.write or ended.stop) and progress.position > written:
                written = progress.position
                try:
                    write(checkpoints, progress)
                except OSError as error:
                    if ended.stop:
                        raise
                    checkpoints.tell(f"{error}; training {'is done' if stopped else 'goes on'}")
                last = time.monotonic()
    return _result(progress, stopped, failure)


def _result(progress: Progress, stopped: str, failure: NonFinite | None) -> Result:
    names = progress.records[0] if progress.records else ()
    history = {name: np.array([record[name] for record in progress.records]) for name in names}
    if stopped in ("patience", "non-finite"):
        return Result(progress.best, history, progress.best_epoch, 0, stopped, failure)
    return Result(progress.state, history, progress.epoch, progress.part, stopped, failure)


def _reason(progress: Progress, epochs: int, patience: int, tolerance: float) -> str:
    """Why a run ends here; nothing where it goes on."""
    if progress.records and progress.records[-1].get("gradient_norm", math.inf) <= tolerance:
        return "tolerance"
    if progress.epoch - progress.since >= patience:
        return "patience"
    return "epochs" if progress.epoch >= epochs else ""


def _advance(
    prepared: Prepared, progress: Progress, loads: Iterator[Loaded | None]
) -> tuple[Progress, NonFinite | None]:
    """The run after one more part of an epoch, which is all of it for data in memory; and what was not finite."""
    start, before, number = time.perf_counter(), progress.state, progress.epoch + 1
    loaded = next(loads)
    program, arguments = prepared.epoch(before, loaded)
    state, report = program(*arguments)
    state = state if loaded is None else state._replace(key=loaded.after)
    sums = report.sums if progress.sums is None else added(progress.sums, report.sums)
    broken = _broken(prepared, before, loaded, report)
    progress = progress._replace(state=state, part=progress.part + 1, sums=sums)
    seconds = progress.seconds + time.perf_counter() - start
    if broken is None and progress.part < progress.parts:
        return progress._replace(seconds=seconds), None
    metrics = _metrics(prepared, progress, sums, report)
    metrics["seconds"] = progress.seconds + time.perf_counter() - start
    progress = progress._replace(part=0, sums=None, seconds=0.0, records=(*progress.records, metrics))
    if broken is not None:
        return progress, NonFinite(number, *broken, kept=progress.best_epoch)
    return _with_best(prepared, progress, before), None


def _with_best(prepared: Prepared, progress: Progress, before: State) -> Progress:
    """The run after an epoch that may have been the best."""
    monitor = "train_loss" if prepared.validation is None else "validation_loss"
    blind = prepared.privacy is not None and prepared.validation is None  # the training loss is nobody's to look at
    early = prepared.validation is None and prepared.batch_size is None  # its loss is that of the state before the step
    loss, number = progress.records[-1][monitor], progress.epoch
    if not blind and not loss < progress.least:
        return progress
    best = {"best": before if early else progress.state, "best_epoch": number - early}
    return progress._replace(since=number, least=loss, **best)


def _limits(prepared: Prepared, epochs: int, patience: int | None, tolerance: float | None) -> tuple[int, float]:
    """Patience and tolerance as numbers that stop nothing where none is wished."""
    if patience is not None and prepared.privacy is not None and prepared.validation is None:
        raise ValueError("patience needs validation data in private training: the training loss is not private")
    if tolerance is not None and prepared.batch_size is not None:
        raise ValueError("tolerance needs batch_size=None: the gradient of a batch does not go to 0")
    patience = epochs + 1 if patience is None else check_count("patience", patience)
    return patience, 0.0 if tolerance is None else check_positive("tolerance", tolerance)


def _metrics(prepared: Prepared, progress: Progress, sums: Sums, report: Report) -> dict[str, float]:
    """The metrics of the epoch that ends here, but for the time that it took."""
    task, varied, privacy, number = prepared.task, prepared.variation, prepared.privacy, progress.epoch + 1
    metrics = means(task, "train", sums, varied[0])
    if prepared.validation is not None:
        metrics |= means(task, "validation", prepared.evaluate(progress.state.params), varied[1])
    if report.gradient_norm is not None:
        metrics["gradient_norm"] = float(report.gradient_norm)
    metrics |= {"seconds": 0.0, "compile_seconds": prepared.compile_seconds if number == 1 else 0.0}
    if privacy is not None:
        metrics["epsilon"] = epsilon(privacy, (prepared.batch_size or 1) / prepared.n, number * len(report.losses))
    return metrics


def _broken(
    prepared: Prepared, before: State, loaded: Loaded | None, report: Report
) -> tuple[int, int | None, str] | None:
    """What is not finite in a part of an epoch: step, layer and what."""
    losses = np.asarray(report.losses)
    if np.isfinite(losses).all() and bool(report.finite):
        return None
    if prepared.privacy is not None:
        bad = np.flatnonzero(~np.isfinite(losses))
        return (int(bad[0]) + 1 if len(bad) else len(losses), None, "")
    _, (net, optimizer, rows, before, data, _) = prepared.epoch(before, loaded)
    step, layer, what = locate(net, optimizer, rows, before, data, losses)
    return step + (0 if loaded is None else loaded.steps_before), layer, what
