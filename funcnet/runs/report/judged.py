"""The sections on what the model makes of examples: confusion or residuals, the worst examples, what units look for."""

from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float, Int, Shaped

from funcnet.runs.outcome import (
    Outcome,
    class_shares,
    confusion_counts,
    leading_inputs,
    most_uncertain,
    most_wrong,
)
from funcnet.runs.report.charts import chart, predicted_against_true, residuals
from funcnet.runs.report.markup import element, framed, paragraph, section, table
from funcnet.runs.report.pixels import diverging, grey, is_ink, side_of, source
from funcnet.runs.trained import Trained

MATRIX = 30
"""More classes than these are told by the mistakes that are made most, not by a matrix."""
TARGETS = 6
EXAMPLES = 16
FEATURES = 5
UNITS = 64
FULL = 0.995
"""The share of the weights that lie within the scale of colours: a single large one is not to pale all others."""


def share_text(share: Any) -> str:
    """A share of examples; a stroke where there are none to take it of."""
    return f"{share:.1%}" if np.isfinite(share) else "–"


def confusion_section(found: Outcome) -> Element:
    """How many examples of which class were taken for which, and how well each class is told."""
    names, truth, labels = found.dataset.class_names, found.dataset.y, found.predictions.labels
    assert labels is not None
    counts = confusion_counts(truth, labels, len(names))
    said = f"{found.part.capitalize()} part: {np.trace(counts):,} of {len(truth):,} examples are right."
    if len(names) <= MATRIX:
        said += " Rows are true classes, columns what they were taken for; colours are shares of the row."
        return section("confusion", "Confusion of classes", paragraph(said), _matrix(counts, names))
    return section("confusion", "Confusion of classes", paragraph(said), *_mistakes(counts, names))


def _matrix(counts: Int[np.ndarray, "k k"], names: tuple[str, ...]) -> Element:
    """All counts, with recall to the right and precision below."""
    k, shares = len(names), class_shares(counts)
    tall = {"class_": "tall"} if max(map(len, names)) > 6 else {}
    heads = [element("th", element("span", name), scope="col", **tall) for name in names]
    rows = []
    for i, name in enumerate(names):
        cells = [_cell(int(counts[i, j]), counts[i, j] / max(counts[i].sum(), 1), i == j) for j in range(k)]
        ends = (f"{counts[i].sum():,}", share_text(shares.recall[i]))
        rows.append(
            element(
                "tr", element("th", name, scope="row"), *cells, *(element("td", end, class_="share") for end in ends)
            )
        )
    below = [element("td", share_text(share), class_="share") for share in shares.precision]
    body = element("table", class_="matrix")
    body.append(element("caption", "Examples by true and predicted class"))
    ends = [element("th", name, scope="col", class_="share") for name in ("examples", "recall")]
    body.append(element("thead", element("tr", element("th", "true \\ predicted", scope="col"), *heads, *ends)))
    last = element("tr", element("th", "precision", scope="row", class_="share"), *below, element("td"), element("td"))
    body.extend([element("tbody", *rows), element("tfoot", last)])
    return framed("confusion matrix", body)


def _cell(count: int, share: float, right: bool) -> Element:
    kind = "cell" if count else "cell none"
    if count and not right:
        kind, share = "cell miss", max(share, 0.15)  # one mistake among many examples is to be seen, too
    return element("td", f"{count}", class_=f"{kind} strong" if share > 0.55 else kind, style=f"--share: {share:.3g}")


def _mistakes(counts: Int[np.ndarray, "k k"], names: tuple[str, ...]) -> list[Element]:
    """The mistakes made most, and the classes told worst."""
    shares, wrong = class_shares(counts), counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MATRIX]
    places = [(i, j) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[i, j]]
    pairs = [(names[i], element("td", names[j], class_="words"), f"{wrong[i, j]}") for i, j in places]
    worst = np.argsort(np.where(np.isnan(shares.recall), np.inf, shares.recall), kind="stable")[:MATRIX]
    rows = [
        (names[i], f"{counts[i].sum():,}", share_text(shares.recall[i]), share_text(shares.precision[i])) for i in worst
    ]
    return [
        table("The mistakes made most", ("true", "predicted", "examples"), pairs, words=(0, 1)),
        element("h3", "Classes"),
        table(f"The {len(rows)} of lowest recall", ("class", "examples", "recall", "precision"), rows),
    ]


