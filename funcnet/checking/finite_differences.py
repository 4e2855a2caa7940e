"""Slopes along lines by finite differences in float64, each with its uncertainty, and kinks told from slopes."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.checking.programs import Program, arithmetic, as_numpy, prepare

RATIO = 2.0**1.5
STEPS = 2.0**-5 * RATIO ** -np.arange(16.0)
"""Step lengths, from 3e-2 to 5e-9 of the size of what is moved."""


class Slope(NamedTuple):
    """The derivative of a function along a line.

    Attributes:
        value: By central differences.
        uncertainty: How far it may be off.
        left: The derivative from the left.
        right: The derivative from the right.
        kink: Whether left and right differ.
    """

    value: float
    uncertainty: float
    left: float
    right: float
    kink: bool

    @property
    def between(self) -> tuple[float, float]:
        """The slopes that a kink allows, give or take the uncertainty."""
        return min(self.left, self.right) - self.uncertainty, max(self.left, self.right) + self.uncertainty


def _moved(targets: Sequence[int], values: Sequence[Any], direction: Sequence[Any], step: Any) -> list[Any]:
    moved = list(values)
    for position, change in zip(targets, direction, strict=True):
        moved[position] = values[position] + step * change
    return moved


def line_program(
    scalar: Callable[[Sequence[Any]], Any], targets: Sequence[int], values: Sequence[Any]
) -> Callable[[Sequence[Any], Sequence[Any], np.ndarray], np.ndarray]:
    """The values of a scalar function along a line: of (values, direction, steps)."""

    def along(values: Sequence[Any], direction: Sequence[Any], steps: Any) -> Any:
        return jax.lax.map(lambda step: scalar(_moved(targets, values, direction, step)), steps)

    zeros = [np.zeros_like(values[i]) for i in targets]
    program: Program = prepare(along, values, zeros, np.zeros(2 * len(STEPS) + 1), wide=True)
    if program.untraced is None:
        return program.run

    def one_by_one(values: Sequence[Any], direction: Sequence[Any], steps: np.ndarray) -> np.ndarray:
        with arithmetic(wide=True):
            return point_by_point(lambda p: as_numpy(scalar(p)), targets, values, direction, steps)

    return one_by_one


def point_by_point(
    fun: Callable[[Sequence[Any]], Any],
    targets: Sequence[int],
    values: Sequence[Any],
    direction: Sequence[Any],
    steps: np.ndarray,
) -> np.ndarray:
    """The values of a scalar function along a line, one after the other."""
    return np.asarray([float(fun(_moved(targets, values, direction, step))) for step in steps])


def _limit(quotients: np.ndarray, orders: tuple[int, int], noise: np.ndarray) -> tuple[float, float]:
    """The limit of difference quotients for ever smaller steps, and its uncertainty.

    Richardson's extrapolation removes the two leading terms of the error, of the given orders in the step; of all
    entries in the table the one is taken that agrees best with those it comes from, rounding included.
    """
    best = (np.nan, np.inf)
    before, amplified = quotients, noise
    for order in (*orders, None):
        if len(before) < 3:
            break
        spread = np.abs(np.diff(before))
        errors = np.maximum(spread[:-1], spread[1:]) + amplified[2:]
        errors = np.where(np.isfinite(errors), errors, np.inf)
        k = int(np.argmin(errors))
        if errors[k] < best[1]:
            best = (float(before[k + 1]), float(errors[k]))
        if order is not None:
            factor = RATIO**order
            before = (factor * before[1:] - before[:-1]) / (factor - 1)
            amplified = (factor * amplified[1:] + amplified[:-1]) / (factor - 1)
    return best


def _quantum(middle: float, side: np.ndarray) -> float:
    """The first change of a function along ever larger steps, if smaller ones change nothing: what it cannot resolve.

    So it is where a function loses the digits of its value on the way to it, as the loss of a saturated softmax may.
    """
    changes = np.abs(side - middle)[::-1]
    changes = changes[np.isfinite(changes)]
    first = int(np.argmax(changes > 0)) if changes.size else 0
    return float(changes[first]) if first > 0 else 0.0


def slope(along: Callable[[np.ndarray], np.ndarray], noise: float, unseen: float = 0.0) -> Slope:
    """The derivative at 0 of a function of one variable.

    Args:
        along: The function, of many points at once.
        noise: The rounding error of its values.
        unseen: The change of its values that may go unseen where they are all the same: a function may lose the digits
            of its value on the way to it, as log-softmax does far out.
    """
    values = along(np.concatenate([[0.0], STEPS, -STEPS])).astype(np.float64)
    middle, ahead, behind = values[0], values[1 : len(STEPS) + 1], values[len(STEPS) + 1 :]
    if np.all(values == middle):
        return Slope(0.0, unseen / float(STEPS[0]), 0.0, 0.0, False)
    with np.errstate(all="ignore"):
        rounding = max(noise, _quantum(middle, ahead), _quantum(middle, behind)) / STEPS
        central, error = _limit((ahead - behind) / (2 * STEPS), (2, 4), rounding)
        right, right_error = _limit((ahead - middle) / STEPS, (1, 2), 2 * rounding)
        left, left_error = _limit((middle - behind) / STEPS, (1, 2), 2 * rounding)
        gap, doubt = abs(right - left), 10 * (right_error + left_error)
        kink = bool(gap > doubt + 1e-6 * max(abs(right), abs(left)))
        apart = abs(central - 0.5 * (left + right))
    uncertainty = 4 * error if not apart > doubt + 10 * error else apart  # they must not settle on different plateaus
    return Slope(central, right_error + left_error if kink else uncertainty, left, right, kink)
