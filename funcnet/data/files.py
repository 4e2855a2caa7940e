"""Files to read, plain or gzipped."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

GZIP = b"\x1f\x8b"
CHUNK = 2**20
SURPLUS = 2**20
"""How much of what should not be there is read, to say how much it is."""


def existing(path: str | Path) -> Path:
    """The path of a file that is there.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ValueError: If it is a pipe or a device, whose reading may not end.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file")
    if not path.is_file():
        raise ValueError(f"{path} is a pipe or a device; expected a file")
    return path


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """The bytes of a file; what is gzipped is known by its first two bytes, whatever it is called.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ValueError: If it is gzipped and damaged.
    """
    path = existing(path)
    with path.open("rb") as plain:
        if plain.peek(2)[:2] != GZIP:
            yield plain
            return
        try:
            with gzip.open(plain) as content:
                yield cast(BinaryIO, content)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from None


def read_up_to(stream: Any, count: int) -> bytearray:
    """What is left of a stream, at most so many bytes; no room is made for bytes that are not there."""
    content = bytearray()
    while len(content) < count and (part := stream.read(min(CHUNK, count - len(content)))):
        content += part
    return content
