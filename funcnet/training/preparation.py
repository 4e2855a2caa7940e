"""All of training that comes before the first step: arguments checked, first state drawn, programs compiled."""

import time
from collections.abc import Callable, Generator, Iterator
from functools import partial, reduce
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
from funcnet.training.metrics import Sums, Task, added, variation
from funcnet.training.objective import Examples
from funcnet.training.order import count_blocks, count_parts, new_order, window_rows
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
from funcnet.training.streaming import (
    Loaded,
    Source,
    Stream,
    ahead,
    check_stream,
    load_part,
    parts_to_come,
    pieces_of,
)
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
        train: The data to learn from, in memory or streamed.
        validation: Data that is only evaluated, likewise.
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
    train: Examples | Source
    validation: Examples | Source | None
    compile_seconds: float
    variation: tuple[np.ndarray | None, np.ndarray | None]
    n: int
    privacy: Privacy | None = None
    placement: Placement | None = None

    @property
    def parts(self) -> int:
        """The parts of an epoch: 1 for data in memory."""
        if not isinstance(self.train, Source):
            return 1
        return count_parts(self.n, self.batch_size or self.n, self.train.part_size)

    @property
    def window(self) -> int:
        """The rows that a part of a stream has of each block; 0 for data in memory."""
        if not isinstance(self.train, Source):
            return 0
        return window_rows(self.n, self.batch_size or self.n, self.train.part_size)

    def loads(self, key: KeyArray, first: int) -> Generator[Loaded | None]:
        """The parts to come, from one of the epoch of a key on; None for each epoch of data in memory."""
        if isinstance(self.train, Source):
            batch_size = self.batch_size or self.n
            load = partial(load_part, self.train, batch_size, self.placement)
            yield from ahead(load, parts_to_come(self.train, batch_size, key, first))
        while True:
            yield None

    def _order(self, state: State) -> Int[AnyArray, "steps ..."] | None:
        """The order of the epoch that begins with a state; None for a step on all examples."""
        if self.batch_size is None:
            return None
        rows = new_order(state.key, self.n, self.batch_size)
        return rows if self.placement is None else placed_order(rows, self.n, self.placement)

    def epoch(self, state: State, loaded: Loaded | None = None) -> tuple[Any, tuple[Any, ...]]:
        """The program of an epoch, or of a part of one, and its arguments."""
        net, optimizer, batch_size, task, _, train = self[:6]
        if self.privacy is not None:
            return private_program(net), (net, optimizer, self.privacy, batch_size, state, train, task)
        out = None if self.placement is None else (self.placement.state, self.placement.on())
        if loaded is None:
            return epoch_program(net, out), (net, optimizer, self._order(state), state, train, task)
        state = state._replace(key=loaded.key)
        return epoch_program(net, out), (net, optimizer, loaded.rows, state, loaded.data, task)

    def evaluations(self) -> Iterator[Examples]:
        """What there is to evaluate, in as many pieces as fit into memory."""
        if isinstance(self.validation, Source):
            source, place = self.validation, self.placement
            yield from ahead(lambda piece: source.load(piece, place), pieces_of(source, place))
        elif self.validation is not None:
            yield self.validation

    def evaluate(self, params: Params) -> Sums:
        """Loss and scores of all of it."""
        return reduce(added, (evaluate(self.net, params, piece, self.task) for piece in self.evaluations()))


