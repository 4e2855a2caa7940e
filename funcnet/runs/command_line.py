"""What the scripts share: options parsed with one-line refusals, output that may be cut off, and a clean end."""

import contextlib
import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from itertools import dropwhile, takewhile
from typing import NoReturn, TypeVar

import tyro
from rich.console import Console

T = TypeVar("T")


def parse(options: type[T], argv: Sequence[str] | None, description: str | None, program: str) -> T:
    """Options from a command line; what tyro says of a wrong one is put on one line.

    Raises:
        SystemExit: Of status 2 for a wrong option, of status 0 after `--help`.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(options, args=argv, description=description, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as stop:
        if not stop.code:
            raise
    print(f"{program}: {_sentence(said.getvalue())}; see --help", file=sys.stderr)
    raise SystemExit(2)


def _sentence(box: str) -> str:
    """The first paragraph of tyro's box, without its title and frame."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    paragraph = takewhile(lambda line: line.strip("─-"), dropwhile(lambda line: not line.strip("─-"), lines))
    sentence = " ".join(paragraph).rstrip(".")
    return re.sub(
        r"no type matching .+ could be instantiated from (.+)", r"a value of another kind is needed; got \1", sentence
    )


class Output(Console):
    """A console whose reader may leave: what was begun is then brought to its end in silence."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on."""
        self.quiet = True
        stop_output()


def stop_output() -> None:
    """Send what still comes for standard output to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run a script's main function, so that SIGTERM and Ctrl-C leave nothing half-written behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = main()
    except SystemExit as stop:
        if stop.code != 128 + signal.SIGTERM:
            raise
        status = stop.code
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM):  # compilers at work would abort while Python ends
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    gc.freeze()  # else Python looks for cycles among all that was imported before it leaves, for half a second
    sys.exit(status)
