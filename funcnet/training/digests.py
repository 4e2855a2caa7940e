"""What is told of data by reading all of it: digests, by which a run that goes on knows that it is what it was."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from funcnet.types import AnyArray, Rows

AT_ONCE = 2**24
"""So many numbers of a stream are read at once."""


def digest(*arrays: Any) -> str:
    """A digest of arrays, their shapes and dtypes, that tells changed data."""
    total = hashlib.sha256()
    for array in map(np.asarray, arrays):
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return total.hexdigest()


def digest_of_rows(x: Rows, y: AnyArray) -> str:
    """A digest of features that are read some at a time, and of targets; of several processes each reads its share."""
    at_once = max(AT_ONCE // max(math.prod(x.shape[1:]), 1), 1)

    def own(i: int) -> np.ndarray:
        some = np.ascontiguousarray(x[i * at_once : (i + 1) * at_once])
        return np.frombuffer(hashlib.sha256(some.view(np.uint8).data).digest(), np.uint8)

    found = shared_out(-(-x.shape[0] // at_once), own, np.zeros(hashlib.sha256().digest_size, np.uint8))
    return digest(np.array(x.shape), found, y)


def shared_out(count: int, work: Callable[[int], np.ndarray], like: np.ndarray) -> np.ndarray:
    """The results of so many pieces of work, of which each process does its share.

    Args:
        count: How many there are.
        work: Does one of them.
        like: An array of the shape and dtype of a result.
    """
    found = np.zeros((count, *like.shape), like.dtype)
    for i in range(jax.process_index(), count, jax.process_count()):
        found[i] = work(i)
    if jax.process_count() == 1:
        return found
    from jax.experimental import multihost_utils

    content = found.reshape(-1).view(np.uint8)  # as numbers those of 64 bits would be rounded on their way
    gathered = np.asarray(multihost_utils.process_allgather(content)).reshape(jax.process_count(), -1)
    return np.bitwise_or.reduce(gathered).view(like.dtype).reshape(found.shape)
