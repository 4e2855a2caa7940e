"""One step, one epoch, one evaluation: pure functions, the last two compiled as one program each."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Shaped

from funcnet.boundary import Call, lift_params
from funcnet.gradients import parameter_gradient, penalty
from funcnet.network import MLP
from funcnet.precision import cast_like
from funcnet.sweeps import forward
from funcnet.training.metrics import Sums, Task, scores
from funcnet.training.objective import Examples, Objective
from funcnet.training.order import new_order
from funcnet.training.programs import compiled
from funcnet.types import AnyArray, KeyArray, Params

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


class Report(NamedTuple):
    """What an epoch tells of itself.

    Attributes:
        sums: Those of all its examples, each taken before its step's update.
        losses: The loss of each step, before its update.
        finite: Whether all parameters are finite after the last step.
        gradient_norm: ‖∇L‖ at the start where the epoch is one step on all examples, else None.
    """

    sums: Sums
    losses: Float[AnyArray, " steps"]
    finite: Bool[Array, ""]
    gradient_norm: Float[Array, ""] | None


@partial(jax.jit, static_argnames="optimizer")
def new_state(key: KeyArray, params: Params, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step."""

    def strong(leaf: Array) -> Array:
        """Without JAX's mark of Python numbers, which a step takes off: a second program would be compiled for it."""
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        return leaf if is_key else jax.lax.convert_element_type(leaf, leaf.dtype)

    opt_state = jax.tree.map(strong, optimizer.init(params))
    return State(params, opt_state, key, jnp.zeros((), jnp.int32))


def step(
    net: MLP,
    optimizer: optax.GradientTransformation,
    state: State,
    batch: Examples,
    key: KeyArray | None,
    task: Task = "classification",
    total: Float[Array, ""] | None = None,
) -> tuple[State, Sums]:
    """One update by the closed-form gradient of a batch; the sums are those before the update.

    The optimizer is also offered what line searches ask for (`value`, `grad`, and as `value_fn` the `Objective`).

    Args:
        net: The network.
        optimizer: Any Optax gradient transformation.
        state: The state before the step.
        batch: Its examples, with Σ w > 0.
        key: The dropout key.
        task: What the sums measure predictions by.
        total: Σ w, where it is known already: devices then have one number less to agree on.
    """
    total = jnp.sum(batch.weights) if total is None else total
    call = Call(lift_params(state.params), batch.x, batch.y, batch.weights / total)
    swept, grads = parameter_gradient(net, call, key)
    grads = cast_like(grads, state.params)
    state = _update(optimizer, state, swept.value, grads, Objective(net, batch, key))
    return state, sums_of(net, total * swept.value, swept.outputs, batch, task)._replace(weight=total)


def sums_of(net: MLP, loss: Float[Array, ""], outputs: Float[Array, "n k"], batch: Examples, task: Task) -> Sums:
    """The sums of some examples, from Σ w L and their outputs."""
    w = batch.weights
    return Sums(loss, jnp.sum(w[:, None] * scores(net, outputs, batch.y, task), axis=0), jnp.sum(w))


def _update(
    optimizer: optax.GradientTransformation, state: State, value: Array, grads: Params, objective: Objective
) -> State:
    value = value.astype(state.params[0].w.dtype)
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        grads, state.opt_state, state.params, value=value, grad=grads, value_fn=objective
    )
    params: Any = optax.apply_updates(state.params, updates)
    return State(params, opt_state, state.key, state.step + 1)


def _full_step(
    net: MLP, optimizer: optax.GradientTransformation, state: State, data: Examples, key: KeyArray | None, task: Task
) -> tuple[State, Sums, Float[Array, ""]]:
    """A step on all examples. A line search has left value and gradient where it ended: they are not computed again."""
    objective = Objective(net, data, key)
    value: Any
    grads: Any
    if net.dropout is None and len(optax.tree.get_all_with_path(state.opt_state, "grad")) == 1:
        value, grads = optax.value_and_grad_from_state(objective)(state.params, state=state.opt_state)
    else:
        value, grads = objective.value_and_grad(state.params)
    outputs, _ = forward(net, lift_params(state.params), data.x, key)
    sums = sums_of(net, jnp.sum(data.weights) * value.astype(data.x.dtype), outputs, data, task)
    return _update(optimizer, state, value, grads, objective), sums, optax.tree.norm(grads)


class Plan(NamedTuple):
    """Which examples each step of an epoch sees.

    Attributes:
        rows: Their numbers, −1 for filling; of data in blocks those within each block.
        totals: Σ w of each step's examples.
        keys: The dropout keys; None without dropout.
    """

    rows: Int[Array, "*steps batch"]
    totals: Float[Array, "..."]
    keys: KeyArray | None

    def batch(self, data: Examples) -> Examples:
        """The examples of one step, of a plan without its first axis."""
        x, y, w = (take_rows(array, self.rows) for array in data)
        return Examples(x, y, jnp.where(self.present, w, 0)).in_numbers()

    @property
    def present(self) -> Bool[Array, " batch"]:
        """Whether a row of one step is one of the examples, not filling."""
        return self.rows.ravel() >= 0


