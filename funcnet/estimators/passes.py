"""Passes over data in padded sizes, so that other numbers of rows and of batches compile nothing anew."""

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


class Order(NamedTuple):
    """Which rows each batch of a pass sees, in arrays that are as large as those of similar passes.

    Attributes:
        rows: The numbers of the rows, batch by batch; behind the last there is filling.
        count: How many rows there are.
        batches: How many batches they make.
    """

    rows: Int[np.ndarray, "batches batch"]
    count: int
    batches: int


def capacity(n: int) -> int:
    """The next size that is compiled for: at most an eighth larger, and one of eight between a power of 2 and the next.

    >>> [capacity(n) for n in (1, 15, 142, 143, 1437)]
    [1, 16, 144, 144, 1536]
    """
    grain = 1 << max(0, n.bit_length() - 4)
    return -(-n // grain) * grain


def order(numbers: Int[np.ndarray, " n"], batch_size: int) -> Order:
    """A pass over rows of these numbers."""
    n = len(numbers)
    batches = -(-n // batch_size)
    rows = np.zeros((capacity(batches), capacity(n) if batches == 1 else batch_size), np.int32)
    rows.reshape(-1)[:n] = numbers
    return Order(rows, n, batches)


def padded(x: Any, y: Any, weights: Any) -> Examples:
    """Data on the device, with rows of weight 0 up to the next size that is compiled for."""
    extra = capacity(len(x)) - len(x)
    return Examples(*(jnp.asarray(np.pad(a, [(0, extra)] + [(0, 0)] * (a.ndim - 1))) for a in (x, y, weights)))


def averaged(net: MLP, weight: Float[Array, ""]) -> MLP:
    """The network with scikit-learn's penalty: ½ alpha ‖W‖² / Σ w, for which alpha stands in the place of l2."""
    alpha: Any = net.l2
    return replace(net, l2=alpha / weight)


def _run(
    net: MLP, optimizer: optax.GradientTransformation, plan: Order, state: State, data: Examples, task: Task
) -> tuple[State, Float[Array, ""]]:
    """One pass: the state behind it, and its mean loss, each batch's taken before its step."""
    key, dropout_key = jax.random.split(state.key)
    rows = jnp.asarray(plan.rows)
    present = (jnp.arange(rows.size, dtype=jnp.int32) < plan.count).reshape(rows.shape)

    def advance(i: Int[Array, ""], carry: tuple[State, Array, Array]) -> tuple[State, Array, Array]:
        before, loss, weight = carry
        x, y, w = (array[rows[i]] for array in data)
        batch = Examples(x, y, jnp.where(present[i], w, 0))
        own_key = None if net.dropout is None else jax.random.fold_in(dropout_key, i)
        after, sums = step(averaged(net, jnp.sum(batch.weights)), optimizer, before, batch, own_key, task)
        return after, loss + sums.loss, weight + sums.weight

    zero = jnp.zeros((), data.x.dtype)
    state, loss, weight = jax.lax.fori_loop(0, plan.batches, advance, (state._replace(key=key), zero, zero))
    return state, loss / weight


def run(
    net: MLP, optimizer: optax.GradientTransformation, plan: Order, state: State, data: Examples, task: Task
) -> tuple[State, Float[Array, ""]]:
    """One pass over the data, compiled once for all numbers of rows of the same capacity."""
    return compiled(_run, net)(net, optimizer, plan, state, data, task)


@jax.jit
def value_and_grad(net: MLP, params: Params, data: Examples) -> tuple[Float[Array, ""], Params]:
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
