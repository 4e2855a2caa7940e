"""Passes over data in padded sizes, so that other numbers of rows and of batches compile nothing anew."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from funcnet.gradients import apply
from funcnet.network import MLP
from funcnet.training.epoch import State, step
from funcnet.training.metrics import Task
from funcnet.training.objective import Examples, Objective
from funcnet.training.programs import compiled
from funcnet.types import Params

BLOCK = 4096
"""Rows of one prediction; fewer are padded to a power of 2."""
FEWEST = 16


TOGETHER = 32
"""Batches of one call, which of small data take no longer than calling."""


class Orders(NamedTuple):
    """Which rows each batch of some passes sees, in arrays that are as large as those of similar data.

    Attributes:
        rows: The numbers of the rows, batch by batch; behind the last there is filling.
        count: How many rows there are.
        batches: How many batches they make.
        passes: How many passes are to be run.
    """

    rows: Int[np.ndarray, "passes batches batch"]
    count: int
    batches: int
    passes: int


def capacity(n: int) -> int:
    """The next size that is compiled for: at most an eighth larger, and one of eight between a power of 2 and the next.

    >>> [capacity(n) for n in (1, 15, 142, 143, 1437)]
    [1, 15, 144, 144, 1536]
    """
    grain = 1 << max(0, n.bit_length() - 4)
    return -(-n // grain) * grain


def at_once(n: int, batch_size: int) -> int:
    """How many passes to run in one call."""
    return max(1, TOGETHER // capacity(-(-n // batch_size)))


def orders(numbers: Sequence[Int[np.ndarray, " n"]], batch_size: int, passes: int) -> Orders:
    """Passes over rows of these numbers, filled up to so many."""
    n = len(numbers[0])
    batches = -(-n // batch_size)
    rows = np.zeros((passes, capacity(batches), capacity(n) if batches == 1 else batch_size), np.int32)
    rows.reshape(passes, -1)[: len(numbers), :n] = numbers
    return Orders(rows, n, batches, len(numbers))


def padded(x: Any, y: Any, weights: Any) -> Examples:
    """Data on the device, with rows of weight 0 up to the next size that is compiled for."""
    extra = capacity(len(x)) - len(x)
    return Examples(*(jnp.asarray(np.pad(a, [(0, extra)] + [(0, 0)] * (a.ndim - 1))) for a in (x, y, weights)))


def averaged(net: MLP, weight: float | Float[Array, ""]) -> MLP:
    """The network with scikit-learn's penalty: ½ alpha ‖W‖² / Σ w, for which alpha stands in the place of l2."""
    alpha: Any = net.l2
    return replace(net, l2=alpha / weight)


def _run(
    net: MLP, optimizer: optax.GradientTransformation, plan: Orders, state: State, data: Examples, task: Task
) -> tuple[State, Float[Array, " passes"]]:
    """Some passes: the state behind them, and the mean loss of each, each batch's taken before its step."""
    rows = jnp.asarray(plan.rows)
    _, *shape = rows.shape
    present = (jnp.arange(shape[0] * shape[1], dtype=jnp.int32) < plan.count).reshape(shape)
    zero = jnp.zeros((), data.x.dtype)

    def pass_over(number: Int[Array, ""], carry: tuple[State, Array]) -> tuple[State, Array]:
        before, means = carry
        key, dropout_key = jax.random.split(before.key)

        def advance(i: Int[Array, ""], carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
            state, loss, weight = carry
            x, y, w = (array[rows[number, i]] for array in data)
            batch = Examples(x, y, jnp.where(present[i], w, 0))
            own_key = None if net.dropout is None else jax.random.fold_in(dropout_key, i)
            state, sums = step(averaged(net, jnp.sum(batch.weights)), optimizer, state, batch, own_key, task)
            return state, loss + sums.loss, weight + sums.weight

        after, loss, weight = jax.lax.fori_loop(0, plan.batches, advance, (before._replace(key=key), zero, zero))
        return after, means.at[number].set(loss / weight)

    return jax.lax.fori_loop(0, plan.passes, pass_over, (state, jnp.zeros(rows.shape[0], data.x.dtype)))


def run(
    net: MLP, optimizer: optax.GradientTransformation, plan: Orders, state: State, data: Examples, task: Task
) -> tuple[State, Float[np.ndarray, " passes"]]:
    """Some passes over the data, compiled once for all numbers of rows of the same capacity."""
    state, means = compiled(_run, net)(net, optimizer, plan, state, data, task)
    return state, np.asarray(means)[: plan.passes]


@jax.jit
def whole_value_and_grad(net: MLP, params: Params, data: Examples) -> tuple[Float[Array, ""], Params]:
    """The loss of all examples, with scikit-learn's penalty, and its gradient."""
    return Objective(averaged(net, jnp.sum(data.weights)), data, None).value_and_grad(params)


_apply = jax.jit(apply)


def outputs(net: MLP, params: Params, x: np.ndarray) -> np.ndarray:
    """The outputs for rows, in blocks of few different sizes."""
    blocks = []
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        rows = max(FEWEST, 1 << (len(block) - 1).bit_length())
        filled = np.pad(block, [(0, rows - len(block)), (0, 0)])
        blocks.append(np.asarray(_apply(net, params, filled))[: len(block)])
    return np.concatenate(blocks)


@jax.jit
def losses(net: MLP, out: Float[Array, "n k"], y: Any) -> Float[Array, " n"]:
    """The loss of each example, without penalty."""
    return net.loss.value(out, y)