def take_rows(array: Shaped[Array, "..."], rows: Int[Array, "..."]) -> Shaped[Array, "batch ..."]:
    """Rows by their numbers; of blocks, `(blocks, share)` numbers within each, one block behind the other."""
    if rows.ndim == 1:
        return array[rows]
    taken = jax.vmap(lambda block, numbers: block[numbers])(array, rows)
    return taken.reshape(-1, *taken.shape[2:])


def plan(net: MLP, key: KeyArray, rows: Int[Array, "steps ..."], data: Examples) -> tuple[KeyArray, Plan]:
    """The steps of an epoch in this order; and the key for the next epoch."""
    drawn = jax.vmap(lambda numbers: take_rows(data.weights, numbers))(rows)
    totals = jnp.sum(jnp.where(rows.reshape(drawn.shape) >= 0, drawn, 0), axis=1)
    key, dropout_key = jax.random.split(key)
    return key, Plan(rows, totals, None if net.dropout is None else jax.random.split(dropout_key, len(rows)))


def epoch(
    net: MLP,
    optimizer: optax.GradientTransformation,
    batch_size: int | None,
    state: State,
    data: Examples,
    task: Task = "classification",
) -> tuple[State, Report]:
    """Every example once, in a new order, in batches: one compiled program.

    The last batch is filled up with rows of weight 0, so that each example counts once and every batch has the same
    shape. With a batch size of None the epoch is one step on all examples. The order is drawn from `state.key` on the
    host; inside `jax.jit` or `jax.vmap` call `epoch_in_order`.
    """
    rows = None if batch_size is None else new_order(state.key, data.x.shape[0], batch_size)
    return epoch_program(net)(net, optimizer, rows, state, data, task)


def epoch_program(net: MLP, out_shardings: Any = None) -> Any:
    """`epoch_in_order` compiled with the options that suit the network; equal networks compile once."""
    return compiled(epoch_in_order, net, out_shardings)


def epoch_in_order(
    net: MLP,
    optimizer: optax.GradientTransformation,
    rows: Int[Array, "steps ..."] | None,
    state: State,
    data: Examples,
    task: Task = "classification",
) -> tuple[State, Report]:
    """An epoch whose order is given, as a pure function.

    Args:
        net: The network.
        optimizer: Any Optax gradient transformation.
        rows: The order as from `new_order`; None for one step on all examples.
        state: The state before the epoch.
        data: All examples.
        task: What the sums measure predictions by.
    """
    norm = None
    if rows is None:
        key, dropout_key = jax.random.split(state.key)
        state, sums, norm = _full_step(net, optimizer, state._replace(key=key), data.in_numbers(), dropout_key, task)
        sums = jax.tree.map(lambda s: s[None], sums)
    else:
        key, steps = plan(net, state.key, rows, data)

        def run(state: State, one: Plan) -> tuple[State, Sums]:
            return step(net, optimizer, state, one.batch(data), one.keys, task, one.totals)

        state, sums = jax.lax.scan(run, state._replace(key=key), steps)
    return state, report(state, sums, norm)


def report(state: State, sums: Sums, norm: Float[Array, ""] | None) -> Report:
    """What an epoch tells, from the state it ends with and the sums of its steps; of no examples the loss is 0."""
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(state.params)]))
    totals = Sums(*(jnp.sum(s, axis=0) for s in sums))
    return Report(totals, sums.loss / jnp.where(sums.weight == 0, 1, sums.weight), finite, norm)


@partial(jax.jit, static_argnames=("task", "rows"))
def evaluate(
    net: MLP, params: Params, data: Examples, task: Task = "classification", rows: int = EVALUATION_ROWS
) -> Sums:
    """Loss and scores of all examples without dropout, at most `rows` at a time so that memory stays bounded."""
    params, axis = lift_params(params), data.weights.ndim - 1
    blocks, n = data.weights.shape[:axis], data.weights.shape[axis]
    rows = -(-n // -(-math.prod(blocks) * n // rows))  # slices of one size if there are such: a rest is another program

    def sums(part: Examples) -> Sums:
        part = Examples(*(array.reshape(-1, *array.shape[axis + 1 :]) for array in part)).in_numbers()
        outputs, _ = forward(net, params, part.x, None)
        losses = net.loss.value(outputs, part.y) + penalty(net, params)
        return sums_of(net, jnp.sum(part.weights * losses), outputs, part, task)

    def take(start: Int[Array, ""]) -> Sums:
        return sums(Examples(*(jax.lax.dynamic_slice_in_dim(array, start, rows, axis) for array in data)))

    whole = n - n % rows
    total = jax.lax.map(take, jnp.arange(0, whole, rows))
    rest = [sums(Examples(*(jax.lax.slice_in_dim(array, whole, n, axis=axis) for array in data)))] if whole < n else []
    return jax.tree.map(lambda *parts: sum(parts), Sums(*(jnp.sum(t, axis=0) for t in total)), *rest)
