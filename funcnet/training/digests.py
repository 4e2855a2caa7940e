"""Digests of data, by which a run that goes on knows that it is what it was."""

import hashlib
import math
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
    starts, (count, own) = range(0, x.shape[0], at_once), (jax.process_count(), jax.process_index())
    found = np.zeros((len(starts), hashlib.sha256().digest_size), np.uint8)
    for i in range(own, len(starts), count):
        some = np.ascontiguousarray(x[starts[i] : starts[i] + at_once])
        found[i] = np.frombuffer(hashlib.sha256(some.view(np.uint8).data).digest(), np.uint8)
    if count > 1:
        from jax.experimental import multihost_utils

        found = np.bitwise_or.reduce(np.reshape(multihost_utils.process_allgather(found), (count, *found.shape)))
    return digest(np.array(x.shape), found, y)
