"""The rules of the differential method: eight for differentials, five for traces, and a few more, each stated once."""

from typing import NamedTuple

SEED = "document 000, section 1"


class Rule(NamedTuple):
    """A rule.

    Attributes:
        number: Its number; 1 to 13 are those of the document that the method comes from.
        name: What it is called.
        statement: What it says.
        source: Where it comes from, or why it holds.
    """

    number: int
    name: str
    statement: str
    source: str


RULES = {
    rule.number: rule
    for rule in (
        Rule(1, "sum", "d(X ± Y) = dX ± dY", SEED),
        Rule(2, "matrix product", "d(X Y) = (dX) Y + X dY", SEED),
        Rule(3, "transpose", "d(Xᵀ) = (dX)ᵀ", SEED),
        Rule(4, "trace", "d tr(X) = tr(dX)", SEED),
        Rule(5, "inverse", "d(X⁻¹) = −X⁻¹ (dX) X⁻¹", SEED),
        Rule(6, "determinant", "d|X| = tr(adj(X) dX)", SEED),
        Rule(7, "elementwise product", "d(X ∘ Y) = dX ∘ Y + X ∘ dY", SEED),
        Rule(8, "elementwise function", "dσ(X) = σ′(X) ∘ dX", SEED),
        Rule(9, "a scalar is its trace", "a = tr(a)", SEED),
        Rule(10, "trace of a transpose", "tr(Aᵀ) = tr(A)", SEED),
        Rule(11, "linearity", "tr(A ± B) = tr(A) ± tr(B)", SEED),
        Rule(12, "cyclic swap", "tr(A B) = tr(B A)", SEED),
        Rule(13, "swap of elementwise and matrix product", "tr(Aᵀ (B ∘ C)) = tr((A ∘ B)ᵀ C)", SEED),
        Rule(14, "sum of entries", "d sum(X) = sum(dX)", "rule 2: sum(X) = 1ᵀ X 1"),
        Rule(15, "squared norm", "d‖X‖² = 2 tr(Xᵀ dX)", "rules 2, 4, 10: ‖X‖² = tr(Xᵀ X)"),
        Rule(16, "norm", "d‖X‖ = tr(Xᵀ dX) / ‖X‖", "rules 8, 15: ‖X‖ = √‖X‖²"),
        Rule(17, "log-determinant", "d log|det X| = tr(X⁻¹ dX)", "rules 6, 8: adj(X) = det(X) X⁻¹"),
        Rule(
            18,
            "adjugate",
            "d adj(X) = |X| (tr(X⁻¹ dX) X⁻¹ − X⁻¹ (dX) X⁻¹)",
            "rules 5, 6, 7: adj(X) = |X| X⁻¹, where X has an inverse",
        ),
        Rule(19, "diagonal", "d diag(x) = diag(dx), and likewise of the diagonal of a matrix", "they are linear"),
        Rule(
            20, "softmax of a vector", "dp = p ∘ (da − 1 pᵀ da), p = softmax(a)", "rules 7, 8: p = exp(a) / 1ᵀ exp(a)"
        ),
        Rule(
            21,
            "log-softmax of a vector",
            "d log p = da − 1 pᵀ da, p = softmax(a)",
            "rules 1, 8: log p = a − 1 log 1ᵀ exp(a)",
        ),
        Rule(22, "log-sum-exp of a vector", "d log 1ᵀ exp(a) = pᵀ da, p = softmax(a)", "rule 8, and 1ᵀ(u ∘ v) = uᵀ v"),
        Rule(
            23,
            "softmax of each row",
            "dP = P ∘ (dA − (P ∘ dA) 1 1ᵀ), P = softmax(A)",
            "rule 20 for each row: (P ∘ dA) 1 holds the rows' pᵀ da",
        ),
        Rule(24, "log-softmax of each row", "d log P = dA − (P ∘ dA) 1 1ᵀ, P = softmax(A)", "rule 21 for each row"),
        Rule(25, "log-sum-exp of each row", "d log(exp(A) 1) = (P ∘ dA) 1, P = softmax(A)", "rule 22 for each row"),
        Rule(
            26,
            "a scalar inside",
            "tr(Cᵀ diag(x)) = tr(diagonal(C)ᵀ x), and tr(C s) = tr(C) s for a scalar s",
            "entries",
        ),
        Rule(27, "constant factor", "d(c X) = c dX", "rule 7, with dc = 0"),
    )
}
"""All of them, by number."""
