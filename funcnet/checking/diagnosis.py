"""Why a gradient is wrong: known faults are tried one after the other on what it gave and what it should have given."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np

from funcnet.checking.call import Call
from funcnet.checking.report import Diagnosis, Kind

CLOSE = 1e-6
"""How closely a known fault must explain what came, relative to its largest entry, besides rounding."""


class Wrong(NamedTuple):
    """A leaf that is wrong.

    Attributes:
        path: Which one.
        got: What came, in whatever shape.
        expected: What should have come.
        argument: The values that it is the gradient in.
        slack: The error that rounding explains.
    """

    path: str
    got: np.ndarray
    expected: np.ndarray
    argument: np.ndarray
    slack: float

    def explained(self, by: np.ndarray) -> bool:
        """Whether what came is this."""
        if by.shape != self.got.shape:
            return False
        slack = 2 * self.slack + CLOSE * float(np.max(np.abs(by), initial=0.0))
        return bool(np.any(by)) and bool(np.all(np.abs(self.got - by) <= slack))


class Finding(NamedTuple):
    """A fault in one leaf, before leaves with the same fault are put together."""

    kind: Kind
    text: str


def axis_sizes(call: Call) -> dict[int, str]:
    """What a factor may be: the lengths of the arguments' axes and their products, in words."""
    found: dict[int, str] = {}
    data = [np.shape(call.leaves[i]) for i in call.arrays if i not in call.wrt]
    own = [np.shape(call.leaves[i]) for i in call.wrt]
    for shape in data:
        if shape:
            found.setdefault(shape[0], f"{shape[0]} examples")
    for shape in (*(shape for shape in reversed(data) if len(shape) > 1), *(shape for shape in reversed(own) if shape)):
        found.setdefault(shape[-1], f"{shape[-1]} outputs")
    for shape in own:
        if shape:
            found.setdefault(shape[0], f"{shape[0]} rows")
    singles = dict(found)
    for (a, first), (b, second) in combinations(singles.items(), 2):
        found.setdefault(a * b, f"{first} and {second}")
    return {size: words for size, words in found.items() if size > 1}


def _whole(ratio: float) -> int:
    nearest = round(ratio)
    return nearest if nearest > 1 and abs(ratio - nearest) <= 1e-5 * nearest else 0


def _ratio(wrong: Wrong, sizes: dict[int, str]) -> Finding | None:
    """A constant factor: its sign, a mean too few or too many, or another."""
    norm = float(np.sum(wrong.expected**2))
    if wrong.got.shape == wrong.expected.shape and not np.any(wrong.got):
        return Finding("zero", "nothing but zeros: a path is cut off")
    if wrong.got.shape != wrong.expected.shape or norm == 0:
        return None
    ratio = float(np.sum(wrong.got * wrong.expected)) / norm
    if not wrong.explained(ratio * wrong.expected) or abs(ratio - 1) <= CLOSE:
        return None
    text = f"{ratio:.6g} × the function's gradient"
    if abs(ratio + 1) <= 1e-5:
        return Finding("sign", f"{text}: the sign is wrong")
    many, few = _whole(abs(ratio)), _whole(1 / abs(ratio)) if ratio else 0
    for size, words in ((many, "a mean over {} is missing"), (few, "a mean over {} too many")):
        if size in sizes:
            return Finding("missing mean", f"{text}: {words.format(sizes[size])}")
    return Finding("constant ratio", text)


def _only_sign(found: Finding | None) -> Finding | None:
    return found if found is not None and found.kind == "sign" else None


def _ratio_by_line(wrong: Wrong) -> Finding | None:
    """A factor of its own for each row or each column."""
    if wrong.got.shape != wrong.expected.shape or wrong.got.ndim != 2 or min(wrong.got.shape) < 2:
        return None
    for axis, what in ((0, "column"), (1, "row")):
        norms = np.sum(wrong.expected**2, axis=axis, keepdims=True)
        ratios = np.sum(wrong.got * wrong.expected, axis=axis, keepdims=True) / np.where(norms > 0, norms, 1)
        if wrong.explained(ratios * wrong.expected):
            shown = ", ".join(f"{ratio:.4g}" for ratio in ratios.ravel()[:4])
            more = ", …" if ratios.size > 4 else ""
            return Finding("constant ratio", f"a factor of its own for each {what}: {shown}{more}")
    return None


