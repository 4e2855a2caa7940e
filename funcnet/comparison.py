"""How rules made of functions are compared: by the code of the functions, so that equal rules compile once."""

import inspect
from typing import Any


def code_of(function: Any) -> Any:
    """What tells two functions apart: the code of a Python function, else the object itself.

    Closures made by the same line share their code, so a rule rebuilt with the same constants equals itself and
    compiles once; a rule whose formula was edited does not pass for the old one.
    """
    function = inspect.unwrap(getattr(function, "func", function))  # the function of a functools.partial
    return getattr(function, "__code__", function)
