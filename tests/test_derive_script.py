"""scripts/derive.py: what it writes, and what it refuses."""

import re

import pytest
from cases import load_script

derive = load_script("derive")
NORM = ["norm(A@x - b)**2", "--shape", "A=nxd", "x=d", "b=n"]


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("text", "∂ℓ/∂x = 2 Aᵀ (A x − b)"),
        ("latex", r"\begin{align*}"),
        ("html", "<!doctype html>"),
        ("python", "def value_and_grad(A, x, b):"),
    ],
)
def test_forms(form, shown, capsys):
    assert derive.main([*NORM, "--wrt", "x", "--format", form, "--no-proof"]) == 0
    assert shown in capsys.readouterr().out


def test_the_proof_is_told(capsys):
    assert derive.main(["-y.T@log_softmax(a)", "--shape", "y=k,sums_to_one", "a=k", "--wrt", "a"]) == 0
    told = capsys.readouterr()
    assert re.search(r"proof: at most .* eps·max from jax.grad, both in float64", told.err)
    assert told.out.splitlines()[-1] == "∂ℓ/∂a = softmax(a) − y"


def test_a_file_is_written_once(tmp_path, capsys):
    out = tmp_path / "derived.py"
    options = [*NORM, "--format", "python", "--out", str(out), "--no-proof"]
    assert derive.main(options) == 0
    text = out.read_text()
    assert derive.main(options) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x@x", "--shape", "x=d"], "x (d × 1) @ x (d × 1): 1 and d must be equal"),
        (["x", "--shape", "x=d"], "expression must be a scalar; got x of d × 1"),
        (["sum(z)", "--shape", "x=d"], "z is not known; there are x"),
        (["sum(x)", "--shape", "x=d", "--wrt", "z"], "wrt: z does not occur"),
        (["__import__('os').system('true')", "--shape", "x=d"], "only numbers, symbols"),
        (["sum(x)", "--shape", "x=dxexf"], "shape must be such as"),
        (["log(-1 - x*x)", "--shape", "x=1"], "no point was found where the loss and its gradients are finite"),
    ],
)
def test_what_is_refused(options, message, capsys):
    assert derive.main(options) == 2
    told = capsys.readouterr()
    assert told.err.startswith("derive.py: ")
    assert message in told.err
    assert told.out == ""
