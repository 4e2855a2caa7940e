"""What a function gives for many rows, computed for some of them at a time, so that memory stays bounded."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")


def _split(rows: Any, chunk_size: int) -> tuple[Any, Any]:
    """The whole chunks, along a first axis of their own, and the rows left over; either may be None."""
    n = jax.tree.leaves(rows)[0].shape[0]
    whole = n - n % chunk_size
    chunks = jax.tree.map(lambda leaf: leaf[:whole].reshape(-1, chunk_size, *leaf.shape[1:]), rows)
    rest = jax.tree.map(lambda leaf: leaf[whole:], rows)
    return chunks if whole else None, rest if whole < n else None


def in_chunks(fun: Callable[[T], Any], rows: T, chunk_size: int | None) -> Any:
    """What `fun` gives for each row of a tree, for `chunk_size` rows at a time, one chunk after the other."""
    if chunk_size is None or chunk_size >= jax.tree.leaves(rows)[0].shape[0]:
        return fun(rows)
    chunks, rest = _split(rows, chunk_size)
    done = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.lax.map(fun, chunks))
    if rest is None:
        return done
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, fun(rest))


def summed_in_chunks(fun: Callable[[T], Any], rows: T, chunk_size: int | None) -> Any:
    """What `fun`, which adds up over the rows of a tree, gives for all of them, for `chunk_size` rows at a time."""
    if chunk_size is None or chunk_size >= jax.tree.leaves(rows)[0].shape[0]:
        return fun(rows)
    chunks, rest = _split(rows, chunk_size)
    first = jax.tree.map(lambda leaf: leaf[0], chunks) if rest is None else rest
    if rest is None:
        chunks = jax.tree.map(lambda leaf: leaf[1:], chunks)
    return jax.lax.scan(lambda total, chunk: (jax.tree.map(jnp.add, total, fun(chunk)), None), fun(first), chunks)[0]


def largest_chunk(wanted: int, rows: int, each: int) -> int:
    """So many of `wanted` things, of `each` rows, that together they have at most `rows`; at least 1."""
    return min(wanted, max(1, rows // max(each, 1)))
