"""Tables of text, for the terminal and for a page."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table


class Lines(NamedTuple):
    """A table: its title, the names of its columns, and its rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def shown(lines: Lines) -> Table:
    """For the terminal."""
    table = Table(*lines.header, title=lines.title)
    for row in lines.rows:
        table.add_row(*row)
    return table


def markdown(lines: Lines) -> str:
    """For a page."""
    rows = (lines.header, ["---"] * len(lines.header), *lines.rows)
    return "\n".join([f"**{lines.title}**\n", *(f"| {' | '.join(row)} |" for row in rows)])