def prepare(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data | Stream,
    *,
    batch_size: int | None = 128,
    validation: Data | Stream | None = None,
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
    train = _checked(net, data, dtype, "data", learning=True)
    held_out = None if validation is None else _checked(net, validation, dtype, "validation", learning=False)
    n = train.n if isinstance(train, Source) else len(train.x)
    if batch_size is not None:
        batch_size = min(check_count("batch_size", batch_size), n)
    _check_together(train, batch_size, privacy, mesh)
    check_same_examples(net, state.opt_state, batch_size, n)
    if privacy is not None and isinstance(train, Examples):
        privacy = check_privacy(privacy, n)
        check_sampling(privacy, batch_size, train.weights, optimizer, state)
    blocks = None if batch_size is None else count_blocks(n, batch_size)
    place = None if mesh is None else placement(check_mesh(mesh, net, batch_size), net, state, blocks)
    arrays = _laid_out(place, state, train, held_out, batch_size is None)
    varied = _variation(train), _variation(held_out)
    prepared = Prepared(net, optimizer, batch_size, task, *arrays, 0.0, varied, n, privacy, place)
    return prepared._replace(compile_seconds=_compile(prepared))


def _check_together(
    train: Examples | Source, batch_size: int | None, privacy: Privacy | None, mesh: Mesh | None
) -> None:
    """Refuse what does not go together."""
    if isinstance(train, Source) and (batch_size is None or privacy is not None):
        what = "private training" if privacy is not None else "batch_size=None, which takes all examples in each step"
        raise ValueError(f"data must be arrays in memory for {what}; got a Stream")
    if mesh is not None and privacy is not None:
        raise ValueError("mesh is not for private training, whose steps are of one device; got both")


def _checked(net: MLP, data: Data | Stream, dtype: Any, name: str, learning: bool) -> Examples | Source:
    if isinstance(data, Stream):
        return check_stream(net, data, dtype, name, learning)
    return check_data(net, data, dtype, name, learning)


def _variation(data: Examples | Source | None) -> np.ndarray | None:
    if data is None or isinstance(data, Source):
        return data and data.variation
    return variation(data.y, data.weights)


def _laid_out(
    place: Placement | None,
    state: State,
    train: Examples | Source,
    held_out: Examples | Source | None,
    full_batch: bool,
) -> tuple[State, Examples | Source, Examples | Source | None]:
    """State and data on the devices; streams stay where they are."""
    if isinstance(train, Examples):
        train = train.on_device() if place is None else placed_train(train, place, full_batch)
    if isinstance(held_out, Examples):
        held_out = held_out.on_device() if place is None else placed_to_evaluate(held_out, place)
    return state if place is None else placed_state(state, place), train, held_out


def _compile(prepared: Prepared) -> float:
    """Compile what a run needs, which then finds it compiled; the seconds it takes, without reading."""
    seconds = 0.0
    for lowered in (*_epoch_programs(prepared), *_evaluations(prepared)):
        start = time.perf_counter()
        lowered().compile()
        seconds += time.perf_counter() - start
    return seconds


def _epoch_programs(prepared: Prepared) -> Iterator[Callable[[], Any]]:
    """What lowers the program of an epoch; of a stream that of its first part and of its last, which may be shorter."""
    source, batch_size, key = prepared.train, prepared.batch_size or prepared.n, prepared.state.key
    loads: list[Loaded | None] = [None]
    if isinstance(source, Source):
        ends = [next(parts_to_come(source, batch_size, key, first)) for first in sorted({0, prepared.parts - 1})]
        loads = [load_part(source, batch_size, prepared.placement, coming) for coming in ends]
    for loaded in loads:
        program, arguments = prepared.epoch(prepared.state, loaded)
        yield partial(program.lower, *arguments)


def _evaluations(prepared: Prepared) -> Iterator[Callable[[], Any]]:
    source, place = prepared.validation, prepared.placement
    pieces = [source] if isinstance(source, Examples) else []
    if isinstance(source, Source):
        ends = pieces_of(source, place)
        pieces = [source.load(piece, place) for piece in (ends[0], ends[-1])[: len(ends)]]
    for piece in pieces:
        yield partial(evaluate.lower, prepared.net, prepared.state.params, piece, prepared.task)


@partial(jax.jit, static_argnames="optimizer")
def _first_state(key: KeyArray, net: MLP, optimizer: optax.GradientTransformation, params: Params | None) -> State:
    """The state before the first step. One program compiles faster than one for each part of it."""
    init_key, state_key = jax.random.split(key)
    return new_state(state_key, init(init_key, net) if params is None else params, optimizer)
