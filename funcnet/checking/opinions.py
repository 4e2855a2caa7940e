"""Three opinions on one gradient, in float64: its own, that of `jax.grad`, and that of finite differences."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from funcnet.checking.finite_differences import Slope, slope
from funcnet.checking.reference import Surroundings, sizes_of
from funcnet.checking.rounding import eps_of

Right = Literal["both", "gradient", "jax.grad", "neither", "kink", "cannot tell"]
LEAVES = 6
"""How many leaves get a line of their own; of more, several share one."""
COORDINATES = 3
"""How many entries of a leaf are looked at one by one where gradient and `jax.grad` disagree."""
COARSE = 1e-4
"""What finite differences must be off by, relatively, to contradict two opinions that agree."""


class Evidence(NamedTuple):
    """The derivative in one entry, or along one direction, in three opinions.

    Attributes:
        path: The leaf, or leaves, it belongs to.
        index: The entry; None for a direction.
        gradient: What the gradient says.
        autodiff: What `jax.grad` says; NaN where it cannot be run.
        finite_difference: What finite differences say.
        uncertainty: How far those may be off.
        right: Whose opinion they support.
        left_and_right: The derivatives from the left and from the right.
    """

    path: str
    index: tuple[int, ...] | None
    gradient: float
    autodiff: float
    finite_difference: float
    uncertainty: float
    right: Right
    left_and_right: tuple[float, float]


class Judgement(NamedTuple):
    """What is known of one leaf.

    Attributes:
        right: Whose opinion holds.
        truth: The leaf as it should be, as far as it can be known.
        doubt: The largest difference between gradient and `jax.grad` that could not be decided.
    """

    right: Right
    truth: np.ndarray
    doubt: float


class Lines(NamedTuple):
    """What is needed to look along lines.

    Attributes:
        along: Values of the function along a line, of (values, direction, steps).
        values: The point.
        targets: Which of the values are moved.
        noise: The rounding error of the function's values.
    """

    along: Callable[..., np.ndarray]
    values: Sequence[Any]
    targets: Sequence[int]
    noise: float

    def slope(self, direction: Sequence[np.ndarray]) -> Slope:
        """The derivative in a direction."""
        unseen = eps_of(np.float64) * max(float(np.max(np.abs(each), initial=0.0)) for each in direction)
        return slope(lambda steps: self.along(self.values, direction, steps), self.noise, unseen)

    def sizes(self) -> list[np.ndarray]:
        """The size of each entry that can be moved; that of its leaf where it is 0."""
        return [sizes_of(self.values[i]) for i in self.targets]


def decide(gradient: float, autodiff: float, slope: Slope, scale: float, same: float) -> Right:
    """Whose opinion finite differences support.

    Args:
        gradient: What the gradient says of this direction.
        autodiff: What `jax.grad` says.
        slope: What finite differences say.
        scale: The size of what was added up for either of the first two.
        same: The difference between these two that rounding explains.
    """
    if slope.kink:
        low, high = slope.between
        inside = low <= gradient <= high, low <= autodiff <= high
        return "kink" if inside[0] else "jax.grad" if inside[1] else "neither"
    gap = abs(gradient - autodiff)
    if gap <= same:
        slack = 3 * slope.uncertainty + COARSE * max(abs(slope.value), scale)
        right = "both" if abs(slope.value - gradient) <= slack else "neither"
    else:
        slack = slope.uncertainty + 0.02 * (gap if np.isfinite(gap) else abs(slope.value))
        near = abs(slope.value - gradient) <= slack, abs(slope.value - autodiff) <= slack
        right = "cannot tell" if gap <= slope.uncertainty else "gradient" if near[0] else "jax.grad"
        right = right if right == "cannot tell" or any(near) else "neither"
    return right if np.isfinite(slope.uncertainty) else "cannot tell"


def _single(shape: tuple[int, ...], index: tuple[int, ...], size: float) -> np.ndarray:
    direction = np.zeros(shape)
    direction[index] = size
    return direction


def _worst(off: np.ndarray, count: int) -> list[tuple[int, ...]]:
    order = np.argsort(off, axis=None)[::-1][:count]
    return [tuple(int(i) for i in np.unravel_index(k, off.shape)) for k in order]


class Panel(NamedTuple):
    """Gradient and `jax.grad` leaf by leaf, with what decides between them."""

    lines: Lines
    paths: tuple[str, ...]
    gradient: list[np.ndarray]
    autodiff: list[np.ndarray]
    same: list[float]
    around: Surroundings

    def allows(self, leaf: int) -> bool:
        """Whether a leaf at a kink lies between the gradients met on its sides."""
        low, high = self.around.low[leaf], self.around.high[leaf]
        slack = 0.05 * (high - low) + self.same[leaf]
        return bool(np.all((self.gradient[leaf] >= low - slack) & (self.gradient[leaf] <= high + slack)))

    def ask(self, path: str, directions: dict[int, np.ndarray], index: tuple[int, ...] | None = None) -> Evidence:
        """Ask finite differences for the derivative in a direction, given by the leaves that it moves."""
        zeros = [np.zeros_like(g) for g in self.gradient]
        found = self.lines.slope([directions.get(i, zero) for i, zero in enumerate(zeros)])
        with np.errstate(all="ignore"):
            said = [
                sum(float(np.sum((leaves[i] * d)[d != 0])) for i, d in directions.items())
                for leaves in (self.gradient, self.autodiff)
            ]
            terms = sum(float(np.sum((self.gradient[i] * d)[d != 0] ** 2)) for i, d in directions.items())
            same = sum(self.same[i] * float(np.sum(np.abs(d))) for i, d in directions.items())
            right = decide(said[0], said[1], found, float(np.sqrt(terms)), same)
        if index is None and right != "kink" and found.kink and abs(said[0] - said[1]) <= same:
            right = "kink"  # several kinks at once: what they allow together is not known
        sides = found.left, found.right
        return Evidence(path, index, said[0], said[1], found.value, found.uncertainty, right, sides)

    def entry(self, leaf: int, index: tuple[int, ...], size: float) -> Evidence:
        """Ask for one entry; what comes back is the derivative itself."""
        direction = _single(self.gradient[leaf].shape, index, size)
        asked = self.ask(self.paths[leaf], {leaf: direction}, index)
        numbers = {name: getattr(asked, name) / size for name in ("finite_difference", "uncertainty")}
        return asked._replace(
            gradient=float(self.gradient[leaf][index]),
            autodiff=float(self.autodiff[leaf][index]),
            left_and_right=(asked.left_and_right[0] / size, asked.left_and_right[1] / size),
            **numbers,
        )


def judge(panel: Panel, seed: int) -> tuple[list[Judgement], list[Evidence]]:
    """Decide leaf by leaf, and return what was decided by.

    Where gradient and `jax.grad` agree, finite differences along random directions and in the largest entries confirm
    both. Where they do not, the entries in which they differ most are looked at one by one, then all of them along the
    direction that tells the two apart.
    """
    random, sizes = np.random.default_rng(seed), panel.lines.sizes()
    with np.errstate(invalid="ignore"):
        off = [np.abs(g - a) for g, a in zip(panel.gradient, panel.autodiff, strict=True)]
    alike = [(g == a) for g, a in zip(panel.gradient, panel.autodiff, strict=True)]  # both infinite, it may be
    off = [np.where(same, 0, np.where(np.isnan(each), np.inf, each)) for same, each in zip(alike, off, strict=True)]
    disputed = [bool(np.any(each > same)) for each, same in zip(off, panel.same, strict=True)]
    judged: list[Judgement | None] = [None] * len(off)
    evidence: list[Evidence] = []
    for leaf in [i for i, each in enumerate(disputed) if each]:
        judged[leaf], found = _dispute(panel, leaf, off[leaf], sizes[leaf])
        evidence += found
        if panel.around.kink[leaf] and panel.allows(leaf):
            judged[leaf] = Judgement("kink", panel.gradient[leaf], 0.0)
    agreed = [i for i, each in enumerate(disputed) if not each]
    for group in (agreed[k::LEAVES] for k in range(min(LEAVES, len(agreed)))):
        found = _confirm(panel, group, sizes, random)
        evidence += found
        right = _first(("neither", "kink", "both"), found)
        for leaf in group:
            at_kink = panel.around.kink[leaf]
            judged[leaf] = Judgement("kink" if at_kink else right, panel.autodiff[leaf], 0.0)
    return [each for each in judged if each is not None], evidence


def _first(order: tuple[Right, ...], evidence: list[Evidence]) -> Right:
    """The first verdict in the order that some evidence bears out."""
    rights = {each.right for each in evidence}
    known: list[Right] = [right for right in order if right in rights]
    return known[0] if known else "cannot tell"


def _confirm(panel: Panel, group: list[int], sizes: list[np.ndarray], random: np.random.Generator) -> list[Evidence]:
    """Finite differences where gradient and `jax.grad` agree."""
    directions = {
        i: sizes[i] * random.uniform(0.5, 1.5, sizes[i].shape) * random.choice([-1.0, 1.0], sizes[i].shape)
        for i in group
    }
    found = [panel.ask(", ".join(panel.paths[i] for i in group), directions)]
    largest = max(group, key=lambda i: float(np.max(np.abs(panel.gradient[i]) * sizes[i], initial=0.0)))
    for index in _worst(np.abs(panel.gradient[largest]) * sizes[largest], 1 if np.any(sizes[largest]) else 0):
        found.append(panel.entry(largest, index, float(sizes[largest][index])))
    return found


def _dispute(panel: Panel, leaf: int, off: np.ndarray, size: np.ndarray) -> tuple[Judgement, list[Evidence]]:
    """Finite differences where gradient and `jax.grad` disagree."""
    gradient, autodiff = panel.gradient[leaf], panel.autodiff[leaf]
    many = int(np.sum(off > panel.same[leaf]))
    movable = np.where(size > 0, off, 0)
    entries = [index for index in _worst(movable * size, min(COORDINATES, many)) if size[index] > 0]
    evidence = [panel.entry(leaf, index, float(size[index])) for index in entries]
    if many > len(entries) and np.all(np.isfinite(gradient)) and not panel.around.kink[leaf]:
        with np.errstate(invalid="ignore"):
            signs = np.where(np.isnan(autodiff), np.sign(gradient), np.sign(gradient - autodiff))
        evidence.append(panel.ask(panel.paths[leaf], {leaf: np.where(off > panel.same[leaf], signs * size, 0.0)}))
    right = _first(("neither", "jax.grad", "gradient", "kink"), evidence)
    if right in ("gradient", "kink"):
        return Judgement(right, gradient, 0.0), evidence
    truth = np.where(np.isnan(autodiff), gradient, autodiff)
    for each in evidence:
        if each.index is not None and np.isnan(each.autodiff) and not np.isnan(each.finite_difference):
            truth[each.index] = each.finite_difference
    return Judgement(right, truth, float(np.max(off)) if right == "cannot tell" else 0.0), evidence