def _transposed(wrong: Wrong) -> Finding | None:
    axes = range(wrong.expected.ndim)
    for order in permutations(axes) if 2 <= wrong.expected.ndim <= 4 else ():
        if order != tuple(axes) and wrong.explained(wrong.expected.transpose(order)):
            how = "the transpose" if len(order) == 2 else f"the transpose, axes in the order {order},"
            return Finding("transposed", f"{how} of what it should be")
    return None


def _not_summed(wrong: Wrong) -> Finding | None:
    """Axes left over whose sum is what should have come."""
    extra = wrong.got.ndim - wrong.expected.ndim
    if extra <= 0 or not np.all(np.isfinite(wrong.got)):
        return None
    summed = wrong.got.sum(axis=tuple(range(extra)))
    if not wrong._replace(got=summed).explained(wrong.expected):
        return None
    shape, left = wrong.got.shape, wrong.got.shape[:extra]
    if all(length == 1 for length in left):
        return Finding(
            "shape", f"must have shape {wrong.expected.shape}; got {shape}, right but for an axis of length 1"
        )
    axes = "the first axis" if extra == 1 else f"the first {extra} axes"
    return Finding(
        "not summed", f"of shape {shape}: right once summed over {axes}, of length {left}".replace(",)", ")")
    )


def _terms(wrong: Wrong) -> Iterator[tuple[str, str, np.ndarray]]:
    yield "the argument", "an l2 term ½·c·‖·‖²", wrong.argument
    yield "1", "a term linear in the argument, or in its sum", np.ones_like(wrong.argument)
    yield "the sign of the argument", "an l1 term c·‖·‖₁", np.sign(wrong.argument)


def _missing_term(wrong: Wrong) -> Finding | None:
    """An error that is parallel to something: a term forgotten, or one too many."""
    if wrong.got.shape != wrong.expected.shape or wrong.got.size < 2:
        return None
    error = wrong.expected - wrong.got
    for name, cause, term in _terms(wrong):
        if np.sum(term != 0) < 3:
            continue  # nearly anything is parallel to that
        norm = float(np.sum(term**2))
        factor = float(np.sum(error * term)) / norm
        off = np.max(np.abs(error - factor * term))
        if factor and off <= 2 * wrong.slack + 1e-4 * np.max(np.abs(error)) and off < 0.01 * np.max(np.abs(error)):
            which = "missing" if factor > 0 else "too many"
            return Finding("missing term", f"{abs(factor):.6g} × {name} is {which}, as of {cause}")
    return _missing_in_rows(wrong, error)


def _missing_in_rows(wrong: Wrong, error: np.ndarray) -> Finding | None:
    """An error that is, in each row, a multiple of the argument."""
    if error.ndim != 2 or error.shape[0] < 2 or error.shape[1] < 3 or not np.all(np.any(wrong.argument != 0, axis=1)):
        return None
    rows = wrong.argument
    factors = np.sum(error * rows, axis=1, keepdims=True) / np.sum(rows * rows, axis=1, keepdims=True)
    if np.max(np.abs(error - factors * rows)) > 2 * wrong.slack + CLOSE * np.max(np.abs(error)):
        return None
    text = "a multiple of the argument is missing in each row: how the row's norm or mean square depends on it"
    return Finding("missing term", text)


def _wrong_layer(wrong: Wrong, expected: dict[str, np.ndarray]) -> Finding | None:
    for path, other in expected.items():
        if path != wrong.path and other.size > 1 and wrong.explained(other):
            layers = path.startswith("[") and not path.startswith("['")
            return Finding("wrong layer" if layers else "swapped", f"the gradient of {path} in its place")
    return None


