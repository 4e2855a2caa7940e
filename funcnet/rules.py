"""Activations and losses are rules made of functions: how such rules are compared and checked."""

import inspect
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from types import CellType
from typing import Any


@dataclass(frozen=True, eq=False)
class _Itself:
    """What can only be told apart by being the same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _content(cell: CellType) -> Any:
    """What a closure's cell holds; one may still be empty while the function around it runs."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def fingerprint(value: Any, within: tuple[Any, ...] = ()) -> Hashable:
    """What tells two functions apart: their code, and the values they close over or are bound to.

    Closures made by the same line over equal values are equal, so a rule rebuilt with the same constants compiles once;
    a rule whose formula or constant was changed does not pass for the old one. (Global variables are not followed.)

    Args:
        value: A function, or a value that one is bound to.
        within: The functions whose values are being looked at, so that one which closes over itself comes to an end.
    """
    if isinstance(value, partial):
        keywords = tuple((name, fingerprint(v, within)) for name, v in sorted(value.keywords.items()))
        return (fingerprint(value.func, within), tuple(fingerprint(v, within) for v in value.args), keywords)
    if isinstance(value, bool | int | float | complex | str | bytes | None):
        return (type(value), value)
    function = inspect.unwrap(value) if callable(value) else value
    if not inspect.isfunction(function):
        return _Itself(function)
    if any(function is outer for outer in within):
        return "itself"
    bound = [_content(cell) for cell in function.__closure__ or ()]
    bound += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return (function.__code__, *(fingerprint(v, (*within, function)) for v in bound))


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
