"""What a gradient function gave, read against what it should look like."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.checking.call import Call
from funcnet.checking.report import Diagnosis


class Answer(NamedTuple):
    """The result of a gradient function.

    Attributes:
        value: The value of the function, if it came with the gradient.
        leaves: The leaves that are differentiated in; empty where the structure is wrong.
        problem: What is wrong with the structure.
    """

    value: Any
    leaves: tuple[Any, ...]
    problem: Diagnosis | None


def read(call: Call, result: Any) -> Answer:
    """Take the result of a gradient function apart: a gradient, or (value, gradient).

    At the places of integer leaves it may hold anything, or None.
    """
    full = jax.tree.structure(call.like)
    leaves = jax.tree.leaves(call.like)
    bare = jax.tree.structure(
        jax.tree.unflatten(full, [leaf if kept else None for leaf, kept in zip(leaves, call.kept, strict=True)])
    )
    value, gradient = None, result
    if jax.tree.structure(result) not in (full, bare) and isinstance(result, tuple | list) and len(result) == 2:
        first = jax.tree.leaves(result[0])
        if len(first) == 1 and np.ndim(first[0]) == 0:
            value, gradient = first[0], result[1]
    structure = jax.tree.structure(gradient)
    if structure == full:
        pairs = zip(jax.tree.leaves(gradient), call.kept, strict=True)
        return Answer(value, tuple(leaf for leaf, kept in pairs if kept), None)
    if structure == bare:
        return Answer(value, tuple(jax.tree.leaves(gradient)), None)
    expected = f"must have the structure of the argument, {full}"
    if isinstance(call.like, tuple) and not hasattr(call.like, "_fields"):
        expected = f"must be a tuple of {len(call.like)}, one gradient for each argument: {full}"
    text = f"{expected}; got {structure}"
    return Answer(value, (), Diagnosis("structure", call.paths, text))


def as_jax_sees(answer: Answer) -> Answer:
    """The answer with NumPy's float64 as JAX would take it: float32 without x64."""
    leaves = tuple(jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in answer.leaves)
    return answer._replace(leaves=leaves)


def dtype_of(leaf: Any) -> Any:
    """The dtype of a leaf; a Python float has the dtype that JAX gives it."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def misfits(call: Call, answer: Answer) -> dict[str, Diagnosis]:
    """Shapes and dtypes that are not those of the argument, by leaf."""
    found = {}
    for path, position, leaf in zip(call.paths, call.wrt, answer.leaves, strict=True):
        model = call.leaves[position]
        if np.shape(leaf) != model.shape:
            text = f"must have shape {model.shape}; got {np.shape(leaf)}"
            found[path] = Diagnosis("shape", (path,), text)
        elif dtype_of(leaf) != model.dtype:
            text = f"must have dtype {model.dtype}; got {dtype_of(leaf)}"
            found[path] = Diagnosis("dtype", (path,), text)
    return found
