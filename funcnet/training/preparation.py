"""All of training that comes before the first step: arguments checked, first state drawn, programs compiled."""

import time
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Bool, Float, Real

from funcnet.boundary import check_network
from funcnet.network import MLP, check_key, check_net, init
from funcnet.numbers import check_count
from funcnet.precision import work_dtype
from funcnet.training.accounting import Privacy, check_privacy, check_sampling
from funcnet.training.checks import check_data, check_optimizer, check_penalties, check_task
from funcnet.training.epoch import State, epoch_program, evaluate, new_order, new_state
from funcnet.training.levenberg_marquardt import check_same_examples
from funcnet.training.metrics import Task, variation
from funcnet.training.objective import Examples
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
        privacy: What makes it private, if it is.
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
    privacy: Privacy | None = None


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
    check_same_examples(net, state.opt_state, batch_size, train.x.shape[0])
    if privacy is not None:
        privacy = check_privacy(privacy, train.x.shape[0])
        check_sampling(privacy, batch_size, train.weights, optimizer, state)
    varied = [None if part is None else variation(part.y, part.weights) for part in (train, held_out)]
    prepared = Prepared(net, optimizer, batch_size, task, state, train, held_out, 0.0, (varied[0], varied[1]), privacy)
    return prepared._replace(compile_seconds=_compile(prepared))


def _compile(prepared: Prepared) -> float:
    """Compile what a run needs, which then finds it compiled; the seconds it takes."""
    net, optimizer, batch_size, task, state, train, held_out, *_, privacy = prepared
    start = time.perf_counter()
    if privacy is None:
        rows = None if batch_size is None else new_order(state.key, train.x.shape[0], batch_size)
        epoch_program(net).lower(net, optimizer, rows, state, train, task).compile()
    else:
        private_program(net).lower(net, optimizer, privacy, batch_size, state, train, task).compile()
    if held_out is not None:
        evaluate.lower(net, state.params, held_out, task).compile()
    return time.perf_counter() - start


@partial(jax.jit, static_argnames="optimizer")
def _first_state(key: KeyArray, net: MLP, optimizer: optax.GradientTransformation, params: Params | None) -> State:
    """The state before the first step. One program compiles faster than one for each part of it."""
    init_key, state_key = jax.random.split(key)
    return new_state(state_key, init(init_key, net) if params is None else params, optimizer)