def _entries(wrong: Wrong) -> Finding:
    """Where the wrong entries are."""
    off = np.atleast_1d(np.abs(wrong.got - wrong.expected) > wrong.slack)
    count, size = int(off.sum()), off.size
    lines = [np.unique(places) for places in np.nonzero(off)]
    shared = [f"index {own[0]} of axis {axis}" for axis, own in enumerate(lines) if len(own) == 1 < off.shape[axis]]
    where = f", all at {' and '.join(shared)}" if shared else ""
    relative = float(np.max(np.abs(wrong.got - wrong.expected)) / (np.max(np.abs(wrong.expected)) or 1))
    if relative <= CLOSE:
        return Finding("arithmetic", f"the formula is right to {relative:.2g} of the largest entry: digits are lost")
    return Finding("some entries", f"{count} of {size} entries wrong{where}, by up to {relative:.2g} of the largest")


def find(wrong: Wrong, expected: dict[str, np.ndarray], sizes: dict[int, str]) -> Finding:
    """The first known fault that explains a leaf, else where its wrong entries are."""
    if wrong.got.shape == wrong.expected.shape and not np.all(np.isfinite(wrong.got)):
        bad = ~np.isfinite(wrong.got)
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        return Finding("not finite", f"{bad.sum()} of {bad.size} entries are {wrong.got[first]}, the first at {first}")
    searches: Sequence[Callable[[], Finding | None]] = (
        lambda: _not_summed(wrong),
        lambda: _transposed(wrong),
        lambda: _only_sign(_ratio(wrong, sizes)),
        lambda: _wrong_layer(wrong, expected),
        lambda: _ratio(wrong, sizes),
        lambda: _missing_term(wrong),
        lambda: _ratio_by_line(wrong),
    )
    found = next((each for each in (search() for search in searches) if each is not None), None)
    if found is None and wrong.got.shape != wrong.expected.shape:
        return Finding("shape", f"must have shape {wrong.expected.shape}; got {wrong.got.shape}")
    return found if found is not None else _entries(wrong)


def _layer_of(path: str) -> int | None:
    """The number of the layer that a leaf of a list of layers belongs to."""
    found = re.match(r"(?:args\[\d+\])?\[(\d+)\](?=[\[.])", path)
    return int(found[1]) if found else None


def _place(wrongs: Sequence[Wrong], paths: Sequence[str]) -> Diagnosis | None:
    """In a list of layers, where the backward pass goes wrong: between two layers, or in one."""
    layers = {path: _layer_of(path) for path in paths}
    ordered = tuple(wrong.path for wrong in wrongs)
    bad = set(ordered)
    numbers = {path: number for path, number in layers.items() if number is not None}
    if len(numbers) < len(paths) or len(set(numbers.values())) < 2:
        return None
    first_good = max(numbers[path] for path in bad) + 1
    last = max(numbers.values())
    if first_good <= last and all((path in bad) == (number < first_good) for path, number in numbers.items()):
        text = f"right from [{first_good}] on, wrong before: the step back from [{first_good}] to [{first_good - 1}]"
        return Diagnosis("layer step", ordered, f"{text} takes the wrong weights, slope or mask (another layer's?)")
    matrices = {wrong.path for wrong in wrongs if wrong.expected.ndim == 2}
    partners = [path for path, number in numbers.items() if number in {numbers[p] for p in bad} and path not in bad]
    if bad == matrices and len(partners) >= len({numbers[p] for p in bad}):
        text = "wrong where its bias is right: the cotangent arrives, the layer's input does not (another layer's?)"
        return Diagnosis("layer input", ordered, text)
    return None


def diagnose(wrongs: Sequence[Wrong], expected: dict[str, np.ndarray], sizes: dict[int, str]) -> list[Diagnosis]:
    """Find the fault of each leaf; leaves with the same are put together.

    Args:
        wrongs: The leaves that are wrong.
        expected: All leaves as they should be, in order.
        sizes: What a factor may be, from `axis_sizes`.
    """
    unknown = [wrong for wrong in wrongs if find(wrong, expected, sizes).kind == "some entries"]
    place = _place(unknown, list(expected)) if unknown and len(unknown) == len(wrongs) else None
    if place is not None:
        return [place]
    grouped: dict[Any, list[str]] = {}
    for wrong in wrongs:
        grouped.setdefault(find(wrong, expected, sizes), []).append(wrong.path)
    return [Diagnosis(found.kind, tuple(paths), found.text) for found, paths in grouped.items()]
