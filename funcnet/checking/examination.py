"""A gradient put to the proof at one point: run, compared, judged, and reported."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from funcnet.checking.answer import Answer, as_jax_sees, dtype_of, read
from funcnet.checking.call import Call, is_float, widen
from funcnet.checking.comparison import compare_leaf, unit_of
from funcnet.checking.finite_differences import line_program, point_by_point
from funcnet.checking.opinions import Evidence, Judgement, Lines, Panel, judge
from funcnet.checking.programs import Program, eager, prepare, roundings_of
from funcnet.checking.reference import MORE_SAMPLES, Reference, Surroundings, differentiate, look_around, reference
from funcnet.checking.report import LeafReport, Run
from funcnet.checking.rounding import eps_of

CONFIDENCE = {16: 1.1, 32: 3.0, 64: 3.0}
"""By how many units the largest of many entries may be off for each √k of k roundings, by bits.

Half precision keeps more digits inside fused operations, so that fewer roundings happen than are counted.
"""
BETTER = 2.0
"""How many times the error of `jax.grad` in the same dtype a leaf may have that is nothing but rounding."""
STEPS = 50.0
"""Roundings that a gradient may have between input and output; more than these if `jax.grad` has more as well."""
UNTRACED = 100.0
"""Roundings assumed of a function that JAX cannot trace."""
QUICK = 0.02
"""Seconds in which a value is had without a program made for it: compiling one takes as long as some hundred calls."""
EPS64 = eps_of(np.float64)


class Subject(NamedTuple):
    """What is to be checked.

    Attributes:
        call: The call, taken apart.
        scalar: The function, of the list of its arrays.
        gradient: Its gradient, of the same list.
        values: The arrays, in their own dtypes.
        seed: For directions and points.
    """

    call: Call
    scalar: Callable[[Sequence[Any]], Any]
    gradient: Callable[[Sequence[Any]], Any]
    values: list[Any]
    seed: int

    @property
    def dtypes(self) -> list[Any]:
        """The dtype of each leaf that is differentiated in."""
        return [self.call.leaves[i].dtype for i in self.call.wrt]


class Answers(NamedTuple):
    """What the gradient function gave, and the programs behind it.

    Attributes:
        eager: Run operation by operation, in its own dtype.
        compiled: Compiled, in its own dtype; None where JAX cannot trace it.
        formula: In float64; None where it does not run in float64.
        own: The program in its own dtype.
        autodiff: The roundings of `jax.grad` in the same dtype; None if unknown.
        wide: The program in float64.
        notes: What could not be run, and why.
        changed: The leaves that are others when the gradient function is called again.
    """

    eager: Answer
    compiled: Answer | None
    formula: Answer | None
    own: Program
    autodiff: Any
    wide: Program
    notes: tuple[str, ...]
    changed: tuple[str, ...]


def _equal(a: Any, b: Any) -> bool:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.array_equal(a, b, equal_nan=True)


def run_gradient(subject: Subject) -> Answers:
    """Run the gradient function in its own dtype, eager and compiled, and in float64."""
    call, values, notes = subject.call, subject.values, []
    run = eager(subject.gradient, wide=False)
    first, second = (as_jax_sees(read(call, run(values))) for _ in range(2))
    pairs = zip(call.paths, first.leaves, second.leaves, strict=True)
    changed = () if first.problem else tuple(path for path, a, b in pairs if not _equal(a, b))
    own = prepare(subject.gradient, values, wide=False)
    compiled = read(call, own.run(values)) if own.untraced is None else None
    if own.untraced:
        notes.append(f"the gradient cannot be compiled, so it was run eager alone ({own.untraced})")
    autodiff = roundings_of(differentiate(subject.scalar, call.targets()), values, wide=False)
    already = own.untraced is None and all(v.dtype == np.float64 for v in values if is_float(v))
    wide = own if already else prepare(subject.gradient, widen(values), wide=True)
    try:
        formula = read(call, wide.run(widen(values)))
    except Exception as error:  # a gradient may be written for its own dtype alone
        formula = None
        text = (str(error) or "no message").splitlines()[0]
        notes.append(f"the gradient does not run in float64, so it was judged in its own dtype ({text})")
    return Answers(first, compiled, formula, own, autodiff and autodiff[1], wide, tuple(notes), changed)


class View(NamedTuple):
    """What is known at the point of the check, in float64.

    Attributes:
        wide: The arrays.
        formula: The gradient's leaves; NaN where their shape is wrong.
        ref: `jax.grad` there.
        around: What is met around it.
        judged: What was decided, leaf by leaf.
        evidence: What it was decided by.
        allowed: For each leaf the error in float64 that rounding explains, in units of eps times its largest entry.
    """

    wide: list[Any]
    formula: list[np.ndarray]
    ref: Reference
    around: Surroundings
    judged: list[Judgement]
    evidence: list[Evidence]
    allowed: np.ndarray


def _walks(roundings: Any, dtypes: Sequence[Any]) -> np.ndarray:
    """√k for the k roundings on the way to each leaf, in units of its eps."""
    if roundings is None:
        return np.full(len(dtypes), np.sqrt(UNTRACED))
    return np.sqrt(np.asarray(roundings, np.float64)) / [eps_of(dtype) for dtype in dtypes]


def confidence(dtype: Any) -> float:
    """`CONFIDENCE` of a dtype."""
    return CONFIDENCE[8 * np.dtype(dtype).itemsize]


def _confidence(dtypes: Sequence[Any]) -> np.ndarray:
    return np.asarray([confidence(dtype) for dtype in dtypes])


def _leaves_of(call: Call, answer: Answer) -> list[np.ndarray]:
    """The leaves in float64; NaN where their shape is wrong."""
    models = [call.leaves[i] for i in call.wrt]
    return [
        np.asarray(leaf, np.float64) if np.shape(leaf) == model.shape else np.full(model.shape, np.nan)
        for leaf, model in zip(answer.leaves, models, strict=True)
    ]


def _along(subject: Subject, ref: Reference, wide: list[Any]) -> Callable[..., np.ndarray]:
    """Values along a line: by the program of value and gradient where that is quick, else by one made for it."""
    targets = subject.call.targets()
    start = time.perf_counter()
    if ref.absent is None:
        ref.at(wide)
    if ref.absent is not None or time.perf_counter() - start > QUICK:
        return line_program(subject.scalar, targets, wide)
    return lambda values, direction, steps: point_by_point(
        lambda p: ref.at(list(p))[0], targets, values, direction, steps
    )


def look(subject: Subject, answers: Answers) -> View:
    """Ask `jax.grad` and finite differences, and decide leaf by leaf."""
    call, wide, targets = subject.call, widen(subject.values), subject.call.targets()
    formula = _leaves_of(call, answers.formula if answers.formula is not None else answers.eager)
    ref = reference(subject.scalar, targets, wide)
    finite = all(np.all(np.isfinite(leaf)) for leaf in ref.leaves)

    def formula_at(values: list[Any]) -> tuple[float, list[np.ndarray]]:
        return np.nan, _leaves_of(call, read(call, answers.wide.run(values)))

    if np.isinf(ref.value):
        raise ValueError(f"fun is {ref.value} at these arguments; a gradient can be checked only where it is finite")
    centre = ref.leaves if finite or answers.formula is None else formula
    units = [unit_of(dtype, leaf) for dtype, leaf in zip(subject.dtypes, centre, strict=True)]
    dtypes = [getattr(v, "dtype", None) for v in subject.values]
    at = ref.at if finite or answers.formula is None else formula_at
    around = look_around(at, wide, (ref.value, centre), dtypes, units, subject.seed, targets)
    doubles = [np.dtype(np.float64)] * len(formula)
    own = _walks(read(call, answers.wide.roundings).leaves if answers.wide.roundings is not None else None, doubles)
    theirs = _walks(ref.variances and ref.variances[1], doubles)
    allowed = _confidence(doubles) * np.sqrt(1 + own**2 + theirs**2) * np.fmax(1, around.conditioning)
    deviation = np.sqrt(ref.variances[0] if ref.variances else UNTRACED * EPS64**2)
    noise = max(float(deviation), EPS64) * np.fmax(abs(ref.value), around.value_moves)
    lines = Lines(_along(subject, ref, wide), wide, targets, float(noise))
    same = [float(a) * unit_of(np.float64, leaf) for a, leaf in zip(allowed, centre, strict=True)]
    judged, evidence = judge(Panel(lines, call.paths, formula, ref.leaves, same, around), subject.seed)
    return View(wide, formula, ref, around, judged, evidence, allowed)


ACCEPTED = ("both", "gradient", "kink", "cannot tell")


def _own_run(name: Any, path: str, leaf: Any, truth: np.ndarray, allowed: float, i: int, view: View) -> Run:
    """Leaf i in its own dtype against the truth: at a kink against the nearest of the gradients met around it."""
    if view.around.kink[i] and np.all(np.isfinite(np.asarray(leaf, np.float64))):
        bounds = np.fmin(view.around.low[i], truth), np.fmax(view.around.high[i], truth)
        truth = np.clip(np.asarray(leaf, np.float64), *bounds)
    found = compare_leaf(path, leaf, truth)
    doubt = view.judged[i].doubt / unit_of(dtype_of(leaf), truth)
    return Run(name, found, allowed + doubt)


def compare_runs(
    subject: Subject, answers: Answers, view: View, truths: list[np.ndarray], skip: set[str]
) -> list[LeafReport]:
    """Each leaf in each run against the truth; leaves of the wrong shape are left to the diagnosis."""
    call, reports = subject.call, []
    roundings = read(call, answers.own.roundings).leaves if answers.own.roundings is not None else None
    walks = _walks(roundings, subject.dtypes)
    if answers.autodiff is not None:
        walks = np.fmin(walks, np.fmax(_walks(answers.autodiff, subject.dtypes), np.sqrt(STEPS)))
    walks = np.sqrt(1 + walks**2)
    allowed = _confidence(subject.dtypes) * walks * np.fmax(1, view.around.conditioning)
    for i, path in enumerate(call.paths):
        model, judged, runs = call.leaves[call.wrt[i]], view.judged[i], []
        if path not in skip:
            if answers.formula is not None:
                runs.append(Run("formula", compare_leaf(path, view.formula[i], judged.truth), float(view.allowed[i])))
                if judged.right in ACCEPTED:
                    runs[0] = runs[0]._replace(allowed=max(runs[0].allowed, runs[0].found.error))
            for name, answer in (("compiled", answers.compiled), ("eager", answers.eager)):
                if answer is not None:
                    runs.append(_own_run(name, path, answer.leaves[i], truths[i], float(allowed[i]), i, view))
        right = path not in skip and judged.right in ACCEPTED and all(run.holds for run in runs)
        conditioning = float(view.around.conditioning[i])
        reports.append(LeafReport(path, model.shape, str(model.dtype), right, conditioning, tuple(runs)))
    return reports


def second_look(subject: Subject, view: View, leaves: list[LeafReport]) -> list[LeafReport]:
    """Leaves whose arithmetic alone fails, looked at again: with more points around, and beside `jax.grad`'s own."""
    doubtful = [i for i, leaf in enumerate(leaves) if leaf.runs and not leaf.right and view.judged[i].right in ACCEPTED]
    if not doubtful or view.ref.absent is not None:
        return leaves
    units = [unit_of(dtype, each.truth) for dtype, each in zip(subject.dtypes, view.judged, strict=True)]
    dtypes = [getattr(v, "dtype", None) for v in subject.values]
    centre, targets = (view.ref.value, view.ref.leaves), subject.call.targets()
    again = look_around(view.ref.at, view.wide, centre, dtypes, units, subject.seed + 1, targets, MORE_SAMPLES)
    autodiff = differentiate(subject.scalar, targets)
    beside = prepare(autodiff, subject.values, wide=False).run, eager(autodiff, wide=False)
    theirs = [run(subject.values)[1] for run in beside]
    leaves = list(leaves)
    for i in doubtful:
        more = float(np.fmax(1, np.fmax(1, again.conditioning[i]) / max(1, leaves[i].conditioning)))
        errors = [compare_leaf(leaves[i].path, each[i], view.judged[i].truth).error for each in theirs]
        runs = [run if run.name == "formula" else run._replace(allowed=run.allowed * more) for run in leaves[i].runs]
        lost = view.around.lost[i] and np.isfinite(max(errors))
        runs = [run._replace(lost=lost and run.found.error <= BETTER * max(errors)) for run in runs]
        right = all(run.holds for run in runs)
        leaves[i] = leaves[i]._replace(runs=tuple(runs), right=right, autodiff_error=max(errors))
    return leaves
