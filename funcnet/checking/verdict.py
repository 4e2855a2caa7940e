"""From what was run and seen to a report: notes, causes, and the verdict."""

from typing import Any

import jax
import numpy as np

from funcnet.checking.answer import misfits
from funcnet.checking.comparison import compare_leaf
from funcnet.checking.diagnosis import Wrong, axis_sizes, diagnose
from funcnet.checking.examination import (
    ACCEPTED,
    UNTRACED,
    Answers,
    Subject,
    View,
    compare_runs,
    confidence,
    look,
    second_look,
)
from funcnet.checking.programs import MATMUL_PRECISION, arithmetic, prepare
from funcnet.checking.reference import differentiate
from funcnet.checking.report import Diagnosis, GradientReport, LeafReport, Run, Setting
from funcnet.checking.rounding import draws, eps_of

DIFFERENT = 4
"""How many times the error of one must be that of the other for compiled and eager to be told apart."""


def examine(subject: Subject, answers: Answers) -> GradientReport:
    """Judge a gradient at one point by what it gave there."""
    if answers.eager.problem is not None:
        return _report(subject, (), [answers.eager.problem], answers.notes, None)
    if answers.changed:
        text = "the same call gives something else the second time: it depends on more than its arguments"
        return _report(subject, (), [Diagnosis("impure", answers.changed, text)], answers.notes, None)
    faults = misfits(subject.call, answers.eager)
    shapes = {path for path, fault in faults.items() if fault.kind == "shape"}
    view = look(subject, answers)
    truths, notes = _truths(subject, view)
    leaves = second_look(subject, view, compare_runs(subject, answers, view, truths, shapes))
    value, causes = _check_value(subject, answers, view)
    causes += [fault for fault in faults.values() if fault.kind == "dtype"]
    causes += _causes(subject, answers, view, leaves, {path for path in faults if path not in shapes})
    leaves = [leaf._replace(right=leaf.right and leaf.path not in faults) for leaf in leaves]
    return _report(subject, (*value, *leaves), causes, (*answers.notes, *notes), view)


def _truths(subject: Subject, view: View) -> tuple[list[np.ndarray], list[str]]:
    """What the gradient should be in its own dtype: the same as in float64, if the function is the same there."""
    truths = [each.truth for each in view.judged]
    if not view.ref.draws:
        return truths, []
    with arithmetic(wide=False):
        own = draws(jax.make_jaxpr(subject.scalar)(subject.values).jaxpr)
    if all(each in own for each in view.ref.draws):
        return truths, []
    program = prepare(differentiate(subject.scalar, subject.call.targets()), subject.values, wide=False)
    truths = [np.asarray(leaf, np.float64) for leaf in program.run(subject.values)[1]]
    return truths, [
        "the function draws other random numbers in float64, so in its own dtype it is compared with jax.grad's own"
    ]


def _check_value(subject: Subject, answers: Answers, view: View) -> tuple[list[LeafReport], list[Diagnosis]]:
    """The value that came with the gradient, if one did."""
    if answers.eager.value is None or (np.isnan(view.ref.value) and np.isnan(float(answers.eager.value))):
        return [], []
    runs = []
    moves = view.around.value_moves / abs(view.ref.value) if view.ref.value else 1.0
    asked: tuple[tuple[Any, Any, Any], ...] = (
        ("formula", answers.formula, answers.wide),
        ("compiled", answers.compiled, answers.own),
        ("eager", answers.eager, answers.own),
    )
    for name, answer, program in asked:
        if answer is not None:
            found = compare_leaf("value", np.asarray(answer.value), np.asarray(view.ref.value))
            variances = jax.tree.leaves(program.roundings) if program.roundings is not None else None
            walk = np.sqrt(variances[0]) / eps_of(found.dtype) if variances else np.sqrt(UNTRACED)
            runs.append(Run(name, found, float(confidence(found.dtype) * np.sqrt(1 + walk**2) * np.fmax(1, moves))))
    right = all(run.holds for run in runs)
    leaf = LeafReport("value", (), runs[-1].found.dtype, right, float(moves), tuple(runs))
    if right:
        return [leaf], []
    worst = leaf.worst.found if leaf.worst else runs[0].found
    text = f"the value that comes with the gradient is {worst.got:.9g}; the function's is {worst.expected:.9g}"
    return [leaf], [Diagnosis("value", ("value",), text)]


