"""Many networks at once: the same widths and data, other seeds, learning rates, l2 or dropout, as one program."""

import dataclasses
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet.network import MLP, check_key, check_net, init
from funcnet.numbers import check_count
from funcnet.precision import work_dtype
from funcnet.training.checks import check_data, check_on_epoch, check_optimizer, check_penalties, check_task
from funcnet.training.epoch import State, epoch_in_order, evaluate, new_state
from funcnet.training.failure import NonFiniteLoss
from funcnet.training.levenberg_marquardt import check_same_examples
from funcnet.training.metrics import Sums, Task, means, metric_names, variation
from funcnet.training.objective import Examples
from funcnet.training.order import new_order
from funcnet.training.preparation import Data
from funcnet.training.programs import compiled
from funcnet.training.run import History
from funcnet.types import KeyArray, Params

Settings = Mapping[str, Sequence[float]]
PENALTIES = ("l2", "dropout")


class Sweep(NamedTuple):
    """Networks that were trained side by side.

    Attributes:
        states: Their last states, stacked along a first axis.
        history: As of `funcnet.fit`, with a column for each network.
        settings: What they differ in: for each name one number a network.
        best: The number of the one with the best last metric on the validation data, the lower loss where that ties.
        compile_seconds: The time that compiling took.
        seconds: The time of each epoch of all networks.
    """

    states: State
    history: History
    settings: dict[str, np.ndarray]
    best: int
    compile_seconds: float
    seconds: np.ndarray

    def params(self, number: int) -> Params:
        """The parameters of one network."""
        return jax.tree.map(lambda leaf: leaf[number], self.states.params)


def grid(**values: Iterable[float]) -> dict[str, list[float]]:
    """Every combination of some values, as `fit_many` takes them.

    Raises:
        TypeError: If the values of a name are not a list of numbers.

    >>> from funcnet.training import grid
    >>> grid(l2=[0, 0.1], seed=[1, 2])
    {'l2': [0, 0, 0.1, 0.1], 'seed': [1, 2, 1, 2]}
    """
    for name, listed in values.items():
        if isinstance(listed, str) or not isinstance(listed, Iterable):
            raise TypeError(f"{name} must be a list of numbers; got {listed!r}")
    combinations = list(itertools.product(*values.values()))
    return {name: [combination[i] for combination in combinations] for i, name in enumerate(values)}


def fit_many(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data,
    settings: Settings,
    *,
    epochs: int,
    validation: Data,
    batch_size: int | None = 128,
    task: Task | None = None,
    on_epoch: Callable[[int, History], None] | None = None,
) -> Sweep:
    """Train a network once for each setting, all in one program: what `fit` is under `jax.vmap`.

    In each epoch all networks see the examples in one order; initial parameters and dropout are each network's own.

    Args:
        key: The random key for the orders, and for parameters and dropout beside the seed.
        net: The network; the l2 and dropout that are swept take the place of its own.
        optimizer: An Optax transformation; if hyperparameters are swept, one of `optax.inject_hyperparams`.
        data: `(x, y)` or `(x, y, weights)`.
        settings: For each name one number a network: "l2", "dropout", "seed", or a hyperparameter of the optimizer such
            as "learning_rate".
        epochs: How often every example is seen.
        validation: Data that is only evaluated, after each epoch; it decides which network is best.
        batch_size: Examples for each step; None for all at once.
        task: As of `funcnet.fit`.
        on_epoch: Called after each epoch with its number, from 1, and the metrics of all networks.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: As `funcnet.fit` does, or if the settings are none, of different lengths, not known to the
            optimizer or, there, following a schedule.

    Warns:
        NonFiniteLoss: If a network's last loss is not finite.

    >>> import jax, optax
    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> from funcnet.training import fit_many, grid
    >>> net = fn.MLP((2, 8, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> xor = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([0, 1, 1, 0])
    >>> descent = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
    >>> settings = grid(learning_rate=[0.0, 1.0], seed=[0, 1])
    >>> sweep = fit_many(jax.random.key(0), net, descent, xor, settings, epochs=100, validation=xor)
    >>> sweep.best in (2, 3), float(sweep.history["validation_accuracy"][-1, sweep.best])
    (True, 1.0)
    """
    _check_kinds(key, net, optimizer, on_epoch)
    epochs, task = check_count("epochs", epochs), check_task(net, task)
    columns = _checked(settings)
    order_key, seed_key = jax.random.split(key)
    states = _states(seed_key, net, optimizer, columns)
    nets, dtype = _networks(net, columns), work_dtype(states.params[0].w.dtype)
    both = check_data(net, data, dtype), check_data(net, validation, dtype, "validation", learning=False)
    train, held_out = (examples.on_device() for examples in both)
    program, n = compiled(_epoch, net), train.x.shape[0]
    batch_size = n if batch_size is None else min(check_count("batch_size", batch_size), n)
    check_same_examples(nets, states.opt_state, batch_size, n)
    times = [time.perf_counter()]
    program.lower(nets, optimizer, new_order(order_key, n, batch_size), states, train, held_out, task).compile()
    times.append(time.perf_counter())
    varied = variation(train.y, train.weights), variation(held_out.y, held_out.weights)
    records = []
    for number in range(1, epochs + 1):
        rows = new_order(jax.random.fold_in(order_key, number), n, batch_size)
        states, sums = program(nets, optimizer, rows, states, train, held_out, task)
        records.append(_metrics(task, sums, varied))
        times.append(time.perf_counter())
        if on_epoch is not None:
            on_epoch(number, records[-1])
    history = {name: np.stack([record[name] for record in records]) for name in records[0]}
    compile_seconds, *seconds = np.diff(times)
    _warn_of_lost(history)
    return Sweep(states, history, columns, int(ranking(history, task)[0]), float(compile_seconds), np.array(seconds))


