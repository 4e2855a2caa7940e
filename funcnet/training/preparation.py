"""All of training that comes before the first step: arguments checked, first state drawn, programs compiled."""

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Int, Real

from funcnet.boundary import check_network
from funcnet.network import MLP, check_key, check_net, init
from funcnet.numbers import check_count
from funcnet.precision import work_dtype
from funcnet.training.accounting import Privacy, check_privacy, check_sampling
from funcnet.training.checks import check_data, check_optimizer, check_penalties, check_task
from funcnet.training.epoch import State, epoch_program, evaluate, new_state
from funcnet.training.levenberg_marquardt import check_same_examples
from funcnet.training.metrics import Task, variation
from funcnet.training.objective import Examples
from funcnet.training.order import count_blocks, new_order
from funcnet.training.placement import (
    Placement,
    check_mesh,
    placed_order,
    placed_state,
    placed_to_evaluate,
    placed_train,
    placement,
)
from funcnet.training.private import private_program
from funcnet.types import AnyArray, KeyArray, Params

AnyFeatures = Float[AnyArray, "_ ..."]
AnyNumbers = Real[AnyArray, "_ ..."] | Bool[AnyArray, "_ ..."]
Data = tuple[AnyFeatures, AnyNumbers] | tuple[AnyFeatures, AnyNumbers, AnyNumbers]
"""(x, y) or (x, y, weights), of as many examples as there are."""


class Prepared(NamedTuple):
    """Everything a run needs, checked and compiled.

    Attributes:
        net: The network.
        optimizer: The optimizer.
        batch_size: Examples for each step, no more than there are; None for all.
        task: What predictions are measured by.
        state: The state before the first step.
        train: The data to learn from.
        validation: Data that is only evaluated.
        compile_seconds: The time that compiling took.
        variation: Σ w (y − ȳ)² of the targets of both.
        n: How many examples there are to learn from.
        privacy: What makes it private, if it is.
        placement: The devices, where it is told.
    """

    net: MLP
    optimizer: optax.GradientTransformation
    batch_size: int | None
    task: Task
    state: State
    train: Examples
    validation: Examples | None
    compile_seconds: float
    variation: tuple[np.ndarray | None, np.ndarray | None]
    n: int
    privacy: Privacy | None = None
    placement: Placement | None = None

    def order(self, state: State) -> Int[AnyArray, "steps ..."] | None:
        """The order of the epoch that begins with a state; None for a step on all examples."""
        if self.batch_size is None:
            return None
        rows = new_order(state.key, self.n, self.batch_size)
        return rows if self.placement is None else placed_order(rows, self.n, self.placement)

    def epoch(self, state: State) -> tuple[Any, tuple[Any, ...]]:
        """The program of an epoch, and its arguments."""
        net, optimizer, batch_size, task, _, train = self[:6]
        if self.privacy is not None:
            return private_program(net), (net, optimizer, self.privacy, batch_size, state, train, task)
        out = None if self.placement is None else (self.placement.state, self.placement.on())
        return epoch_program(net, out), (net, optimizer, self.order(state), state, train, task)


def prepare(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data,
    *,
    batch_size: int | None = 128,
    validation: Data | None = None,
    params: Params | None = None,
    task: Task | None = None,
    privacy: Privacy | None = None,
    mesh: Mesh | None = None,
) -> Prepared:
    """Check the arguments, draw the first state and compile: all of `fit` that comes before the first step.

    Arguments and errors are those of `fit`.
    """
    check_key(key)
    check_optimizer(optimizer)
    check_net(net)
    if params is not None:
        check_network(net, params)
    state = _first_state(key, net, optimizer, params)
    check_penalties(net)
    task = check_task(net, task)
    dtype = work_dtype(state.params[0].w.dtype)
    train = check_data(net, data, dtype)
    held_out = None if validation is None else check_data(net, validation, dtype, "validation", learning=False)
    if batch_size is not None:
        batch_size = min(check_count("batch_size", batch_size), train.x.shape[0])
    n = len(train.x)
    check_same_examples(net, state.opt_state, batch_size, n)
    if privacy is not None:
        privacy = check_privacy(privacy, n)
        check_sampling(privacy, batch_size, train.weights, optimizer, state)
    varied = [None if part is None else variation(part.y, part.weights) for part in (train, held_out)]
    if mesh is not None and privacy is not None:
        raise ValueError("mesh is not for private training, whose steps are of one device; got both")
    blocks = None if batch_size is None else count_blocks(n, batch_size)
    place = None if mesh is None else placement(check_mesh(mesh, batch_size), net, state, blocks)
    arrays = _laid_out(place, state, train, held_out, batch_size is None)
    prepared = Prepared(net, optimizer, batch_size, task, *arrays, 0.0, (varied[0], varied[1]), n, privacy, place)
    return prepared._replace(compile_seconds=_compile(prepared))


def _laid_out(
    place: Placement | None, state: State, train: Examples, held_out: Examples | None, full_batch: bool
) -> tuple[State, Examples, Examples | None]:
    """State and data on the devices."""
    if place is None:
        return state, train.on_device(), held_out and held_out.on_device()
    held_out = held_out and placed_to_evaluate(held_out, place)
    return placed_state(state, place), placed_train(train, place, full_batch), held_out


def _compile(prepared: Prepared) -> float:
    """Compile what a run needs, which then finds it compiled; the seconds it takes."""
    start = time.perf_counter()
    program, arguments = prepared.epoch(prepared.state)
    program.lower(*arguments).compile()
    if prepared.validation is not None:
        evaluate.lower(prepared.net, prepared.state.params, prepared.validation, prepared.task).compile()
    return time.perf_counter() - start


@partial(jax.jit, static_argnames="optimizer")
def _first_state(key: KeyArray, net: MLP, optimizer: optax.GradientTransformation, params: Params | None) -> State:
    """The state before the first step. One program compiles faster than one for each part of it."""
    init_key, state_key = jax.random.split(key)
    return new_state(state_key, init(init_key, net) if params is None else params, optimizer)
