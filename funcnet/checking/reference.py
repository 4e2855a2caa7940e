"""`jax.grad` in float64 at a point and around it: the oracle, how well conditioned it is, and whether it has a kink."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.checking.call import is_float
from funcnet.checking.programs import prepare
from funcnet.checking.rounding import eps_of

SAMPLES = 4
MORE_SAMPLES = 16
NEARBY = 1e-9
"""How near a kink is to be found, relative to the size of the arguments."""
JUMP = 1e-3
"""How much a gradient must change over that distance for it to be a kink, relative to its largest entry."""
LOST = 1e-4
"""How much of a gradient a change of the last digits of its arguments must change for it to be nothing but rounding."""

Point = list[Any]
Leaves = list[np.ndarray]


class Reference(NamedTuple):
    """A function of a list of arrays and its gradient in some of them.

    Attributes:
        at: Value and gradient at a point.
        value: The value at the point of the check.
        leaves: The gradient there; NaN where it cannot be had.
        variances: The roundings behind value and leaves, as sums of eps²; None if unknown.
        draws: The random bits drawn; None if unknown.
        absent: Why there is no gradient by autodiff, if so.
    """

    at: Callable[[Point], tuple[float, Leaves]]
    value: float
    leaves: Leaves
    variances: tuple[float, list[float]] | None
    draws: list[Any] | None
    absent: str | None


def differentiate(scalar: Callable[[Sequence[Any]], Any], targets: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """`jax.value_and_grad` of a function of a list of arrays, in the targets among them."""

    def value_and_grad(values: Sequence[Any]) -> Any:
        def of(moved: Sequence[Any]) -> Any:
            merged = list(values)
            for position, value in zip(targets, moved, strict=True):
                merged[position] = value
            return scalar(merged)

        return jax.value_and_grad(of)([values[i] for i in targets])

    return value_and_grad


def reference(scalar: Callable[[Sequence[Any]], Any], targets: Sequence[int], wide: Point) -> Reference:
    """Differentiate a function at a point in float64, compiled if it can be."""
    program = prepare(differentiate(scalar, targets), wide, wide=True)

    def at(values: Point) -> tuple[float, Leaves]:
        value, leaves = program.run(values)
        return float(value), [np.asarray(leaf, np.float64) for leaf in leaves]

    try:
        value, leaves = at(wide)
    except Exception as error:  # whatever a function that cannot be differentiated raises
        first = (str(error) or "no message").splitlines()[0]
        nothing = [np.full(np.shape(wide[i]), np.nan) for i in targets]
        value = float(prepare(scalar, wide, wide=True).run(wide))
        return Reference(at, value, nothing, None, None, f"{type(error).__name__}: {first}")
    return Reference(at, value, leaves, program.roundings, program.draws, None)


def sizes_of(value: np.ndarray) -> np.ndarray:
    """The size of each entry of an array; what is typical of the array where it is 0, and 0 where it is not finite."""
    size = np.abs(np.asarray(value, np.float64))
    finite = np.isfinite(size)
    largest = float(np.max(size, where=finite, initial=0.0))
    typical = largest * float(np.sqrt(np.mean((np.where(finite, size, 0) / largest) ** 2))) if largest > 0 else 1.0
    return np.where(finite, np.where(size > 1e-8 * typical, size, typical), 0.0)


def _rounding(value: Any, random: np.random.Generator) -> Any:
    """A random direction in which each entry moves by at most itself."""
    if not is_float(value):
        return value
    return np.where(np.isfinite(value), value, 0) * random.uniform(-1, 1, np.shape(value))


def shift(wide: Point, directions: Point, amounts: Sequence[float]) -> Point:
    """The point moved: each floating-point array by its amount times its direction."""
    with np.errstate(over="ignore"):
        return [v + amount * d if is_float(v) else v for v, d, amount in zip(wide, directions, amounts, strict=True)]


class Surroundings(NamedTuple):
    """Values and gradients at points around the one of the check.

    Attributes:
        conditioning: For each leaf, by how many units it moves when each input moves by at most one eps of its dtype.
        value_moves: By how much the value moves, in units of eps.
        low: The least gradient met nearby, entry by entry.
        high: The largest.
        kink: For each leaf, whether there is a kink within reach.
        lost: For each leaf, whether it is nothing but rounding: what moves it in float64 is a change of the last digit.
    """

    conditioning: np.ndarray
    value_moves: float
    low: Leaves
    high: Leaves
    kink: list[bool]
    lost: list[bool]


def look_around(
    at: Callable[[Point], tuple[float, Leaves]],
    wide: Point,
    centre: tuple[float, Leaves],
    dtypes: Sequence[Any],
    units: Sequence[float],
    seed: int,
    targets: Sequence[int],
    samples: int = SAMPLES,
) -> Surroundings:
    """Measure the conditioning, and look for kinks.

    Args:
        at: Value and gradient at a point.
        wide: The point.
        centre: Value and gradient there.
        dtypes: The dtype of each array of the point before it was widened; anything for those not of floating point.
        units: For each leaf, what its errors are measured in.
        seed: For the random points.
        targets: Which arrays kinks are looked for in.
        samples: How many of them.
    """
    random = np.random.default_rng(seed)
    eps = [eps_of(dtype) if is_float(v) else 0.0 for dtype, v in zip(dtypes, wide, strict=True)]
    value, leaves = centre
    moves, value_moves = np.zeros(len(leaves)), 0.0
    low, high = ([np.full_like(leaf, np.nan) for leaf in leaves] for _ in range(2))
    for _ in range(samples):
        roundings = [_rounding(v, random) for v in wide]
        other, near = at(shift(wide, roundings, eps))
        _widen_to(low, high, near)
        with np.errstate(invalid="ignore"):
            changes = [np.max(np.abs(a - b), initial=0.0) for a, b in zip(near, leaves, strict=True)]
        moves = np.fmax(moves, np.asarray(changes) / units)
        value_moves = np.fmax(value_moves, abs(other - value) / max(eps))
    last = 2 * eps_of(np.float64)
    roundings = [_rounding(v, random) for v in wide]
    _, near = at(shift(wide, roundings, [last] * len(wide)))
    with np.errstate(invalid="ignore"):
        changes = [np.max(np.abs(a - b), initial=0.0) for a, b in zip(near, leaves, strict=True)]
    lost = [bool(c > LOST * np.max(np.abs(b), initial=0.0)) for c, b in zip(changes, leaves, strict=True)]
    kink = _kinks(at, wide, targets, leaves, (low, high), random)
    return Surroundings(moves, float(value_moves), low, high, kink, lost)


def _kinks(
    at: Callable[[Point], tuple[float, Leaves]],
    wide: Point,
    targets: Sequence[int],
    leaves: Leaves,
    box: tuple[Leaves, Leaves],
    random: np.random.Generator,
) -> list[bool]:
    """For each leaf, whether points nearby disagree, however near they are.

    A gradient that is another at the point itself alone is no kink of the function, but a fault of autodiff.
    """
    largest = [np.max(np.abs(leaf), initial=0.0) for leaf in leaves]
    floors = [JUMP * max(each, 1e-10 * max(largest, default=0.0)) for each in largest]
    kink = [False] * len(leaves)
    seen: list[tuple[Leaves, Leaves]] = []
    for turn in range(MORE_SAMPLES):
        if turn >= SAMPLES and not any(kink):
            break
        directions = [sizes_of(v) * random.uniform(-1, 1, np.shape(v)) if is_float(v) else v for v in wide]
        amounts = [NEARBY * (i in targets) for i in range(len(wide))]
        pair = tuple(at(shift(wide, directions, [part * a for a in amounts]))[1] for part in (1.0, 0.01))
        for near in pair:
            _widen_to(*box, near)
        seen.append((pair[0], pair[1]))
        for i, floor in enumerate(floors):
            far, close = (_spread([near[which][i] for near in seen]) for which in (0, 1))
            kink[i] |= bool(close > floor and close > 0.1 * far)
    return kink


def _spread(leaves: Sequence[np.ndarray]) -> float:
    """The largest difference between leaves in one entry."""
    stack = np.stack(leaves)
    with np.errstate(invalid="ignore"):
        return float(np.max(np.max(stack, axis=0) - np.min(stack, axis=0), initial=0.0))


def _widen_to(low: Leaves, high: Leaves, near: Leaves) -> None:
    for i, leaf in enumerate(near):
        low[i], high[i] = np.fmin(low[i], leaf), np.fmax(high[i], leaf)
