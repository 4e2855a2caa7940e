"""The folder that a run is kept in: there whole, or not at all."""

import contextlib
import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from funcnet.runs.model import Model, load_model
from funcnet.training.locks import lock

CONFIG, METRICS, SUMMARY, MODEL = "config.json", "metrics.csv", "summary.json", "model.safetensors"
CURVES, CONFUSION, PREDICTIONS, SWEEP = "curves.png", "confusion.png", "predictions.png", "sweep.csv"
REPORT = "report.html"
FILES = frozenset((CONFIG, METRICS, SUMMARY, MODEL, CURVES, CONFUSION, PREDICTIONS, SWEEP, REPORT))
"""All that a run may hold; what else is in its folder is somebody's own."""


class Run(NamedTuple):
    """A run that was kept: its options, the number of examples it was trained on, and its model."""

    config: dict[str, Any]
    trained_on: int
    model: Model


@contextlib.contextmanager
def new_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write a run into; it gets its name when the block is left without an error, else it is removed.

    Args:
        path: The name it gets.
        overwrite: Whether it may take the place of another run.

    Raises:
        FileExistsError: If something is at `path` that is no empty folder and no run, or may not be overwritten.
        OSError: If the folder cannot be written.
    """
    _check_free(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_unfinished(path)
        unfinished = path.with_name(f".{path.name}.unfinished-{secrets.token_hex(4)}")
        unfinished.mkdir()
    except OSError as error:
        raise OSError(f"run_dir {path} cannot be written: {error.strerror}: {error.filename}") from None
    with _marked(unfinished):
        try:
            yield unfinished
            _check_free(path, overwrite)  # again, since another run may have come to its end in the meantime
            _put(unfinished, path)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _clear_unfinished(path: Path) -> None:
    """Remove what runs that were killed had begun to write under a name: what no process holds."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.unfinished-*"):
        with contextlib.suppress(OSError), _marked(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[bool]:
    """A folder marked as this process's own, as long as the block lasts or the process lives; whether it could be.

    It cannot where another process has marked it, nor on some file systems.
    """
    if os.name != "posix":
        yield False
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        marked = True
        try:
            lock(number)
        except OSError:
            marked = False
        yield marked
    finally:
        os.close(number)


def _check_free(path: Path, overwrite: bool) -> None:
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not path.is_dir():
        raise FileExistsError(f"run_dir {path} is a file")
    if not all((path / name).is_file() for name in (CONFIG, MODEL)):
        raise FileExistsError(f"run_dir {path} holds something else than a run; choose another folder")
    own = sorted(entry.name for entry in path.iterdir() if entry.name not in FILES)
    if own:
        raise FileExistsError(f"run_dir {path} holds {own[0]} beside a run; choose another folder")
    if not overwrite:
        raise FileExistsError(f"run_dir {path} holds a run already; choose another folder or add --overwrite")


def _put(unfinished: Path, path: Path) -> None:
    """Give the folder its name; what had it before is removed last."""
    if not path.exists():
        unfinished.rename(path)
        return
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    path.rename(old)
    try:
        unfinished.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old)


def read_run(path: Path) -> Run:
    """Options and model of a run.

    Raises:
        FileNotFoundError: If there is no such folder, or it lacks a file.
        ValueError: If a file is damaged or does not fit the others.
        OSError: If one cannot be read.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no such run folder: {path}")
    missing = [name for name in (CONFIG, MODEL) if not (path / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} is no whole run folder: it lacks {' and '.join(missing)}")
    try:
        content = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        config, trained_on = dict(content["options"]), int(content["trained_on"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / CONFIG} is damaged: {error}") from None
    return Run(config, trained_on, load_model(path / MODEL))
