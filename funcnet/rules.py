"""Activations and losses are rules made of functions: how such rules are compared and checked."""

import inspect
from collections.abc import Hashable
from functools import partial
from typing import Any


class _Itself:
    """What can only be told apart by being the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def fingerprint(value: Any) -> Hashable:
    """What tells two functions apart: their code, and the values they close over or are bound to.

    Closures made by the same line over equal values are equal, so a rule rebuilt with the same constants compiles once;
    a rule whose formula or constant was changed does not pass for the old one. (Global variables are not followed.)
    """
    if isinstance(value, partial):
        keywords = tuple((name, fingerprint(v)) for name, v in sorted(value.keywords.items()))
        return (fingerprint(value.func), tuple(fingerprint(v) for v in value.args), keywords)
    if callable(value):
        function = inspect.unwrap(value)
        if not inspect.isfunction(function):
            return _Itself(function)
        bound = [cell.cell_contents for cell in function.__closure__ or ()]
        bound += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        return (function.__code__, *(fingerprint(v) for v in bound))
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return (type(value).__name__ if isinstance(value, bool) else "", value)
    return _Itself(value)


def check_functions(rule: str, functions: dict[str, Any]) -> None:
    """Refuse what is no function.

    Raises:
        TypeError: If one is not callable; the message names it.
    """
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"{name} of {rule!r} must be a function; got {function!r}")


def check_shape(what: str, array: Any, expected: tuple[int, ...]) -> None:
    """Refuse what a user's own activation or loss gave if it is not of the shape that its contract says.

    Raises:
        ValueError: If the shape is another.
    """
    if array.shape != expected:
        raise ValueError(f"{what} must have shape {expected}; got {array.shape}")
