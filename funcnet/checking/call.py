"""A call taken apart: which of its leaves are arrays, which are differentiated in, what a gradient looks like."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


class Call(NamedTuple):
    """The arguments of a call, leaf by leaf.

    Attributes:
        structure: The structure of (args, kwargs).
        leaves: Their leaves; arrays in the dtype that JAX gives them.
        arrays: The positions of the arrays among the leaves. All else (numbers, text, functions) stays as it is.
        wrt: The positions of the real floating-point arrays that are differentiated in.
        paths: What each of these is called.
        like: The differentiated argument, or the tuple of them: what a gradient must look like.
        kept: For each leaf of `like`, whether it is differentiated in.
    """

    structure: Any
    leaves: tuple[Any, ...]
    arrays: tuple[int, ...]
    wrt: tuple[int, ...]
    paths: tuple[str, ...]
    like: Any
    kept: tuple[bool, ...]

    def values(self) -> list[Any]:
        """The arrays of the call."""
        return [self.leaves[i] for i in self.arrays]

    def targets(self) -> tuple[int, ...]:
        """Where the arrays differentiated in stand among `values()`."""
        return tuple(self.arrays.index(i) for i in self.wrt)

    def bind(self, fun: Callable[..., Any]) -> Callable[[Sequence[Any]], Any]:
        """`fun` as a function of the list of arrays alone."""

        def bound(values: Sequence[Any]) -> Any:
            leaves = list(self.leaves)
            for position, value in zip(self.arrays, values, strict=True):
                leaves[position] = value
            args, kwargs = jax.tree.unflatten(self.structure, leaves)
            return fun(*args, **kwargs)

        return bound


def is_float(leaf: Any) -> bool:
    """Whether a leaf is a real floating-point array."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) or (isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind not in "OSU")


def widen(values: Sequence[Any]) -> list[Any]:
    """The arrays with those of floating point in float64."""
    return [np.asarray(v).astype(np.float64) if is_float(v) else v for v in values]


def _positions(argnums: int | tuple[int, ...], count: int) -> tuple[int, ...]:
    chosen = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in chosen:
        if not isinstance(i, int) or not -count <= i < count:
            raise ValueError(f"argnums must name positional arguments, of which there are {count}; got {argnums!r}")
    if not chosen or len({i % count for i in chosen}) < len(chosen):
        raise ValueError(f"argnums must name each argument once, and at least one; got {argnums!r}")
    return tuple(i % count for i in chosen)


def _as_array(leaf: Any) -> Any:
    """A leaf as JAX sees it: a Python float that is differentiated in is an array as well."""
    return jnp.asarray(leaf) if _is_array(leaf) or isinstance(leaf, float) else leaf


def take_apart(args: tuple[Any, ...], kwargs: dict[str, Any], argnums: int | tuple[int, ...]) -> Call:
    """Take a call apart.

    Raises:
        TypeError: If an argument is traced or complex, or one that is to be differentiated in holds no real
            floating-point array.
        ValueError: If argnums names no argument, or an argument holds NaN.
    """
    if not args:
        raise TypeError("args must hold the arguments of fun; got none")
    positions = _positions(argnums, len(args))
    args = tuple(jax.tree.map(_as_array, a) if i in positions else a for i, a in enumerate(args))
    paths, structure = jax.tree_util.tree_flatten_with_path((args, kwargs))
    leaves = tuple(jnp.asarray(leaf) if _is_array(leaf) else leaf for _, leaf in paths)
    for (path, _), leaf in zip(paths, leaves, strict=True):
        if isinstance(leaf, Tracer):
            raise TypeError(f"{_name(path)} is being traced; call the checker outside jax.jit, jax.vmap and jax.grad")
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise TypeError(f"{_name(path)} must be real; got {leaf.dtype}")
        if is_float(leaf) and bool(jnp.any(jnp.isnan(leaf))):
            raise ValueError(f"{_name(path)} must not hold NaN: there is no gradient to check")
    wrt, names, kept = [], [], []
    for i in positions:
        own = [k for k, (path, _) in enumerate(paths) if path[0].idx == 0 and path[1].idx == i]
        floats = [k for k in own if is_float(leaves[k])]
        if not floats:
            raise TypeError(f"argument {i} holds no floating-point array to differentiate in; got {args[i]!r}")
        wrt += floats
        kept += [k in floats for k in own]
        prefix = "" if isinstance(argnums, int) else f"args[{i}]"
        names += [(prefix + jax.tree_util.keystr(paths[k][0][2:])) or "gradient" for k in floats]
    like = args[positions[0]] if isinstance(argnums, int) else tuple(args[i] for i in positions)
    arrays = tuple(k for k, leaf in enumerate(leaves) if _is_array(leaf))
    return Call(structure, leaves, arrays, tuple(wrt), tuple(names), like, tuple(kept))


def _name(path: Any) -> str:
    """How an argument is written: `args[1]['w']` or `key`."""
    inner = jax.tree_util.keystr(path[1:])
    return f"args{inner}" if path[0].idx == 0 else inner.strip("[]'")
