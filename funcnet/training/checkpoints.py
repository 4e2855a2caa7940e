"""Checkpoints of a run, written by Orbax, each with a digest that tells a whole one from a damaged one.

A checkpoint is a folder named by how many epochs there were, of a stream how many parts of epochs, and beside it a file
with the SHA-256 of every file in it. That file is written last and put in its place in one step: without it, or where
it disagrees, a checkpoint counts as none.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.training.epoch import State
from funcnet.training.metrics import Sums
from funcnet.training.progress import Progress, place

KEEP = 3
SETTLING = 10
"""How often, 20 ms apart, what a failed write leaves is removed."""
ARRAYS, RUN, DIGEST = "arrays", "run", ".sha256.json"


class Checkpoints(NamedTuple):
    """A folder of checkpoints and what the run in it is of.

    Attributes:
        folder: The folder, which is made.
        identity: What the run is of, by name: network, options, a digest of the data. A checkpoint of another is
            refused.
        seconds: Write one after an epoch when so many seconds have passed since the last; 0 for every epoch.
        keep: How many of the last are kept.
        tell: Called with a message where a run goes on, and for each checkpoint that is passed over or could not be
            written.
    """

    folder: Path
    identity: dict[str, Any]
    seconds: float = 60.0
    keep: int = KEEP
    tell: Callable[[str], None] = print


def _orbax() -> Any:
    """Orbax, without its remarks on every file that it writes, and on those that it cannot: it raises too."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp


def _tree(progress: Progress) -> dict[str, Any]:
    """The arrays of a checkpoint: keys as the numbers that they are made of."""

    def plain(state: State) -> State:
        return state._replace(key=jax.random.key_data(state.key))

    return {"state": plain(progress.state), "best": plain(progress.best)}


def write(checkpoints: Checkpoints, progress: Progress) -> None:
    """Write a checkpoint, whole or not at all, and remove those that are no longer kept.

    Raises:
        OSError: If it cannot be written; earlier ones stay as they are.
    """
    ocp, path = _orbax(), checkpoints.folder / str(progress.position)
    facts = {
        "identity": checkpoints.identity,
        "best_epoch": progress.best_epoch,
        "since": progress.since,
        "least": progress.least,
        "records": progress.records,
        "parts": progress.parts,
        "window": progress.window,
        "part": progress.part,
        "sums": None if progress.sums is None else [np.asarray(each).tolist() for each in progress.sums],
        "seconds": progress.seconds,
    }
    leader = jax.process_index() == 0
    _make_room(path)
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            items = {ARRAYS: ocp.args.StandardSave(_tree(progress)), RUN: ocp.args.JsonSave(facts)}
            checkpointer.save(path.absolute(), ocp.args.Composite(**items))
        if leader:
            unfinished = path.with_name(f"{path.name}.tmp")
            unfinished.write_text(json.dumps(_digests(path)))
            unfinished.replace(path.with_name(path.name + DIGEST))
    except Exception as error:  # Orbax hands on what its writers raise, of many kinds; what is half-written goes
        for _ in range(SETTLING if leader else 0):  # threads of Orbax may still be writing, and make their folders anew
            _remove(path)
            time.sleep(0.02)
        raise OSError(f"checkpoint {path} cannot be written: {_first_line(error)}") from error
    if leader:
        for position in positions(checkpoints.folder)[checkpoints.keep :]:
            _remove(checkpoints.folder / str(position))


def _make_room(path: Path) -> None:
    """Remove what is in the way, by the first process; where it cannot, all of them say so and none waits for it."""
    failure = None
    if jax.process_index() == 0:
        try:
            _remove(path)
            clear_unfinished(path.parent)
        except OSError as error:
            failure = error
    if decided(failure is not None, False).write:
        raise OSError(f"checkpoint {path} cannot be written: {failure or 'the first process cannot make room for it'}")


