"""The checks that between them hold every pair: of closed forms, activations, losses, dtypes and options."""

from typing import NamedTuple

import jax.numpy as jnp

from funcnet import activations, losses
from funcnet.checking import GradientReport
from funcnet.verification.forms import FORMS
from funcnet.verification.pairs import Row, covering
from funcnet.verification.problems import OPTIONS, Setting


class Choice(NamedTuple):
    """One check: a closed form with a setting."""

    form: str
    setting: Setting


def dtypes() -> tuple[str, ...]:
    """The dtypes that JAX has as it is configured: float64 needs x64."""
    narrow = ("float16", "bfloat16", "float32")
    return (*narrow, "float64") if jnp.asarray(1.0).dtype == "float64" else narrow


def _possible(row: Row) -> bool:
    """Cross-entropies take logits, and so no output activation."""
    return row.get("option") != "output activation" or "loss" not in row or not losses.by_name(row["loss"]).logits


def catalogue() -> list[Choice]:
    """All checks. Forms that the same factors concern share one covering, so that the forms are one of its factors."""
    values = {
        "activation": tuple(activations.ACTIVATIONS),
        "loss": tuple(losses.LOSSES),
        "dtype": dtypes(),
        "option": OPTIONS,
    }
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, form in FORMS.items():
        groups.setdefault(form.factors, []).append(name)
    choices = []
    for factors, forms in groups.items():
        rows = covering({"form": forms, **{factor: values[factor] for factor in factors}}, _possible)
        for row in sorted(rows, key=lambda row: forms.index(row["form"])):
            settings = {factor: row[factor] for factor in factors}
            choices.append(Choice(row["form"], Setting(**settings, turn=len(choices))))
    return choices


def check(choice: Choice) -> GradientReport:
    """Run one check."""
    return FORMS[choice.form].check(choice.setting)