def _check_kinds(key: Any, net: Any, optimizer: Any, on_epoch: Any) -> None:
    """Refuse arguments that are not of their kind."""
    check_key(key)
    check_net(net)
    check_optimizer(optimizer)
    check_on_epoch(on_epoch)


def _warn_of_lost(history: History) -> None:
    """Tell of networks whose last loss is not finite."""
    last = history["train_loss"][-1] + history["validation_loss"][-1]
    lost = np.flatnonzero(~np.isfinite(last))
    if len(lost):
        which = ", ".join(map(str, lost[:5])) + ", …" * (len(lost) > 5)
        told = f"{len(lost)} of {len(last)} networks ended with a loss that is not finite: {which}"
        warnings.warn(told, NonFiniteLoss, stacklevel=3)


def _checked(settings: Settings) -> dict[str, np.ndarray]:
    """The settings as columns of one length, l2 and dropout in their ranges."""
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings must be a dict such as that of funcnet.training.grid; got {settings!r}")
    columns = {name: np.asarray(values) for name, values in settings.items()}
    lengths = {name: column.size for name, column in columns.items()}
    if not columns or len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"settings must hold at least one number for each network, as many of each; got {lengths}")
    for name, column in columns.items():
        if column.ndim != 1 or column.dtype.kind not in "iuf" or not np.isfinite(column).all():
            raise ValueError(f"settings[{name!r}] must be a list of finite numbers; got {settings[name]!r}")
    if "seed" in columns and (columns["seed"].dtype.kind == "f" or columns["seed"].min() < 0):
        raise ValueError(f"settings['seed'] must be whole numbers of at least 0; got {settings['seed']!r}")
    return columns


def _networks(net: MLP, columns: Mapping[str, np.ndarray]) -> MLP:
    """One description whose l2 and dropout hold a number for each network."""
    count = len(next(iter(columns.values())))
    own: dict[str, Any] = {name: columns.get(name, getattr(net, name)) for name in PENALTIES}
    own = {name: np.broadcast_to(value, count) for name, value in own.items() if value is not None}
    for name, values in own.items():
        for value in np.unique(values):
            check_penalties(dataclasses.replace(net, **{name: float(value)}))
    return dataclasses.replace(net, **{name: jnp.asarray(values, float) for name, values in own.items()})


def _states(
    key: KeyArray, net: MLP, optimizer: optax.GradientTransformation, columns: Mapping[str, np.ndarray]
) -> State:
    """The states before the first step, with each network's own parameters, dropout key and hyperparameters."""
    count = len(next(iter(columns.values())))
    seeds = columns.get("seed", np.zeros(count, np.int64))

    def one(seed: Any) -> State:
        init_key, state_key = jax.random.split(jax.random.fold_in(key, seed))
        return new_state(state_key, init(init_key, net), optimizer)

    states = jax.vmap(one)(jnp.asarray(seeds, jnp.uint32))
    swept = {name: column for name, column in columns.items() if name not in (*PENALTIES, "seed")}
    known = getattr(states.opt_state, "hyperparams", {})
    for name in swept:
        if name not in known:
            has = ", ".join(known) or "none; make it by optax.inject_hyperparams"
            raise ValueError(f"settings[{name!r}] is no hyperparameter of the optimizer; it has {has}")
        if name in getattr(states.opt_state, "hyperparams_states", {}):
            raise ValueError(f"settings[{name!r}] must be a constant of the optimizer; there it follows a schedule")
    values = {name: jnp.asarray(column, known[name].dtype) for name, column in swept.items()}
    if not values:
        return states
    opt_state: Any = states.opt_state
    return states._replace(opt_state=opt_state._replace(hyperparams={**known, **values}))


def _epoch(
    nets: MLP,
    optimizer: optax.GradientTransformation,
    rows: Any,
    states: State,
    train: Examples,
    validation: Examples,
    task: Task,
) -> tuple[State, tuple[Sums, Sums]]:
    """An epoch of all networks on one order, and their evaluation."""

    def one(net: MLP, state: State) -> tuple[State, tuple[Sums, Sums]]:
        state, report = epoch_in_order(net, optimizer, rows, state, train, task)
        return state, (report.sums, evaluate(net, state.params, validation, task))

    return jax.vmap(one)(nets, states)


def _metrics(task: Task, sums: tuple[Sums, Sums], varied: tuple[Any, Any]) -> History:
    """The metrics of all networks after an epoch, by name."""
    train, validation = jax.device_get(sums)
    records = [
        means(task, "train", Sums(*(leaf[i] for leaf in train)), varied[0])
        | means(task, "validation", Sums(*(leaf[i] for leaf in validation)), varied[1])
        for i in range(len(train.loss))
    ]
    return {name: np.array([record[name] for record in records]) for name in records[0]}


def ranking(history: History, task: Task) -> np.ndarray:
    """By the last value of the first metric, then by the loss; networks that are not finite come last."""
    score, loss = history[f"validation_{metric_names(task)[0]}"][-1], history["validation_loss"][-1]
    finite = np.isfinite(score) & np.isfinite(loss)
    return np.lexsort((loss, np.where(finite, -score, np.inf)))