def residual_section(found: Outcome) -> Element:
    """Predicted against true numbers, and how the residuals are spread, for each target."""
    y, values = found.dataset.y.astype(float), found.predictions.values.astype(float)
    names, rows, drawn = _target_names(found), [], []
    for i, name in enumerate(names[:TARGETS]):
        errors = values[:, i] - y[:, i]
        spread = np.sum((y[:, i] - y[:, i].mean()) ** 2)
        r2 = 1 - np.sum(errors**2) / spread if spread > 0 else np.nan
        numbers = (r2, np.mean(np.abs(errors)), np.sqrt(np.mean(errors**2)), errors.mean())
        rows.append((name, *(f"{number:.4g}" if np.isfinite(number) else "–" for number in numbers)))
        drawn += [
            chart(f"{name}: predicted against true", predicted_against_true(y[:, i], values[:, i], f"points-{i}")),
            chart(f"{name}: residuals", residuals(errors, f"residuals-{i}")),
        ]
    columns = ("target", "R²", "mean absolute error", "root mean square error", "mean error")
    more = f" The first {TARGETS} of {len(names)} targets are shown." if len(names) > TARGETS else ""
    note = paragraph(f"{found.part.capitalize()} part: {len(y):,} examples, in the units of the data.{more}")
    return section(
        "residuals",
        "Residuals",
        note,
        table("Errors of each target", columns, rows),
        element("div", *drawn, class_="charts"),
    )


def _target_names(found: Outcome) -> list[str]:
    names, k = found.dataset.target_names, found.predictions.values.shape[1]
    return list(names) if len(names) == k else [f"target {i + 1}" for i in range(k)]


def examples_section(trained: Trained, found: Outcome) -> Element:
    """The examples that the model is furthest from, and of classes those it wavers most on."""
    if trained.setup.privacy is not None:
        return section("examples", "Examples", paragraph("Training was private: no examples are shown."))
    wrong = most_wrong(found, EXAMPLES)
    if found.predictions.labels is None:
        note = paragraph(f"{found.part.capitalize()} part: the largest errors, in standard deviations of the targets.")
        return section("examples", "Furthest from the truth", note, _examples(trained, found, wrong))
    total = int(np.sum(found.predictions.labels != found.dataset.y))
    most = (
        f"the worst {len(wrong)} of {total:,} wrong ones"
        if total > len(wrong)
        else f"{'the only wrong one' if total == 1 else f'all {total} wrong ones'}"
    )
    said = f"{found.part.capitalize()} part: {most}, by how far the class predicted is ahead of the true one."
    return section(
        "examples",
        "Examples",
        element("h3", "Most wrong"),
        paragraph(said if total else f"Every example of the {found.part} part is right."),
        _examples(trained, found, wrong) if total else None,
        element("h3", "Most uncertain"),
        paragraph(
            f"{found.part.capitalize()} part: right or wrong, where the two leading classes are closest together."
        ),
        _examples(trained, found, most_uncertain(found, EXAMPLES), wavering=True),
    )


def _examples(trained: Trained, found: Outcome, rows: Int[np.ndarray, " m"], wavering: bool = False) -> Element:
    """Examples beside the class that the one predicted is compared with: the true one, or where it wavers the next."""
    values, y = found.predictions.values, found.dataset.y
    rivals = np.argsort(values[rows], axis=1)[:, -2] if wavering else y[rows]
    side = side_of(found.dataset)
    if side is None:
        return _example_table(trained, found, rows, rivals, "of the next class" if wavering else "of the true class")
    ink = is_ink(trained.setup.parts["train"])
    return element(
        "div", *(_picture(found, i, rival, side, ink) for i, rival in zip(rows, rivals, strict=True)), class_="pictures"
    )


