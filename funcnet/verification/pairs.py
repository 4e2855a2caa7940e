"""Few combinations that hold every pair of settings."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product

import numpy as np

Row = dict[str, str]
Pair = tuple[tuple[str, str], tuple[str, str]]


def _pairs(row: Row) -> set[Pair]:
    return set(combinations(sorted(row.items()), 2))


def covering(factors: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool], tries: int = 30) -> list[Row]:
    """Rows that between them hold each allowed pair of values of two factors.

    Greedy: each row is the best of some that start from a pair not yet held and are filled up one factor after the
    other, with the value that holds the most new pairs. The same factors give the same rows.

    Args:
        factors: The values of each factor.
        allowed: Whether a row, or the beginning of one, is possible.
        tries: How many rows to choose each from.
    """
    random = np.random.default_rng(0)
    missing = {
        pair
        for (one, first), (two, second) in combinations(sorted(factors.items()), 2)
        for pair in product(((one, a) for a in first), ((two, b) for b in second))
        if allowed(dict(pair))
    }
    rows = []
    while missing:
        starts = sorted(missing)
        begun = [dict(starts[random.integers(len(starts))]) for _ in range(tries)]
        filled = [_filled(row, factors, allowed, missing, random) for row in begun]
        rows.append(max(filled, key=lambda row: len(_pairs(row) & missing)))
        missing -= _pairs(rows[-1])
    return rows


def _filled(
    row: Row,
    factors: Mapping[str, Sequence[str]],
    allowed: Callable[[Row], bool],
    missing: set[Pair],
    random: np.random.Generator,
) -> Row:
    names = [name for name in factors if name not in row]
    for i in random.permutation(len(names)):
        name, values = names[i], list(factors[names[i]])
        random.shuffle(values)
        possible = [{**row, name: value} for value in values if allowed({**row, name: value})]
        row = max(possible, key=lambda longer: len(_pairs(longer) & missing))
    return {name: row[name] for name in factors}
