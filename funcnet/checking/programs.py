"""A function made ready to run, in float64 or in its own dtype: traced once, its roundings counted, compiled."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.checking.rounding import draws, rounding_variances

MATMUL_PRECISION = "highest"


@contextmanager
def arithmetic(*, wide: bool) -> Iterator[None]:
    """The configuration a check runs under, for float64 if `wide`: matrix products at full precision, NaN allowed."""
    with ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision(MATMUL_PRECISION))
        stack.enter_context(jax.debug_nans(False))
        if wide:
            stack.enter_context(jax.enable_x64(True))
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


class Program(NamedTuple):
    """A function of a list of arrays (and maybe more), ready to run.

    Attributes:
        run: Runs it under the configuration it was made for; NumPy arrays come back.
        roundings: In place of each leaf of the result, the sum of eps² over the roundings on the longest path to it.
        draws: The random bits it draws; None if unknown.
        untraced: Why JAX cannot trace it, if so; it is then run as it stands.
    """

    run: Callable[..., Any]
    roundings: Any | None
    draws: list[Any] | None
    untraced: str | None


def as_numpy(tree: Any) -> Any:
    """A tree with its arrays in NumPy; what is no array stays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, tree)


def eager(fun: Callable[..., Any], *, wide: bool) -> Callable[..., Any]:
    """The function as it stands, run operation by operation."""

    def run(*args: Any) -> Any:
        with arithmetic(wide=wide):
            return as_numpy(fun(*args))

    return run


def prepare(fun: Callable[..., Any], *args: Any, wide: bool) -> Program:
    """Trace and compile a function for arguments like these; where that fails it is run as it stands.

    In float64 it is compiled without expensive optimizations, since it runs seldom.
    """
    options: dict[str, Any] | None = {"xla_backend_optimization_level": 0} if wide else None
    with arithmetic(wide=wide):
        try:
            traced = jax.jit(fun).trace(*args)
            compiled = traced.lower().compile(compiler_options=options)
        except Exception as error:  # whatever a user's function may raise when it is traced
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            return Program(eager(fun, wide=wide), None, None, reason)

    def run(*args: Any) -> Any:
        with arithmetic(wide=wide):
            return as_numpy(compiled(*args))

    return Program(run, _roundings(traced), draws(traced.jaxpr.jaxpr), None)


def _roundings(traced: Any) -> Any:
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), rounding_variances(traced.jaxpr))


def roundings_of(fun: Callable[..., Any], *args: Any, wide: bool) -> Any:
    """The roundings of a function as in `Program`, without compiling it; None if it cannot be traced."""
    with arithmetic(wide=wide):
        try:
            return _roundings(jax.jit(fun).trace(*args))
        except Exception:  # whatever a user's function may raise when it is traced
            return None
