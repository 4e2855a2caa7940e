"""The order in which an epoch sees the examples: shuffled within blocks, so that devices need not exchange any.

The examples are cut into blocks of consecutive rows. Each block is shuffled by itself, and each step takes as many rows
of each. How many blocks there are depends on neither devices nor processes, and so the order does not: a device that
holds whole blocks holds all it needs for its share of every step.

Where examples are streamed, each block is cut into windows of consecutive rows. The windows of each block come in an
order of their own, and a part of the epoch is one window of each block, shuffled within the windows.
"""

import math
from typing import NamedTuple

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


def new_order(key: KeyArray, n: int, batch_size: int, blocks: int | None = None) -> Int[np.ndarray, "steps batch"]:
    """The numbers 0 … n − 1 in a new order for each key, one row for each step, filled up with −1.

    Each step takes as many of each of the blocks, by default `count_blocks(n, batch_size)`. The order is drawn on the
    host, by a generator seeded by the key: sorting random numbers, as `jax.random.permutation` does, takes ten times as
    long, and a second to compile.
    """
    generator = np.random.default_rng(_words(key))
    blocks = count_blocks(n, batch_size) if blocks is None else blocks
    steps, share = -(-n // batch_size), batch_size // blocks
    rows = np.full((blocks, steps * share), -1, np.int32)
    starts = block_starts(n, blocks)
    for row, start, stop in zip(rows, starts[:-1], starts[1:], strict=True):
        row[: stop - start] = start + generator.permutation(stop - start)
    return np.ascontiguousarray(rows.reshape(blocks, steps, share).swapaxes(0, 1)).reshape(steps, batch_size)


def _words(key: KeyArray) -> np.ndarray:
    """The numbers that a key is made of."""
    return np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)


class Part(NamedTuple):
    """A part of a streamed epoch: one window of consecutive rows of each block.

    Attributes:
        n: How many rows there are altogether; `block_starts(n, blocks)` tells those of each window.
        starts: The first row of each window.
    """

    n: int
    starts: Int[np.ndarray, " blocks"]


def window_rows(n: int, batch_size: int, at_once: int) -> int:
    """The rows of a window, so that there are about `at_once` in all windows of a part: as many as whole steps take."""
    share = batch_size // count_blocks(n, batch_size)
    return max(at_once // batch_size, 1) * share


def count_parts(n: int, batch_size: int, at_once: int) -> int:
    """The parts of an epoch of n rows, of which `at_once` fit into memory."""
    blocks, rows = count_blocks(n, batch_size), window_rows(n, batch_size, at_once)
    whole = n // blocks // rows
    return whole + (n > whole * rows * blocks)


def new_parts(key: KeyArray, n: int, batch_size: int, at_once: int) -> list[Part]:
    """The parts of an epoch in a new order for each key; what does not fill windows comes last.

    It comes from another place in each block, so that the borders of windows are others in each epoch. Epochs of a
    single part are those of data in memory.

    >>> import jax
    >>> for part in new_parts(jax.random.key(0), 40, 4, at_once=16):
    ...     print(part.n, part.starts)
    16 [ 2 16 20 30]
    16 [ 6 10 26 36]
    8 [ 0 14 24 34]
    """
    blocks, rows = count_blocks(n, batch_size), window_rows(n, batch_size, at_once)
    edges = block_starts(n, blocks)
    whole = n // blocks // rows
    rest = np.diff(edges) - whole * rows
    generator = np.random.default_rng([*_words(key), whole])
    starts = np.empty((blocks, whole + 1), int)
    for block in range(blocks):
        place, order = generator.integers(whole + 1), generator.permutation(whole)
        starts[block, :-1] = edges[block] + rows * order + rest[block] * (order >= place)
        starts[block, -1] = edges[block] + rows * place
    parts = [Part(rows * blocks, starts[:, i]) for i in range(whole)]
    return parts + [Part(int(rest.sum()), starts[:, -1])] * bool(rest.any())
