"""The order in which an epoch sees the examples: shuffled within blocks, so that devices need not exchange any.

The examples are cut into blocks of consecutive rows. Each block is shuffled by itself, and each step takes as many rows
of each. How many blocks there are depends on neither devices nor processes, and so the order does not: a device that
holds whole blocks holds all it needs for its share of every step.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from funcnet.types import KeyArray

BLOCKS = 8
MORE_BLOCKS = 32
MANY = 2**14
"""From so many examples on there are more blocks."""
FEWEST_STEPS = 8
"""With fewer steps an epoch is shuffled as a whole: most rows of a small block would always share a step."""


def count_blocks(n: int, batch_size: int) -> int:
    """The blocks that n examples are shuffled in: a divisor of the batch size.

    >>> [count_blocks(n, batch_size) for n, batch_size in ((60_000, 128), (1000, 32), (1000, 10), (100, 32))]
    [32, 8, 2, 1]
    """
    if n < FEWEST_STEPS * batch_size:
        return 1
    return math.gcd(batch_size, MORE_BLOCKS if n >= MANY else BLOCKS)


def block_starts(n: int, blocks: int) -> Int[np.ndarray, " more"]:
    """Where each block of n rows begins, and where the last one ends; their sizes differ by 1 at most.

    >>> block_starts(10, 4).tolist()
    [0, 3, 6, 8, 10]
    """
    sizes = n // blocks + (np.arange(blocks) < n % blocks)
    return np.concatenate([[0], np.cumsum(sizes)])


def new_order(key: KeyArray, n: int, batch_size: int) -> Int[np.ndarray, "steps batch"]:
    """The numbers 0 … n − 1 in a new order for each key, one row for each step, filled up with −1.

    Each step takes as many of each of the `count_blocks(n, batch_size)` blocks. The order is drawn on the host, by a
    generator seeded by the key: sorting random numbers, as `jax.random.permutation` does, takes ten times as long, and
    a second to compile.
    """
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    generator = np.random.default_rng(np.asarray(words))
    blocks, steps = count_blocks(n, batch_size), -(-n // batch_size)
    share = batch_size // blocks
    rows = np.full((blocks, steps * share), -1, np.int32)
    starts = block_starts(n, blocks)
    for row, start, stop in zip(rows, starts[:-1], starts[1:], strict=True):
        row[: stop - start] = start + generator.permutation(stop - start)
    return np.ascontiguousarray(rows.reshape(blocks, steps, share).swapaxes(0, 1)).reshape(steps, batch_size)
