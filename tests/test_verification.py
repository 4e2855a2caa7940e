"""The table of the whole library holds every pair and misses no closed form; scripts/verify.py tells it."""

import ast
import inspect
import json
from itertools import combinations, product

import pytest
from cases import DTYPES, LOSSES, load_script
from test_architecture import SOURCES, module_of

import funcnet as fn
from funcnet.verification import FORMS, catalogue, check, forms
from funcnet.verification.pairs import covering
from funcnet.verification.problems import OPTIONS

COVERED = {name for form in FORMS.values() for name in form.covers}
NO_DERIVATIVE = {"init", "fit", "check_gradient", "check_vjp", "exact_line_search"}
NO_DERIVATIVE |= {"huber", "label_smoothed", "softmax_cross_entropy_chunked"}
"""Public functions that give no derivative: what they give is tested elsewhere, or is a loss of the catalogue."""


def derivations():
    """Public functions of the package whose docstring derives something."""
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and "Derivation:" in (ast.get_docstring(node) or ""):
                yield module_of(path), node.name


def missing(functions):
    rules = ("activations", "losses")  # their derivatives are fields of the rules, which the catalogue takes all
    return (
        {name for module, name in functions if module not in rules and not name.startswith("_")}
        - COVERED
        - NO_DERIVATIVE
    )


def test_every_public_closed_form_is_in_the_table():
    assert missing(derivations()) == set()
    public = {name for name in fn.__all__ if inspect.isfunction(getattr(fn, name))}
    assert public - NO_DERIVATIVE <= COVERED
    assert {"Loss." + f for f in ("value", "gradient", "hessian_action", "hessian_factor")} <= COVERED
    assert {"Activation." + f for f in ("value", "slope", "curvature", "third")} <= COVERED


def test_a_new_closed_form_would_be_missed():
    assert missing([*derivations(), ("gradients", "hessian_trace")]) == {"hessian_trace"}


def test_every_pair_is_there():
    choices = catalogue()
    values = {
        "activation": tuple(fn.activations.ACTIVATIONS),
        "loss": tuple(fn.losses.LOSSES),
        "dtype": DTYPES,
        "option": OPTIONS,
    }
    logits = {loss.name for loss in LOSSES if loss.logits}
    for name, form in FORMS.items():
        rows = [choice.setting._asdict() for choice in choices if choice.form == name]
        for factor in form.factors:
            assert {row[factor] for row in rows} >= set(values[factor]) - ({"output activation"} if not rows else set())
    network = [choice.setting._asdict() for choice in choices if "option" in FORMS[choice.form].factors]
    for (one, first), (two, second) in combinations(values.items(), 2):
        wanted = set(product(first, second))
        if (one, two) == ("loss", "option"):
            wanted -= set(product(logits, ["output activation"]))
        assert {(row[one], row[two]) for row in network} >= wanted
    least = len({choice.form for choice in choices if choice.setting.option}) * len(values["activation"])
    assert len(network) < 1.1 * least  # each form meets each activation


def test_coverings_are_complete_and_short():
    factors = {"a": "01", "b": "012", "c": "0123", "d": "01"}
    rows = covering(factors, lambda row: not (row.get("a") == "1" and row.get("b") == "2"))
    for (one, first), (two, second) in combinations(factors.items(), 2):
        got = {(row[one], row[two]) for row in rows}
        assert got == set(product(first, second)) - ({("1", "2")} if (one, two) == ("a", "b") else set())
    assert len(rows) <= 14
    assert rows == covering(factors, lambda row: not (row.get("a") == "1" and row.get("b") == "2"))


@pytest.mark.parametrize("form", ["Activation.curvature", "Loss.hessian_factor"])
def test_closed_forms_pass_one_check(form):
    """The first of each; scripts/verify.py runs them all."""
    report = check(next(choice for choice in catalogue() if choice.form == form))
    assert report.passed, report


def test_a_wrong_closed_form_is_found(monkeypatch):
    right = forms.input_gradient
    monkeypatch.setattr(forms, "input_gradient", lambda *args, **kwargs: 1.7 * right(*args, **kwargs))
    report = check(next(choice for choice in catalogue() if choice.form == "input_gradient"))
    assert not report.passed
    assert report.diagnoses[0].kind == "constant ratio"


MINE = """
import jax, jax.numpy as jnp

def loss(w, x):
    return jnp.sum((x @ w) ** 2)

def loss_grad(w, x):
    return 2 * x.T @ (x @ w)

def double(w, x):
    return 4 * x.T @ (x @ w)

def loss_args():
    return jnp.ones((2, 3)), jnp.ones((4, 2))

@jax.custom_vjp
def cube(x):
    return x ** 3

cube.defvjp(lambda x: (x ** 3, x), lambda x, g: (3 * x * x * g,))
cube_args = (jnp.linspace(-1.0, 1.0, 5),)
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_function_of_ones_own(mine, tmp_path, capsys, standard_promotion):
    verify = load_script("verify")
    assert verify.main(["--function", f"{mine}:loss", "--json", str(tmp_path / "out.json")]) == 0
    assert "gradient right" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row["passed"]
    assert row["leaves"][0]["compiled"]["error"] <= row["leaves"][0]["compiled"]["allowed"]
    assert verify.main(["--function", f"{mine}:loss", "--gradient", "double"]) == 1
    assert "2 × the function's gradient" in capsys.readouterr().out
    assert verify.main(["--function", f"{mine}:cube"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--function", "loss"], "--function must be module:name"),
        (["--function", "nowhere.py:loss"], "there is no 'nowhere.py'"),
        (["--function", "no_such_module_here:loss"], "there is no 'no_such_module_here'"),
        (["--function", "MINE:los"], "has no los"),
        (["--function", "MINE:double"], "has no double_grad or grad_double or ddouble"),
        (["--function", "MINE:loss", "--args", "loss_grad_args"], "has no loss_grad_args"),
        (["--only", "hessian of a cat"], "--only must be part of a closed form's name"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(options, message, mine, capsys):
    options = [option.replace("MINE", str(mine)) for option in options]
    assert load_script("verify").main(options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_table_of_a_part_of_the_library(tmp_path, capsys):
    verify = load_script("verify")
    assert verify.main(["--only", "affine", "--jobs", "1", "--json", str(tmp_path / "out.json")]) == 0
    printed = capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())
    assert {row["dtype"] for row in rows} >= {"float16", "bfloat16", "float32"}
    assert f"{len(rows)} of {len(rows)} checks right, 0 wrong" in printed