def _causes(
    subject: Subject, answers: Answers, view: View, leaves: list[LeafReport], known: set[str]
) -> list[Diagnosis]:
    """Why leaves are wrong: their formula, else their compiled form, else their arithmetic."""
    call, wrongs, causes = subject.call, [], []
    for i, leaf in enumerate(leaves):
        if leaf.right or leaf.path in known:
            continue
        judged, truth = view.judged[i], view.judged[i].truth
        argument = np.asarray(view.wide[call.targets()[i]], np.float64)
        runs = {run.name: run for run in leaf.runs}
        only_compiled = "compiled" in runs and runs["eager"].holds and not runs["compiled"].holds
        if leaf.runs and (judged.right in ACCEPTED or only_compiled):
            causes.append(_own_cause(leaf))
            continue
        answer = answers.formula if answers.formula is not None else answers.eager
        got = np.asarray(answer.leaves[i], np.float64)
        if judged.right == "neither" and np.array_equal(got, view.ref.leaves[i]):
            text = "jax.grad gives the same, finite differences contradict both: a stopped gradient, a wrong rule"
            causes.append(Diagnosis("shared with jax.grad", (leaf.path,), text))
        else:
            slack = view.allowed[i] * eps_of(np.float64) * float(np.max(np.abs(truth), initial=0.0))
            wrongs.append(Wrong(leaf.path, got, truth, argument, slack))
    expected = {path: each.truth for path, each in zip(call.paths, view.judged, strict=True)}
    return diagnose(wrongs, expected, axis_sizes(call)) + causes


def _own_cause(leaf: LeafReport) -> Diagnosis:
    """Why a leaf is wrong whose formula is right."""
    runs = {run.name: run for run in leaf.runs}
    compiled, eager = runs.get("compiled"), runs["eager"]
    if compiled is not None and compiled.holds != eager.holds:
        bad, good = (eager, compiled) if compiled.holds else (compiled, eager)
        if bad.found.error > DIFFERENT * good.found.error:
            text = f"wrong by {bad.found.error:.3g} units {bad.name}, by {good.found.error:.3g} {good.name}"
            return Diagnosis("compiled differs", (leaf.path,), text)
    worst = leaf.worst.found if leaf.worst else eager.found
    if not np.isfinite(worst.got):
        text = f"{worst.got} at {list(worst.worst)} in {leaf.dtype}, though not in float64: an overflow"
        return Diagnosis("not finite", (leaf.path,), text)
    text = f"the formula is right, its arithmetic in {leaf.dtype} is off by {worst.error:.3g} units"
    if leaf.autodiff_error is not None:
        text += f" (jax.grad's by {leaf.autodiff_error:.3g})"
    return Diagnosis("arithmetic", (leaf.path,), text)


def _report(
    subject: Subject, leaves: tuple[LeafReport, ...], causes: list[Diagnosis], notes: Any, view: View | None
) -> GradientReport:
    setting = Setting(jax.__version__, jax.devices()[0].device_kind, MATMUL_PRECISION, subject.seed)
    passed = bool(leaves) and not causes and all(leaf.right for leaf in leaves)
    if view is None:
        return GradientReport(passed, leaves, tuple(causes), "not asked", (), tuple(notes), setting)
    rights = {each.right for each in view.judged}
    oracle = "at fault" if "gradient" in rights else "contradicts" if rights & {"jax.grad", "neither"} else "agrees"
    notes = list(notes)
    if view.ref.absent:
        oracle = "absent"
        notes.append(f"jax.grad cannot be run ({view.ref.absent}): judged by finite differences")
    for path, each in zip(subject.call.paths, view.judged, strict=True):
        if each.right == "kink":
            notes.append(f"{path}: at a kink; any gradient between those on its sides is accepted")
        if each.right == "cannot tell" and each.doubt == 0:
            notes.append(f"{path}: jax.grad agrees; finite differences cannot tell")
        if each.doubt > 0:
            notes.append(f"{path}: {each.doubt:.3g} from jax.grad, too little for finite differences to tell")
    misshapen = {
        path for cause in causes if cause.kind in ("shape", "not summed", "transposed") for path in cause.paths
    }
    evidence = tuple(e for e in view.evidence if not (np.isnan(e.gradient) and e.path in misshapen))
    return GradientReport(passed, leaves, tuple(causes), oracle, evidence, tuple(notes), setting)
