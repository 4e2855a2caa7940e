"""Checkpoints of a run folder: what they are of, and how a run goes on."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from funcnet.interchange import describe
from funcnet.numbers import check_positive
from funcnet.runs.config import Config, OutputOptions
from funcnet.runs.setup import Setup
from funcnet.training.checkpoints import Checkpoints, clear_unfinished, positions
from funcnet.training.digests import digest, digest_of_rows
from funcnet.training.locks import in_use

ELSEWHERE = (
    *("mesh", "run_dir", "overwrite", "resume", "checkpoint_seconds", "plot"),
    *("distributed", "coordinator", "processes", "process"),
)
"""Options that may change when a run goes on."""


def checkpoint_folder(run_dir: Path) -> Path:
    """The folder of a run's checkpoints, beside its own, which is there whole or not at all."""
    return run_dir.with_name(f"{run_dir.name}.checkpoints")


def check_resuming(config: Config) -> None:
    """Refuse options that do not go with checkpoints.

    Raises:
        ValueError: If a run is to go on that keeps none.
    """
    output = config.output
    check_positive("checkpoint_seconds", output.checkpoint_seconds)
    if not output.resume:
        return
    if output.run_dir is None:
        raise ValueError("resume needs run_dir, beside which checkpoints are kept")
    if config.training.sweep is not None:
        raise ValueError("resume is not for a sweep, which keeps no checkpoints")
    if config.privacy.dp_noise is not None:
        raise ValueError("resume is not for private training: a checkpoint would give away the noise to come")


def what_is_kept(config: Config) -> str:
    """In words, of a run that was interrupted by force."""
    kept = [] if config.output.run_dir is None else positions(checkpoint_folder(config.output.run_dir))
    return "--resume goes on from the last checkpoint" if kept else "nothing was kept"


@contextlib.contextmanager
def run_alone(config: Config) -> Iterator[None]:
    """The checkpoints' folder for this run alone; those of an earlier run are refused, or begun anew, or gone on from.

    Raises:
        FileExistsError: If there are checkpoints that are neither to be gone on from nor to be overwritten.
        BlockingIOError: If another run is at work.
        OSError: If the folder cannot be written.
    """
    output = config.output
    if output.run_dir is None or config.training.sweep is not None or config.privacy.dp_noise is not None:
        yield
        return
    folder = checkpoint_folder(output.run_dir)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(in_use(folder))
        except BlockingIOError as error:
            raise BlockingIOError(f"run_dir {output.run_dir}: {error}") from None
        except OSError as error:
            raise OSError(f"run_dir {output.run_dir} cannot be written: {error.strerror}: {error.filename}") from None
        stack.callback(_tidy, folder)
        _begin(folder, output)
        yield


def _tidy(folder: Path) -> None:
    """Leave no folder without checkpoints behind."""
    if not positions(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _begin(folder: Path, output: OutputOptions) -> None:
    """Make room for the checkpoints of a new run, and remove what a run that was killed had begun to write."""
    clear_unfinished(folder)
    if output.resume or not positions(folder):
        return
    if not output.overwrite:
        raise FileExistsError(
            f"{folder} holds checkpoints of a run: add --resume to go on from them, or --overwrite to begin anew"
        )
    for entry in list(folder.iterdir()):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name.endswith(".json"):
            entry.unlink()


def checkpoints_of(setup: Setup, tell: Callable[[str], None]) -> Checkpoints | None:
    """Where a run keeps its checkpoints, and what they are of; None where it keeps none."""
    output = setup.config.output
    if output.run_dir is None or setup.privacy is not None:
        return None
    return Checkpoints(checkpoint_folder(output.run_dir), _identity(setup), output.checkpoint_seconds, tell=tell)


def _identity(setup: Setup) -> dict[str, Any]:
    """What a checkpoint must agree with: network, options and data."""
    of_length = setup.config.optimization.schedule not in (None, "constant")  # what a step does depends on the last
    left_out = {*ELSEWHERE, *(() if of_length else ("epochs",))}
    options = {name: value for name, value in setup.config.flat().items() if name not in left_out}
    data = {part: digest(*setup.arrays(part)) for part in ("train", "validation") if part in setup.parts}
    if setup.streamed is not None:
        data["train"] = digest_of_rows(*setup.streamed)
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return {**options, "network": describe(setup.net), **{f"{part} data": value for part, value in data.items()}}
