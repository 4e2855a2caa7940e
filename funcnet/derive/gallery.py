"""Derivations that are shown: the examples of the documents that the method comes from, and funcnet's own gradients."""

from collections.abc import Iterator
from typing import NamedTuple

from funcnet.derive.derivation import Derivation, derive
from funcnet.derive.rules import RULES


class Example(NamedTuple):
    """An expression to derive.

    Attributes:
        title: What it is.
        source: The expression.
        shapes: The shapes of its symbols.
        wrt: What it is derived in.
    """

    title: str
    source: str
    shapes: tuple[str, ...]
    wrt: tuple[str, ...]

    def derivation(self) -> Derivation:
        """It, derived."""
        return derive(self.source, self.wrt, shapes=self.shapes)


EXAMPLES = {
    "cross_entropy": Example(
        "Softmax and cross-entropy (000, example 1; `softmax_cross_entropy`)",
        "-y.T @ log_softmax(a)",
        ("y=k,sums_to_one", "a=k"),
        ("a",),
    ),
    "two_layers": Example(
        "Two layers, column vectors (000, example 2; layout `column`)",
        "a1 = W1@x; h1 = sigmoid(a1); a2 = W2@h1; -y.T @ log_softmax(a2)",
        ("W1=hxd", "W2=kxh", "x=d", "y=k,sums_to_one"),
        ("W1", "W2"),
    ),
    "subtracted_biases": Example(
        "Three layers with subtracted biases, row vectors (001; layout `subtractive`)",
        "h1 = sigmoid(x@A - a); h2 = sigmoid(h1@B - b); yhat = sigmoid(h2@C - c); norm(yhat - y)**2 / 2",
        ("x=1x3", "A=3x5", "B=5x4", "C=4x3", "a=1x5", "b=1x4", "c=1x3", "y=1x3"),
        ("A", "B", "C", "a", "b", "c"),
    ),
    "composed": Example(
        "A function of A X B (002, section 1.1)",
        "M = A@X@B; sum(F * tanh(M))",
        ("A=pxm", "X=mxn", "B=nxq", "F=pxq"),
        ("X",),
    ),
    "affine": Example(
        "The affine layer of a batch, with dY given (002, section 2.1, and 003; `affine_backward`)",
        "sum(dY * (X@W + ones(n)@b))",
        ("dY=nxp", "X=nxd", "W=dxp", "b=1xp"),
        ("X", "W", "b"),
    ),
    "batch_cross_entropy": Example(
        "Softmax and cross-entropy of a batch (002, section 2.3; `softmax_cross_entropy`)",
        "-sum(Y * log_softmax(X)) / m",
        ("Y=nxk,sums_to_one", "X=nxk", "m=1"),
        ("X",),
    ),
    "squared_error": Example(
        "Half the squared error of a batch (`half_squared_error`)",
        "norm(Z - Y)**2 / (2*m)",
        ("Z=nxk", "Y=nxk", "m=1"),
        ("Z",),
    ),
    "penalty": Example("The penalty (`MLP(…, l2=…)`)", "lam * norm(W)**2 / 2", ("lam=1", "W=dxh"), ("W",)),
}


INTRODUCTION = """# Derivations

What funcnet's own gradients are made of, derived by `funcnet.derive`; every one is proven against `jax.grad`, and
compared with the hand-written function, in the tests. This page is written by `funcnet.derive.gallery.page()` and kept
equal to it by a test; `scripts/derive.py` derives expressions of your own.

## Rules

Rules 1 to 13 are numbered as in the document on the differential method (000) that funcnet realises: eight for
differentials, five for traces. The others follow from these, or hold entry by entry. Each is verified against `jax.jvp`
at random points.
"""


def page() -> str:
    """The page of derivations, in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield INTRODUCTION
    yield "| number | rule | statement | source |"
    yield "| --- | --- | --- | --- |"
    for rule in RULES.values():
        statement = rule.statement.replace("|", "\\|")
        yield f"| {rule.number} | {rule.name} | {statement} | {rule.source.replace('|', chr(92) + '|')} |"
    for example in EXAMPLES.values():
        yield from ("", f"## {example.title}", "", "```text", str(example.derivation()), "```")
