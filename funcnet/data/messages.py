"""What the messages of the readers share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names with commas between them, shortened where there are many."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


@contextmanager
def about(where: str) -> Iterator[None]:
    """Put what a refusal is about before its message."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
