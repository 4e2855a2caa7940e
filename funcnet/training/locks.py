"""Files and folders that one process has for itself."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

LOCK = "in-use"


def lock(number: int) -> None:
    """Lock an open file or folder for this process, until it is closed; without a word where the system has no flock.

    Raises:
        BlockingIOError: If another process has locked it.
        OSError: If its file system cannot.
    """
    if os.name == "posix":
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """The folder for this run alone, as long as the block lasts or the process lives.

    Raises:
        BlockingIOError: If another run uses it.
        OSError: If it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        try:
            lock(file.fileno())
        except BlockingIOError:
            file.seek(0)
            raise BlockingIOError(f"{folder} is in use by another run, process {file.read() or '?'}") from None
        try:
            file.truncate(0)
            os.write(file.fileno(), str(os.getpid()).encode())  # unbuffered: closing has nothing left to write
        except OSError as error:
            (folder / LOCK).unlink()
            with contextlib.suppress(OSError):  # it holds something else
                folder.rmdir()
            raise OSError(error.errno, error.strerror, str(folder / LOCK)) from None
        yield
