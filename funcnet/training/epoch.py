"""One step, one epoch, one evaluation: pure functions, the last two compiled as one program each."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from funcnet.gradients import Call, both_sweeps, lift_params, parameter_gradient, penalty
from funcnet.network import MLP
from funcnet.precision import cast_like
from funcnet.sweeps import forward
from funcnet.training.metrics import Sums, scores
from funcnet.types import KeyArray, Params

EVALUATION_ROWS = 1024


class State(NamedTuple):
    """All that changes while a network trains.

    Attributes:
        params: The parameters.
        opt_state: The optimizer's own state.
        key: The random key from which the next epoch's order and dropout are drawn.
        step: The number of steps taken.
    """

    params: Params
    opt_state: optax.OptState
    key: KeyArray
    step: Int[Array, ""]


class Examples(NamedTuple):
    """Checked data: features in rows and in the work dtype, targets, and a positive weight for each example.

    Attributes:
        x: Features, one example a row.
        y: Integer labels `(n,)` or targets `(n, k)`.
        weights: One for each example; 0 only in rows that fill up a batch.
    """

    x: Float[Array, "n d"]
    y: Shaped[Array, "n ..."]
    weights: Float[Array, " n"]


@partial(jax.jit, static_argnames="optimizer")
def new_state(key: KeyArray, params: Params, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step."""
    return State(params, optimizer.init(params), key, jnp.zeros((), jnp.int32))


def step(
    net: MLP, optimizer: optax.GradientTransformation, state: State, batch: Examples, key: KeyArray | None
) -> tuple[State, Sums]:
    """One update by the closed-form gradient of a batch; the sums are those before the update.

    Args:
        net: The network.
        optimizer: Any Optax gradient transformation.
        state: The state before the step.
        batch: Its examples, with Σ w > 0.
        key: The dropout key.
    """
    total = jnp.sum(batch.weights)
    call = Call(lift_params(state.params), batch.x, batch.y, batch.weights / total)
    swept = both_sweeps(net, call, key)
    grads = cast_like(parameter_gradient(net, call, swept), state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)  # pyright: ignore[reportArgumentType]
    params = optax.apply_updates(state.params, updates)
    score = jnp.sum(batch.weights * scores(net, swept.outputs, batch.y))
    return State(params, opt_state, state.key, state.step + 1), Sums(total * swept.value, score, total)  # pyright: ignore


@partial(jax.jit, static_argnames=("optimizer", "batch_size"), donate_argnames="state")
def epoch(
    net: MLP, optimizer: optax.GradientTransformation, batch_size: int, state: State, data: Examples
) -> tuple[State, Sums]:
    """Every example once, in a new order, in batches: one compiled program.

    The last batch is filled up with rows of weight 0, so that each example counts once and every batch has the same
    shape. The memory of `state` is reused for the state that comes back.
    """
    n = data.x.shape[0]
    n_steps = -(-n // batch_size)
    keys = jax.random.split(state.key, 2 + n_steps)
    order = jnp.concatenate([jax.random.permutation(keys[1], n), jnp.zeros(n_steps * batch_size - n, int)])
    present = jnp.arange(n_steps * batch_size) < n
    batches = (
        order.reshape(n_steps, batch_size),
        present.reshape(n_steps, batch_size),
        keys[2:],
    )

    def run(state: State, batch: tuple[Array, Array, Array]) -> tuple[State, Sums]:
        rows, real, key = batch
        weights = jnp.where(real, data.weights[rows], 0)
        return step(net, optimizer, state, Examples(data.x[rows], data.y[rows], weights), key)

    state, sums = jax.lax.scan(run, state._replace(key=keys[0]), batches)
    return state, Sums(*(jnp.sum(s) for s in sums))


@partial(jax.jit, static_argnames="rows")
def evaluate(net: MLP, params: Params, data: Examples, rows: int = EVALUATION_ROWS) -> Sums:
    """Loss and score of all examples without dropout, a block of rows at a time so that memory stays bounded."""
    params, n = lift_params(params), data.x.shape[0]
    rows = min(rows, n)

    def sums(block: Examples) -> Sums:
        outputs, _ = forward(net, params, block.x, None)
        w = block.weights
        losses = net.loss.value(outputs, block.y) + penalty(net, params)
        return Sums(jnp.sum(w * losses), jnp.sum(w * scores(net, outputs, block.y)), jnp.sum(w))

    def take(start: Int[Array, ""]) -> Sums:
        return sums(Examples(*(jax.lax.dynamic_slice_in_dim(array, start, rows) for array in data)))

    whole = n - n % rows
    total = jax.lax.map(take, jnp.arange(0, whole, rows))
    rest = [sums(Examples(*(array[whole:] for array in data)))] if whole < n else []
    return jax.tree.map(lambda *parts: sum(jnp.sum(part) for part in parts), total, *rest)