def _remove(path: Path) -> None:
    """Remove a checkpoint, its digest first, so that nothing takes the rest for a whole one."""
    path.with_name(path.name + DIGEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    clear_unfinished(path.parent, f"{path.name}.")


def clear_unfinished(folder: Path, beginning: str = "") -> None:
    """Remove what was not written to its end."""
    for entry in folder.glob(f"{beginning}*tmp*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _digests(path: Path) -> dict[str, str]:
    """The SHA-256 of every file in a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def positions(folder: Path) -> list[int]:
    """After how many epochs, or parts of them, the checkpoints in a folder are, the newest first, whole or not."""
    if not folder.is_dir():
        return []
    return sorted((int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()), reverse=True)


def read(checkpoints: Checkpoints, like: Progress) -> Progress | None:
    """The newest whole checkpoint; None where there is none.

    Args:
        checkpoints: The folder.
        like: A run of the same kind, whose arrays lie where those read are to lie.

    Raises:
        ValueError: If it is of another run.
    """
    leader = jax.process_index() == 0
    position = _newest(checkpoints) if leader else None
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        found = multihost_utils.broadcast_one_to_all(np.int32(-1 if position is None else position))
        position = None if found < 0 else int(found)
    if position is None:
        if leader:
            checkpoints.tell(f"no whole checkpoint in {checkpoints.folder}: the run begins anew")
        return None
    progress = _read(checkpoints.folder / str(position), checkpoints.identity, like)
    if leader:
        checkpoints.tell(f"going on after {place(progress.epoch, progress.part)}")
    return progress


def _newest(checkpoints: Checkpoints) -> int | None:
    """The position of the newest whole checkpoint; those passed over are told."""
    for position in positions(checkpoints.folder):
        path = checkpoints.folder / str(position)
        reason = _damage(path)
        if not reason:
            return position
        checkpoints.tell(f"checkpoint {path} is passed over: {reason}")
    return None


def _damage(path: Path) -> str:
    """What is wrong with the files of a checkpoint, in words; nothing for a whole one."""
    try:
        expected = json.loads(path.with_name(path.name + DIGEST).read_text())
    except FileNotFoundError:
        return "it was not written to its end"
    except (OSError, ValueError) as error:
        return f"its digest cannot be read: {_first_line(error)}"
    if not isinstance(expected, dict):
        return "its digest cannot be read: it names no files"
    try:
        found = _digests(path)
    except OSError as error:
        return f"it cannot be read: {_first_line(error)}"
    if found == expected:
        return ""
    names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    return f"{names[0]} is damaged" if names[0] in found else f"{names[0]} is missing"


def _read(path: Path, identity: dict[str, Any], like: Progress) -> Progress:
    ocp = _orbax()
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        facts = checkpointer.restore(path.absolute(), ocp.args.Composite(**{RUN: ocp.args.JsonRestore()}))[RUN]
        _check_identity(path, {**facts["identity"], "window": facts["window"]}, {**identity, "window": like.window})
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(like))
        items = ocp.args.Composite(**{ARRAYS: ocp.args.StandardRestore(target)})
        arrays = checkpointer.restore(path.absolute(), items)[ARRAYS]

    def state(part: State, like: State) -> State:
        return part._replace(key=jax.random.wrap_key_data(part.key, impl=jax.random.key_impl(like.key)))

    return Progress(
        state(arrays["state"], like.state),
        state(arrays["best"], like.best),
        facts["best_epoch"],
        facts["since"],
        facts["least"],
        tuple(facts["records"]),
        facts["parts"],
        facts["window"],
        facts["part"],
        facts["sums"] and Sums(*map(np.asarray, facts["sums"])),
        facts["seconds"],
    )


def _check_identity(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a checkpoint of another run."""
    for name, value in expected.items():
        if found.get(name) != value:
            of_data = name.endswith(" data")  # digests, which tell nobody anything
            run = f"on other {name}" if of_data else f"with another {name}: {found.get(name)!r}, not {value!r}"
            raise ValueError(f"checkpoint {path} is of a run {run}; go on with the same, or begin in another folder")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:200]


class Decision(NamedTuple):
    """What the processes of a run do after an epoch, all the same: write a checkpoint, stop."""

    write: bool
    stop: bool


def decided(due: bool, interrupted: bool) -> Decision:
    """What is to be done, where each process has a clock and signals of its own: what any of them asks for."""
    if jax.process_count() == 1:
        return Decision(due, interrupted)
    from jax.experimental import multihost_utils

    asked = multihost_utils.process_allgather(np.array([due, interrupted]))
    return Decision(*(bool(column.any()) for column in np.reshape(asked, (-1, 2)).T))
