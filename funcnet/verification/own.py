"""A function and gradient of the user's own, found by name in a file or a module."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

from funcnet.checking import GradientReport, check_gradient, check_vjp


class Own(NamedTuple):
    """What to check.

    Attributes:
        name: The name of the function.
        fun: The function.
        gradient: Its gradient; None where it brings its own backward rule.
        args: The arguments to check at.
        argnums: Which of them the gradient is in.
    """

    name: str
    fun: Any
    gradient: Any
    args: tuple[Any, ...]
    argnums: tuple[int, ...] | int

    def check(self) -> GradientReport:
        """Check it."""
        if self.gradient is None:
            return check_vjp(self.fun, *self.args, raises=False)
        return check_gradient(self.fun, self.gradient, *self.args, argnums=self.argnums, raises=False)


def _module(name: str) -> ModuleType:
    """A module by its path, or by its name from the folder one is in."""
    path = Path(name)
    if path.suffix != ".py":
        sys.path.insert(0, str(Path.cwd()))
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name.split(".", maxsplit=1)[0]:
                raise
            raise ValueError(f"--function must name a module or a file ending in .py; there is no {name!r}") from None
        finally:
            sys.path.pop(0)
    if not path.is_file():
        raise ValueError(f"--function must name a module or a file ending in .py; there is no {name!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--function: {name!r} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def own_case(
    function: str, gradient: str | None = None, args: str | None = None, argnums: tuple[int, ...] = (0,)
) -> Own:
    """Find a function, its gradient and arguments for it.

    Args:
        function: `module:name`, with a module as it is imported, or a path ending in .py.
        gradient: The name of its gradient there; by default `name_grad`, `grad_name` or `dname`. A `jax.custom_vjp` or
            `jax.custom_jvp` function needs none.
        args: The name of a tuple of arguments, or of a function without arguments that returns one; by default
            `name_args`.
        argnums: Which arguments the gradient is in.

    Raises:
        ValueError: If something is not there; the message says what it should be called.
    """
    file, _, name = function.rpartition(":")
    if not file or not name:
        raise ValueError(f"--function must be module:name, such as mine.py:loss; got {function!r}")
    module = _module(file)
    fun = _named(module, "--function", [name])
    if not callable(fun):
        raise ValueError(f"--function must name a function; {name} is {fun!r}")
    has_rule = isinstance(fun, jax.custom_vjp | jax.custom_jvp) and gradient is None
    names = [gradient] if gradient else [f"{name}_grad", f"grad_{name}", f"d{name}"]
    own_gradient = None if has_rule else _named(module, "--gradient", names)
    given = _named(module, "--args", [args or f"{name}_args"])
    given = given() if callable(given) else given
    if not isinstance(given, tuple | list):
        raise ValueError(f"--args must name a tuple of arguments, or a function that returns one; got {given!r}")
    return Own(name, fun, own_gradient, tuple(given), argnums[0] if len(argnums) == 1 else argnums)


def _named(module: ModuleType, option: str, names: list[str]) -> Any:
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    where = getattr(module, "__file__", module.__name__)
    raise ValueError(f"{option}: {where} has no {' or '.join(names)}")
