"""Where a training run left the finite numbers: the step is replayed, since the fast path only keeps its losses."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from funcnet.boundary import lift_params
from funcnet.network import MLP
from funcnet.sweeps import forward
from funcnet.training.epoch import State, plan, step
from funcnet.training.objective import Examples
from funcnet.types import AnyArray, KeyArray, Params


class NonFinite(NamedTuple):
    """The first value of a run that is not finite.

    Attributes:
        epoch: The epoch it happened in, from 1.
        step: The step of that epoch, from 1.
        layer: The layer that holds it, from 1; None where every layer is finite and the loss is not.
        what: What it is: "parameters", after the step before, "outputs" or "loss"; "" where no step is replayed, since
            its examples are drawn by chance.
        kept: The epoch whose parameters were kept; 0 for those before training.
    """

    epoch: int
    step: int
    layer: int | None
    what: str
    kept: int

    @property
    def place(self) -> str:
        """Where it happened, in words."""
        where = f"the {self.what} of layer {self.layer}" if self.layer else "the loss of outputs that still are"
        found = f", first in {where}" if self.what else ""
        return f"the loss is not finite at epoch {self.epoch}, step {self.step}{found}"

    def __str__(self) -> str:
        """One line for a person."""
        kept = f"after epoch {self.kept}" if self.kept else "before training"
        return f"{self.place}; training stopped, the parameters {kept} are kept"


class NonFiniteLoss(RuntimeWarning):
    """Training was stopped by a loss that is not finite; the best parameters so far are what came back."""


def _all_finite(*arrays: Array) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(array)) for array in arrays]))


def _finite_layers(
    net: MLP, params: Params, x: Array, present: Bool[Array, " n"], key: KeyArray | None
) -> Bool[Array, " flags"]:
    """Whether each layer's parameters are finite, then whether what it gives for the rows present is."""
    _, saved = forward(net, lift_params(params), x, key)
    rows = present[:, None]
    outputs = [
        _all_finite(jnp.where(rows, z, 0), jnp.where(rows, h, 0)) for z, h in zip(saved.z, saved.hidden, strict=True)
    ]
    return jnp.stack([*(_all_finite(*layer) for layer in params), *outputs])


@partial(jax.jit, static_argnames="optimizer")
def _replay(
    net: MLP, optimizer: optax.GradientTransformation, rows: Array, state: State, data: Examples, last: Array | int
) -> tuple[Int[Array, ""], Bool[Array, " flags"]]:
    """The steps of an epoch again, up to the first that meets something not finite or to step `last`."""
    key, steps = plan(net, state.key, rows, data)
    n_steps = rows.shape[0]

    def look(number: Array, state: State) -> Bool[Array, " flags"]:
        one = jax.tree.map(lambda leaf: leaf[jnp.minimum(number, n_steps - 1)], steps)
        return _finite_layers(net, state.params, one.batch(data).x, one.present, one.keys)

    def advance(carry: tuple[Array, State, Array]) -> tuple[Array, State, Array]:
        number, state, _ = carry
        one = jax.tree.map(lambda leaf: leaf[number], steps)
        state, _ = step(net, optimizer, state, one.batch(data), one.keys)
        return number + 1, state, look(number + 1, state)

    start = jnp.zeros((), jnp.int32)
    state = state._replace(key=key)
    number, _, flags = jax.lax.while_loop(
        lambda carry: jnp.all(carry[2]) & (carry[0] < last), advance, (start, state, look(start, state))
    )
    return number, flags


def locate(
    net: MLP,
    optimizer: optax.GradientTransformation,
    rows: Int[AnyArray, "steps ..."] | None,
    state: State,
    data: Examples,
    losses: np.ndarray,
) -> tuple[int, int | None, str]:
    """The step, the layer and the words for the first value of an epoch that is not finite.

    Args:
        net: The network.
        optimizer: The optimizer.
        rows: Its order; None for a step on all examples, which are then replayed as one batch.
        state: The state before the epoch.
        data: The examples of the epoch.
        losses: The loss of each of its steps, as they came out.
    """
    bad = np.flatnonzero(~np.isfinite(losses))
    first = int(bad[0]) if len(bad) else len(losses)  # behind the last step if only its update went wrong
    if rows is None:
        rows = np.arange(data.x.shape[0], dtype=np.int32)[None]
    number, flags = _replay(net, optimizer, jnp.asarray(rows), state, data, first)
    broken = np.flatnonzero(~np.asarray(flags))
    if not len(broken):
        return min(first + 1, len(losses)), None, "loss"
    stage, layer = divmod(int(broken[0]), net.n_layers)
    return min(int(number) + 1, len(losses)), layer + 1, ("parameters", "outputs")[stage]
