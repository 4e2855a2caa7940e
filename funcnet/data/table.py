"""Tables as text: comma-, semicolon- or tab-separated, with or without a header."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from funcnet.data.columns import choose, choose_as, find
from funcnet.data.dataset import Schema, Table
from funcnet.data.files import opened
from funcnet.data.messages import about
from funcnet.data.targets import NUMBER

Header = Literal["auto", "yes", "no"]
HEADERS = ("auto", "yes", "no")
LONGEST = 2**26
"""Characters of a line."""
MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))


class _Row(NamedTuple):
    line: int
    cells: list[str]


def read_csv(
    path: str | Path, target: str | int | None = None, header: Header = "auto", like: Schema | None = None
) -> Table:
    """Features and targets of a table; targets are kept as text.

    The separator is the most frequent of comma, semicolon and tab in the first line. The file may be gzipped.

    Args:
        path: The file, in UTF-8.
        target: The target column, by name or by number from 1; by default the last.
        header: Whether the first row names the columns. By "auto" it does if none of its cells is a number, its numbers
            count the columns, or its target is no number and that of the second row is.
        like: What the table is to fit, if it is no table to learn from: its features are then chosen and ordered as
            `like` has them, and the target may be missing, as a column or in a row.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table, a cell is missing or no number, or columns do not fit; the message names
            the file and the row, counted in lines of the file from 1.
    """
    if header not in HEADERS:
        raise ValueError(f"header must be {', '.join(HEADERS[:-1])} or {HEADERS[-1]}; got {header!r}")
    with opened(path) as stream:
        try:
            with io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
                return _read(path, text, target, header, like)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text in UTF-8: {error.reason}") from None


def _read(
    path: str | Path, text: io.TextIOWrapper, target: str | int | None, header: Header, like: Schema | None
) -> Table:
    rows = _rows(path, text)
    first = list(islice(rows, 2))
    if not first:
        raise ValueError(f"{path} is empty; expected a table")
    named = header == "yes" or (header == "auto" and _is_header(first, target, like))
    names = tuple(cell.strip() for cell in first[0].cells) if named else ()
    with about(str(path)):
        double = [name for name, count in Counter(names).items() if count > 1]
        if double:
            raise ValueError(f"several columns have the name {double[0]!r}")
        width = len(first[0].cells)
        features, place = choose(names, width, target) if like is None else choose_as(names, width, target, like)
    body = chain(first[1:] if named else first, rows)
    return _table(path, body, names, features, place, learning=like is None, guessed=target is None and like is None)


def _rows(path: str | Path, text: io.TextIOWrapper) -> Iterator[_Row]:
    """The rows that are not empty; all as wide as the first."""
    whole = _without_nul(path, text)
    lines = ((number, line) for number, line in enumerate(whole) if line.strip())
    skipped, first = next(lines, (0, ""))
    reader = csv.reader(chain([first], whole), delimiter=max(",;\t", key=first.count), skipinitialspace=True)
    width = None
    try:
        for cells in reader:
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                continue
            width = width or len(cells)
            row = _Row(skipped + reader.line_num, cells)
            if len(cells) != width:
                raise ValueError(f"{path}, row {row.line}: {len(cells)} cells; expected {width} as in the first row")
            yield row
    except csv.Error as error:
        raise ValueError(f"{path}, row {skipped + reader.line_num}: {error}") from None


def _without_nul(path: str | Path, text: io.TextIOWrapper) -> Iterator[str]:
    """The lines, none of which holds a NUL: that is what a damaged file has in the place of text."""
    for number, line in enumerate(iter(lambda: text.readline(LONGEST + 1), ""), 1):
        if "\0" in line:
            raise ValueError(f"{path}, row {number}: a NUL, which is no text")
        if len(line) > LONGEST:  # a small gzipped file can hold a line of any length
            raise ValueError(f"{path}, row {number}: a line of more than {LONGEST:,} characters, which no table has")
        yield line


def _is_header(first: list[_Row], target: str | int | None, like: Schema | None) -> bool:
    cells = tuple(cell.strip() for cell in first[0].cells)
    if like is not None and like.feature_names and set(like.feature_names) <= set(cells):
        return True
    numbers = [_is_number(cell) for cell in cells]
    if not any(numbers) or _counts(cells):
        return True
    place = None if target is None else find(target, cells, len(cells))
    place = len(cells) - 1 if place is None else place
    return not numbers[place] and len(first) > 1 and _is_number(first[1].cells[place])


def _counts(cells: tuple[str, ...]) -> bool:
    """Whether cells number the columns, from 0 or 1, as writers of tables do where columns have no names."""
    places = [(cell, place) for place, cell in enumerate(cells) if _is_number(cell)]
    return len(places) > 2 and any(all(cell == str(place + start) for cell, place in places) for start in (0, 1))


def _is_number(cell: str) -> bool:
    return NUMBER.fullmatch(cell.strip()) is not None


def _table(
    path: str | Path,
    rows: Iterator[_Row],
    names: tuple[str, ...],
    features: list[int],
    place: int | None,
    learning: bool,
    guessed: bool,
) -> Table:
    pick = _picker(features)
    x, y, lines = [], [], []
    for line, cells in rows:
        chosen = pick(cells)
        numbers = _numbers(chosen)
        if numbers is None:
            i = next(i for i, cell in enumerate(chosen) if _complaint(cell))
            hint = "; if it is what to predict, name it as the target" if guessed and _is_text(chosen[i]) else ""
            raise ValueError(f"{_place(path, line, names, features[i])}: {_complaint(chosen[i])}{hint}")
        if place is not None:
            y.append(cells[place].strip())
            if learning and y[-1].lower() in MISSING:
                raise ValueError(f"{_place(path, line, names, place)}: {_complaint(y[-1])}")
        x.append(numbers)
        lines.append(line)
    if not x:
        raise ValueError(f"{path} has a header and no rows")
    feature_names = tuple(names[i] for i in features) if names else ()
    target_names = (names[place],) if names and place is not None else ()
    texts = None if place is None else np.array(y)
    return Table(np.stack(x), texts, feature_names, target_names, np.array(lines), scaled=False)


def _picker(places: list[int]) -> Callable[[list[str]], Sequence[str]]:
    if len(places) == 1:
        return lambda cells: (cells[places[0]],)
    return itemgetter(*places)


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    """The cells of a row in float32; None if one is no finite number. Fast: it sees every cell of a file."""
    try:
        with np.errstate(over="ignore"):
            numbers = np.array(cells, np.float32)
    except ValueError:
        return None
    underscores = "_" in "".join(cells)  # which Python takes for a mark between digits
    return None if underscores or not np.isfinite(numbers).all() else numbers


def _complaint(cell: str) -> str:
    """What is wrong with a cell that should be a number; empty if nothing is."""
    text = cell.strip()
    if text.lower() in MISSING:
        return f"a value is missing{f' ({text})' if text else ''}"
    if _numbers([cell]) is not None:
        return ""
    return f"expected a number that float32 can hold; got {cell!r}"


def _is_text(cell: str) -> bool:
    return any(character.isalpha() for character in cell) and cell.strip().lower() not in MISSING


def _place(path: str | Path, line: int, names: tuple[str, ...], column: int) -> str:
    return f"{path}, row {line}, column {repr(names[column]) if names else column + 1}"
