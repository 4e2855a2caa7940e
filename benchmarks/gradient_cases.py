"""What the two catalogues of gradients share: the case, families of cases over dtypes and scales, and their data."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

HALF = ("float16", "bfloat16")
WIDE = ("float32", "float64")
ALL = (*HALF, *WIDE)
FLOAT16_SCALES = (1e-3, 1e3)


class Case(NamedTuple):
    """A function with a gradient of it, right or wrong.

    Attributes:
        name: Unique; says what it is.
        fun: A scalar function; for a backward rule any function, or the `jax.custom_vjp` function.
        grad_fun: Gives the gradient, or (value, gradient); None for a backward rule.
        args: Arrays in the dtype under test; keys and integers as they come.
        argnums: What is differentiated in.
        rule: A backward rule: (fwd, bwd), or the `jax.custom_vjp` function itself, which then is `fun` too.
        kind: The diagnosis expected; None where there is none beyond "wrong", and for correct gradients.
    """

    name: str
    fun: Callable[..., Any]
    grad_fun: Callable[..., Any] | None
    args: tuple[Any, ...]
    argnums: int | tuple[int, ...] = 0
    rule: Any = None
    kind: str | None = None


class Pair(NamedTuple):
    """A scalar function and its gradient by hand."""

    fun: Callable[..., Any]
    grad: Callable[..., Any]


class Family(NamedTuple):
    """One function and its gradient, over dtypes and scales.

    Attributes:
        name: What it is.
        fun: As in `Case`.
        grad_fun: As in `Case`.
        args: The arguments of a dtype and a scale.
        argnums: As in `Case`.
        dtypes: The dtypes to build.
        scales: The scales to build; float16 takes those from 1e-3 to 1e3.
        rule: As in `Case`.
        slow: Whether its arrays are large or its program is long.
    """

    name: str
    fun: Callable[..., Any]
    grad_fun: Callable[..., Any] | None
    args: Callable[[str, float], tuple[Any, ...]]
    argnums: int | tuple[int, ...] = 0
    dtypes: tuple[str, ...] = ALL
    scales: tuple[float, ...] = (1.0,)
    rule: Any = None
    slow: bool = False


def has_float64() -> bool:
    """Whether JAX is configured with x64."""
    return jnp.result_type(float) == "float64"


def available(dtypes: Iterable[str]) -> tuple[str, ...]:
    """The dtypes that JAX has as it is configured: float64 needs x64."""
    return tuple(dtype for dtype in dtypes if dtype != "float64" or has_float64())


def _scales(family: Family, dtype: str, turn: int, every: bool) -> tuple[float, ...]:
    """The scales of a family in a dtype: every one, or one in turn; float16 leaves out what it cannot hold."""
    low, high = FLOAT16_SCALES if dtype == "float16" else (0.0, float("inf"))
    scales = tuple(scale for scale in family.scales if low <= scale <= high)
    return scales if every or not scales else (scales[turn % len(scales)],)


def expand(families: Iterable[Family], slow: bool = True) -> list[Case]:
    """The cases of families; without `slow` those that are quick, with one scale for each dtype, in turn."""
    cases = []
    for number, family in enumerate(families):
        if family.slow and not slow:
            continue
        for turn, dtype in enumerate(available(family.dtypes)):
            for scale in _scales(family, dtype, number + turn, slow):
                suffix = f", scale {scale:g}" if len(family.scales) > 1 else ""
                args = family.args(dtype, scale)
                name = f"{family.name}, {dtype}{suffix}"
                cases.append(Case(name, family.fun, family.grad_fun, args, family.argnums, family.rule))
    return cases


def normal(seed: int, shape: tuple[int, ...], dtype: str = "float32", scale: float = 1.0) -> jax.Array:
    """Normal random numbers, the same for every dtype but for rounding."""
    return jnp.asarray(scale * np.random.default_rng(seed).normal(0, 1, shape), dtype)


def uniform(seed: int, shape: tuple[int, ...], dtype: str, low: float, high: float) -> jax.Array:
    """Uniform random numbers, the same for every dtype but for rounding."""
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, shape), dtype)


def integers(seed: int, high: int, shape: tuple[int, ...]) -> jax.Array:
    """Random integers from 0 to high − 1."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, high, shape), "int32")


def positive_definite(seed: int, size: int, dtype: str = "float32", scale: float = 1.0) -> jax.Array:
    """A well-conditioned symmetric positive definite matrix."""
    a = np.random.default_rng(seed).normal(0, 1, (size, size))
    return jnp.asarray(scale * (a @ a.T / size + np.eye(size)), dtype)


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a real floating-point array."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def is_half(leaf: Any) -> bool:
    """Whether a leaf is an array in half precision."""
    return is_float(leaf) and jnp.finfo(leaf.dtype).bits < 32


def in_float32(fun: Callable[..., Any]) -> Callable[..., Any]:
    """`fun` computed in float32 where its arguments are in half precision; its results are rounded once."""

    def run(*args: Any) -> Any:
        half = [leaf.dtype for leaf in jax.tree.leaves(args) if is_half(leaf)]
        if not half:
            return fun(*args)
        lifted = jax.tree.map(lambda leaf: leaf.astype("float32") if is_half(leaf) else leaf, args)
        return jax.tree.map(lambda leaf: leaf.astype(half[0]), fun(*lifted))

    return run


def with_value(fun: Callable[..., Any], grad: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient in the style of `jax.value_and_grad`."""
    return lambda *args: (fun(*args), grad(*args))


def edited(grad: Callable[..., Any], edit: Callable[..., Any]) -> Callable[..., Any]:
    """A gradient after `edit(gradient, *args)`."""
    return lambda *args: edit(grad(*args), *args)


def scaled(factor: float) -> Callable[..., Any]:
    """An edit that multiplies every leaf by a factor."""
    return lambda grads, *args: jax.tree.map(lambda g: factor * g, grads)
