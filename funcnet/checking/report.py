"""What a check found, as a value, and as text that says what is wrong and where."""

import math
from typing import Literal, NamedTuple

from funcnet.checking.comparison import LeafComparison
from funcnet.checking.opinions import Evidence

Kind = Literal[
    "structure", "shape", "dtype", "value", "not finite", "impure", "compiled differs", "sign", "missing mean",
    "constant ratio", "zero", "transposed", "not summed", "missing term", "wrong layer", "swapped", "layer step",
    "layer input", "ignored cotangent", "shared with jax.grad", "some entries", "arithmetic",
]  # fmt: skip
"""What may be wrong with a gradient."""


class Diagnosis(NamedTuple):
    """A cause found.

    Attributes:
        kind: What kind of fault it is.
        paths: The leaves that it explains.
        text: It in words, with the numbers that show it.
    """

    kind: Kind
    paths: tuple[str, ...]
    text: str


class Run(NamedTuple):
    """A leaf as computed in one way, against the truth.

    Attributes:
        name: "formula" (in float64), "compiled" or "eager" (both in the leaf's own dtype).
        found: The comparison with the truth.
        allowed: The error that rounding explains, in the same units of eps times the leaf's largest entry.
        lost: Whether more was let pass: the leaf is nothing but rounding even in float64 (as the sum of terms that
            cancel), and that of `jax.grad` in the same dtype is as far off.
    """

    name: Literal["formula", "compiled", "eager"]
    found: LeafComparison
    allowed: float
    lost: bool = False

    @property
    def holds(self) -> bool:
        """Whether rounding explains the error."""
        return self.lost or self.found.error <= self.allowed


class LeafReport(NamedTuple):
    """One leaf of the gradient.

    Attributes:
        path: Where it is in its tree, as `jax.tree_util.keystr` writes it; "value" for the value of the function.
        shape: Its shape.
        dtype: Its dtype.
        right: Whether it passed.
        conditioning: How many units the leaf moves when each input moves by one eps.
        runs: In float64, and compiled and eager in its own dtype.
        autodiff_error: That of `jax.grad` in the same dtype, if it was asked since the leaf was doubtful.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    right: bool
    conditioning: float
    runs: tuple[Run, ...]
    autodiff_error: float | None = None

    @property
    def worst(self) -> Run | None:
        """The run that is furthest out of what it is allowed."""
        return max(self.runs, key=lambda run: run.found.error / run.allowed, default=None)


class Setting(NamedTuple):
    """What a check ran on."""

    jax: str
    device: str
    matmul_precision: str
    seed: int


class GradientReport(NamedTuple):
    """What a check found.

    Attributes:
        passed: Whether the gradient is right.
        leaves: Its leaves, in order.
        diagnoses: What is wrong, the causes that were found.
        oracle: "agrees" with the gradient, is "at fault" where finite differences side with the gradient against it,
            "contradicts" it, is "absent", where `jax.grad` cannot be run, or was "not asked".
        evidence: What the three opinions say in the entries and along the directions that were looked at.
        notes: What else is worth knowing: kinks, what could not be told, what could not be run.
        setting: What it ran on.
    """

    passed: bool
    leaves: tuple[LeafReport, ...]
    diagnoses: tuple[Diagnosis, ...]
    oracle: Literal["agrees", "at fault", "contradicts", "absent", "not asked"]
    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...]
    setting: Setting

    @property
    def error(self) -> float:
        """The largest error of any leaf in any run, in units of eps times the leaf's largest entry."""
        errors = [run.found.error for leaf in self.leaves for run in leaf.runs]
        return math.inf if not errors else max(errors)

    @property
    def kinks(self) -> tuple[Evidence, ...]:
        """The entries and directions in which the function has a kink."""
        return tuple(each for each in self.evidence if each.right == "kink")

    def __str__(self) -> str:
        """The verdict and its reasons, then a table of the leaves, then evidence and notes."""
        lost = {cause.kind for cause in self.diagnoses} == {"arithmetic"}
        lines = ["gradient right" if self.passed else "formula right, arithmetic WRONG" if lost else "gradient WRONG"]
        lines += [f"  {cause.kind}, {', '.join(cause.paths)}: {cause.text}" for cause in self.diagnoses]
        if self.oracle == "at fault":
            lines.append("  jax.grad is at fault: finite differences side with the gradient")
        if self.leaves:
            lines += ["  error in units of eps × largest entry of the leaf (allowed)", *_table(self.leaves)]
        shown = [e for e in self.evidence if e.right not in ("both", "cannot tell") or not self.passed]
        if shown:
            lines += ["  three opinions", *(f"    {_opinions(each)}" for each in shown[:8])]
        lines += [f"  note: {note}" for note in self.notes]
        lines.append(
            f"  jax {self.setting.jax}, {self.setting.device}, matrix products {self.setting.matmul_precision}, "
            f"seed {self.setting.seed}"
        )
        return "\n".join(lines)


class GradientMismatch(AssertionError):  # noqa: N818 - the name is public
    """A gradient is not that of its function.

    Attributes:
        report: The `GradientReport`; its text is the message.
    """

    def __init__(self, report: GradientReport) -> None:
        """Keep the report."""
        super().__init__(str(report))
        self.report = report


def _place(index: tuple[int, ...] | None) -> str:
    return "along a direction" if index is None else f"[{', '.join(map(str, index))}]"


def _opinions(e: Evidence) -> str:
    verdict = {"both": "both right", "neither": "both wrong", "cannot tell": "cannot tell", "kink": "a kink"}
    sides = f" (from the left {e.left_and_right[0]:.6g}, from the right {e.left_and_right[1]:.6g})"
    return (
        f"{e.path} {_place(e.index)}: gradient {e.gradient:.9g}, jax.grad {e.autodiff:.9g}, finite differences "
        f"{e.finite_difference:.9g} ± {e.uncertainty:.1g}{sides if e.right == 'kink' else ''}: "
        f"{verdict.get(e.right, e.right + ' is right')}"
    )


def _table(leaves: tuple[LeafReport, ...]) -> list[str]:
    width = max(len(leaf.path) for leaf in leaves)
    lines = []
    for leaf in leaves:
        runs = ", ".join(_cell(run) for run in leaf.runs) or "not compared"
        lines.append(
            f"    {'ok   ' if leaf.right else 'WRONG'} {leaf.path:<{width}} {leaf.dtype}{list(leaf.shape)}: {runs}"
        )
        if not leaf.right and leaf.worst is not None:
            worst = leaf.worst.found
            lines.append(
                f"          worst at {_place(worst.worst)}: expected {worst.expected:.9g}, got {worst.got:.9g}"
                f" (got / expected over the leaf {worst.ratio:.6g})"
            )
    return lines


def _cell(run: Run) -> str:
    name = "float64" if run.name == "formula" else run.name
    return f"{name} {run.found.error:.3g} ({run.allowed:.2g})" + (", nothing but rounding" if run.lost else "")