def _picture(found: Outcome, i: int, rival: Any, side: int, ink: bool) -> Element:
    """An example as a picture over what it is and what it was taken for."""
    labels, values = found.predictions
    if labels is None:
        true, said, kind, lines = _number_text(found.dataset.y[i]), _number_text(values[i]), "", []
    else:
        names, right = found.dataset.class_names, labels[i] == found.dataset.y[i]
        true, said, kind = names[found.dataset.y[i]], names[labels[i]], "right" if right else "wrong"
        lines = [f"{values[i, labels[i]]:.2f} against {values[i, rival]:.2f}"]
        lines += [f" for {names[rival]}"] if rival != found.dataset.y[i] else []
    image = element(
        "img", src=source(grey(found.dataset.x[i], side, ink)), alt=f"example {i + 1}: {true}, predicted {said}"
    )
    image.set("class", "ink" if ink else "photo")
    words = [element("b", f"true {true}"), element("br"), element("b", f"predicted {said}", class_=kind)]
    return element("figure", image, element("figcaption", *words, *([element("br"), "".join(lines)] if lines else [])))


def _example_table(
    trained: Trained, found: Outcome, rows: Int[np.ndarray, " m"], rivals: Shaped[np.ndarray, "m ..."], against: str
) -> Element:
    """Examples as rows, with the features that the first layer weighs most."""
    labels, values = found.predictions
    leading = leading_inputs(trained.model, trained.setup.parts["train"], FEATURES)
    given = found.dataset.feature_names
    features = [given[j] if given else f"feature {j + 1}" for j in leading]
    word = "probability" if trained.setup.net.loss.logits else "score"
    columns = ["example", "true", "predicted"] + ([] if labels is None else [word, against]) + features
    shown = []
    for i, rival in zip(rows, rivals, strict=True):
        if labels is None:
            cells = [_number_text(found.dataset.y[i]), _number_text(values[i])]
        else:
            names, y = found.dataset.class_names, found.dataset.y[i]
            kind = "words right" if labels[i] == y else "words wrong"
            cells = [names[y], element("td", names[labels[i]], class_=kind)]
            cells += [f"{values[i, labels[i]]:.3f}", f"{values[i, rival]:.3f}"]
        shown.append([f"{i + 1}", *cells, *(f"{found.dataset.x[i, j]:.4g}" for j in leading)])
    some = len(leading) < found.dataset.x.shape[1]
    caption = "With the features that the first layer weighs most" if some else "With all features"
    caption += f"; examples are counted from 1 in the {found.part} part"
    return table(caption, columns, shown, words=() if labels is None else (1, 2))


def _number_text(numbers: Float[np.ndarray, " k"]) -> str:
    more = ", …" if len(numbers) > 3 else ""
    return ", ".join(f"{number:.4g}" for number in numbers[:3]) + more


def units_section(trained: Trained) -> Element | None:
    """The first layer's weights as pictures, where the inputs are pictures."""
    side = side_of(trained.setup.parts["train"])
    if side is None:
        return None
    w = np.asarray(trained.model.params[0].w, np.float64)
    norms = np.linalg.norm(w, axis=0)
    shown = np.sort(np.argsort(-norms, kind="stable")[:UNITS])
    limit = float(np.quantile(np.abs(w[:, shown]), FULL)) or 1.0
    tiles = [element("img", src=source(diverging(w[:, j], side, limit)), alt="", title=f"unit {j + 1}") for j in shown]
    which = f"the {UNITS} of {w.shape[1]} units with the largest weights" if w.shape[1] > UNITS else "all units"
    label = f"weights of {len(shown)} units as pictures of {side} by {side} pixels"
    scale = element("p", f"−{limit:.2g}", element("i"), f"+{limit:.2g}", class_="scale")
    note = paragraph(f"Weights of the first layer as pictures: {which}, on one scale.")
    return section(
        "units", "What the first layer looks for", note,
        element("div", *tiles, class_="units", role="img", aria_label=label), scale,
    )  # fmt: skip
