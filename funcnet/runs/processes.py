"""A run of several processes: how they find each other, which of them speaks, and what is said when one has ended."""

import os
import re
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Thread
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from funcnet.numbers import check_count
from funcnet.runs.config import Config, ProcessOptions
from funcnet.runs.signals import interruptible
from funcnet.training.placement import DATA, MODEL, device_mesh

HEARTBEAT_SECONDS = 10
"""A process that says nothing for so long has ended."""
START_SECONDS = 120
"""So long the first process waits for the last."""
SILENT_SECONDS = 5
"""After so long a process says that it waits."""
ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "coordinator": ("JAX_COORDINATOR_ADDRESS",),
    "processes": ("JAX_NUM_PROCESSES",),
    "process": ("JAX_PROCESS_ID", "JOB_COMPLETION_INDEX"),  # the latter is that of an indexed job of Kubernetes
}


class EndedError(Exception):
    """Another process of the run has ended, or did not come."""


def join(options: ProcessOptions, tell: Callable[[str], None]) -> None:
    """Find the other processes: by options, by the environment, or as SLURM and Open MPI tell it.

    Args:
        options: Which process of how many this is, and where the first is found.
        tell: Called with a message where the others are waited for.

    Raises:
        ValueError: If an option is wrong or missing.
        EndedError: If not all processes have come in time.
    """
    given = {name: getattr(options, name) for name in ENVIRONMENT}
    if not options.distributed:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is for runs with distributed; got {value}")
        return
    found: dict[str, Any] = {name: _found(name, value) for name, value in given.items()}
    if found["processes"] is not None:
        check_count("processes", found["processes"])
        if found["process"] is not None and not 0 <= found["process"] < found["processes"]:
            raise ValueError(f"process must be from 0 to {found['processes'] - 1}; got {found['process']}")
    if found["coordinator"] is not None and not re.fullmatch(r".+:\d{1,5}", found["coordinator"]):
        raise ValueError(f"coordinator must be such as 10.0.0.1:4321, with a port; got {found['coordinator']!r}")
    try:
        _wait(_initializing(found), found, tell)
    except (ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        missing = ", ".join(name for name, value in found.items() if value is None)
        reason = f"{missing} not given, and neither SLURM nor Open MPI tells" if missing else reason
        hint = "; its port may be in use" if "RPC server" in reason else ""
        raise ValueError(f"distributed: the processes do not find each other: {reason}{hint}") from None


def _initializing(found: dict[str, Any]) -> Future[None]:
    """JAX's meeting of all processes in a thread of its own, since it hears no signal and ends with an abort."""
    met: Future[None] = Future()

    def meet() -> None:
        try:
            jax.distributed.initialize(
                found["coordinator"],
                found["processes"],
                found["process"],
                initialization_timeout=2 * START_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
            met.set_result(None)
        except Exception as error:  # handed to the one who waits, whatever it is
            met.set_exception(error)

    Thread(target=meet, daemon=True).start()
    return met


def _wait(met: Future[None], found: dict[str, Any], tell: Callable[[str], None]) -> None:
    """Wait for the meeting, and say so where it takes long.

    Signals are asked for: Python drops an exception that a handler raises within a callback of the garbage collector,
    and JAX has one.
    """
    count = "all processes" if found["processes"] is None else f"all {found['processes']} processes"
    where = "" if found["coordinator"] is None else f" at {found['coordinator']}"
    began, told = time.monotonic(), False
    with interruptible(True, lambda _: None) as signalled:
        while not met.done() and not signalled():
            time.sleep(0.01)
            waited = time.monotonic() - began
            if waited > START_SECONDS:
                missing = "one is missing, or two have the same number"
                raise EndedError(f"within {START_SECONDS} s not {count} have come{where}: {missing}")
            if waited > SILENT_SECONDS and not told:
                told = True
                tell(f"waiting until {count} have come{where}, {START_SECONDS} s at most")
    if signalled():
        signal.raise_signal(signalled())
    met.result()


def _found(name: str, value: Any) -> Any:
    """An option, or what the environment has in its place."""
    for variable in ENVIRONMENT[name]:
        text = os.environ.get(variable)
        if value is None and text is not None:
            if name != "coordinator" and not text.isdecimal():
                raise ValueError(f"{variable} must be a whole number; got {text!r}")
            value = text if name == "coordinator" else int(text)
    return value


def check_agreement(config: Config) -> None:
    """Refuse processes with other options: with another run folder, say, they would wait for each other for ever.

    Raises:
        ValueError: If an option differs, but for which process it is and where the first is found.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    options = {name: value for name, value in config.flat().items() if name not in ("process", "coordinator")}
    own = np.array([zlib.crc32(repr(value).encode()) for value in options.values()], np.uint32)
    found = np.asarray(multihost_utils.process_allgather(own)).reshape(jax.process_count(), -1)
    others = [name for name, column in zip(options, found.T, strict=True) if (column != column[0]).any()]
    if others:
        raise ValueError(f"all processes must have the same options; they have others as {', '.join(others)}")


def leads() -> bool:
    """Whether this is the process that speaks and writes."""
    return jax.process_index() == 0


def mesh_of(config: Config) -> Mesh | None:
    """The devices of a run; by default of several processes all of theirs, along the data axis.

    Raises:
        ValueError: If the text is no such thing as data=4,model=2, or there are not so many devices.
    """
    text, several = config.training.mesh, jax.process_count() > 1
    if text is None and several:
        text = f"data={jax.device_count()}"
    if text is None:
        return None
    pairs = [part.split("=") for part in text.split(",")]
    sizes = {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and pair[1].isdecimal() and int(pair[1])}
    if len(sizes) < len(pairs) or not set(sizes) <= {DATA, MODEL}:
        raise ValueError(f"mesh must be such as data=4 or data=4,model=2; got {text!r}")
    mesh = device_mesh(**{name: int(size) for name, size in sizes.items()})
    if several and mesh.size < jax.device_count():
        raise ValueError(f"mesh must have all {jax.device_count()} devices of the processes; got {text}")
    return mesh


def gathered(tree: Any) -> Any:
    """Arrays of any devices, whole, in this process's memory."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


@contextmanager
def told_when_another_ends() -> Iterator[None]:
    """What the transport says of a process that has ended, in words.

    Raises:
        EndedError: In its place.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = (str(error).splitlines() or [""])[0]
        raise EndedError(
            f"another process of the run has ended ({reason}); --resume goes on from the last checkpoint"
        ) from error
