"""A sample of the planted faults is caught and named, one of the correct gradients is not accused.

benchmarks/checker.py takes them all.
"""

import jax
import pytest
from cases import X64, some
from checker import catalogue, ours, theirs

with jax.numpy_dtype_promotion("standard"):  # the cases are written as users write them
    FAULTS = [case for case in catalogue("fault") if not case.name.startswith("network")][::20]
    CORRECT = catalogue("correct")[7::110]
pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_there_are_enough():
    assert len(catalogue("fault")) >= 40
    assert len(catalogue("correct")) >= 200
    assert len({case.name for case in catalogue("fault") + catalogue("correct")}) >= 900 if X64 else 700
    assert {case.kind for case in catalogue("fault")} >= {
        "sign", "constant ratio", "missing mean", "transposed", "not summed", "missing term", "wrong layer",
        "ignored cotangent", "structure", "shape", "dtype", "compiled differs", "not finite", "arithmetic", "value",
    }  # fmt: skip


@pytest.mark.parametrize("case", some(FAULTS, 3), ids=lambda case: case.name)
def test_planted_faults_are_caught_and_named(case):
    report = ours(case)
    assert not report.passed
    assert case.kind is None or case.kind in [cause.kind for cause in report.diagnoses], report


@pytest.mark.parametrize("case", some(CORRECT, 4), ids=lambda case: case.name)
def test_correct_gradients_are_not_accused(case):
    report = ours(case)
    assert report.passed, report


def test_the_other_checker_gets_the_same_cases():
    named = {case.name: case for case in catalogue("fault") + catalogue("correct")}
    right = next(case for name, case in named.items() if name == "sort, float32, scale 1")
    assert theirs(right)
    assert not theirs(right._replace(grad_fun=lambda *args: -right.grad_fun(*args)))
