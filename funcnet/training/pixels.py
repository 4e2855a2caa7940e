"""Bytes in the place of floats: features that are k/255 for k = 0 … 255 are kept in a quarter of the memory, exactly.

A step gathers its batch from all examples, and what it gathers is bound by memory: a byte is read four times as fast.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

SIZE = 2**20
"""Fewer numbers than this fit into caches as they are."""
BLOCK = 2**18
"""So many numbers are tried at once, so that they stay in a cache and the first others are found early."""
ALIGNMENT = 64
"""Bytes at a multiple of which XLA wants arrays to begin."""
HIGH = np.float32(round(2**23 / 255) / 2**23)
"""1/255 in 16 bits, so that k · HIGH is exact; the rest of it is LOW."""
LOW = np.float32(1 / 255 - float(HIGH))


def on_device(array: np.ndarray) -> Array:
    """A copy on the device; `jnp.asarray` would compile a program for each shape first."""
    return jax.device_put(array, may_alias=False)


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Room for an array where a CPU takes it as it is, `jax.device_put(…, may_alias=True)`, without a copy.

    A copy takes four times as long as reading the same from a file that the system has in memory.
    """
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def from_bytes(k: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """k/255 in float32, rounded as by a division: k · HIGH + k · LOW.

    A division by the constant itself is compiled as a product with its rounded inverse, which is off in the last place
    for many k.
    """
    numbers = k.astype(jnp.float32)
    return numbers * HIGH + numbers * LOW


def in_bytes(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"] | UInt8[np.ndarray, "n d"]:
    """The bytes from which `from_bytes` gives every number of x back, bit for bit; x itself where there are none."""
    if x.dtype != np.float32 or x.size < SIZE:
        return x
    k = np.empty(x.shape, np.uint8)
    rows = max(1, BLOCK // x.shape[1])
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        k[start : start + rows] = np.rint(np.clip(block, 0, 1) * 255)
        if not np.array_equal(k[start : start + rows] / np.float32(255), block):
            return x
    return k
