"""What `benchmarks/others_gradients.py` reports of other packages, against finite differences taken here."""

import jax
import numpy as np
import pytest
from cases import some
from others_cases import differentiated, optax_cases, regressor_case, sklearn_cases
from others_gradients import check, found, main


def ratio_by_differences(case):
    """The gradient over the slope of the value that comes with it, along the gradient."""
    packed, *rest = case.args
    _, gradient = case.grad_fun(packed, *rest)
    direction = gradient / np.linalg.norm(gradient)
    ahead, behind = (case.grad_fun(packed + step * direction, *rest)[0] for step in (1e-5, -1e-5))
    return float(gradient @ direction / ((ahead - behind) / 2e-5))


@pytest.mark.parametrize("outputs", some([1, 2, 3, 5], 2))
def test_the_ratio_reported_of_scikit_learn_is_that_of_finite_differences(outputs):
    case = regressor_case(outputs)
    row, ratio = check(case), ratio_by_differences(case)
    assert row.ratio == pytest.approx(ratio, rel=1e-6)
    assert row.report.passed == (abs(ratio - 1) < 1e-6)
    assert f"ratio {ratio:.3f}" in found(row)


def test_the_losses_are_those_of_scikit_learn():
    for case in sklearn_cases():
        with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            ours = float(case.fun(*case.args))
        assert ours == pytest.approx(float(case.grad_fun(*case.args)[0]), rel=1e-12, abs=1e-12), case.where


@pytest.mark.parametrize(
    "name", some(["sigmoid_binary_cross_entropy", "safe_softmax_cross_entropy", "_projection_unit_simplex"], 1)
)
def test_losses_of_optax_pass(name):
    row = check(next(case for case in optax_cases() if case.function == name))
    assert row.report.passed, row.report
    assert found(row) == "right"


def test_a_wrong_gradient_is_reported():
    case = differentiated("optax", "doubled", "here", lambda x: x**2, np.float32([1, 2, 3]))
    row = check(case._replace(grad_fun=lambda x: 4 * x))
    assert found(row).startswith("constant ratio: 2 × the function's gradient")


@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_the_script_prints_a_table(options, capsys):
    assert main(["--only", "nn.squareplus(b=0)", *options]) == 0
    printed = capsys.readouterr().out
    assert "nn.squareplus(b=0)" in printed
    assert "not finite" in printed
