"""funcnet put through its own checker: every closed form with every loss, every activation and every dtype."""

from funcnet.verification.catalogue import Choice, catalogue, check
from funcnet.verification.forms import FORMS, Form
from funcnet.verification.own import Own, own_case

__all__ = ["FORMS", "Choice", "Form", "Own", "catalogue", "check", "own_case"]
