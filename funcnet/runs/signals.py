"""SIGTERM and Ctrl-C, heard where an exception would come at the wrong time."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def interruptible(wanted: bool, tell: Callable[[str], None]) -> Iterator[Callable[[], int]]:
    """Signals SIGTERM and Ctrl-C as a number to ask for, 0 without one; a second one ends the process at once."""
    if not wanted or threading.current_thread() is not threading.main_thread():  # Python hands signals to that alone
        yield int
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        came.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)
        tell("stopping after this epoch, with a checkpoint; once more stops at once")

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
