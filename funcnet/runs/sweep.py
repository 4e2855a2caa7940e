"""A sweep: the same run with other learning rates, l2, dropout or seeds, trained as one program; the best is kept."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from funcnet.runs.setup import Setup, unit_optimizer
from funcnet.training import NonFiniteLoss, Sweep, fit_many, grid
from funcnet.training.metrics import Task
from funcnet.training.optimizers import FULL_BATCH
from funcnet.training.run import History, Result
from funcnet.training.sweep import ranking

NAMES = ("learning_rate", "l2", "dropout", "seed")


class Swept(NamedTuple):
    """What a sweep leaves.

    Attributes:
        sweep: All networks.
        setup: The setup of the best one.
        result: Its result, as of a run of its own.
    """

    sweep: Sweep
    setup: Setup
    result: Result


def settings_of(words: Sequence[str], rate: float) -> dict[str, list[float]]:
    """Every combination of the values in words such as `dropout=0,0.5`; without words, 64 combinations around `rate`.

    Raises:
        ValueError: If a word is none of these, or a value is no number.
    """
    if not words:
        rates = [rate * factor for factor in (0.25, 0.5, 1.0, 2.0)]
        return grid(learning_rate=rates, l2=[0.0, 1e-5, 1e-4, 1e-3], dropout=[0.0, 0.1, 0.2, 0.5])
    values: dict[str, list[float]] = {}
    for word in words:
        name, _, listed = word.partition("=")
        name = name.replace("-", "_")
        if name not in NAMES or name in values or not listed:
            wrong = "named twice" if name in values else "without values" if name in NAMES else "not one of these"
            raise ValueError(
                "sweep must be such as learning_rate=0.001,0.01 l2=0,0.0001 dropout=0,0.5 seed=0,1; "
                f"got {word!r}: {name} is {wrong}"
            )
        try:
            values[name] = [int(value) if name == "seed" else float(value) for value in listed.split(",")]
        except ValueError:
            kind = "whole numbers" if name == "seed" else "numbers"
            raise ValueError(f"sweep must give {kind} for {name}; got {listed!r}") from None
    if min(values.get("learning_rate", [1.0])) <= 0:
        raise ValueError(f"sweep must give positive learning rates; got {values['learning_rate']}")
    return grid(**values)


def check_sweep(setup: Setup) -> None:
    """Refuse what does not go with a sweep.

    Raises:
        ValueError: If the optimizer searches along lines, training is to stop early, or no part is left to choose by.
    """
    name, training = setup.config.optimization.optimizer, setup.config.training
    if name in FULL_BATCH:
        raise ValueError(f"sweep is not for {name}, which takes all examples in each step")
    if training.patience is not None:
        raise ValueError("patience is not for a sweep, whose networks are all trained to the end")
    if "validation" not in setup.parts:
        raise ValueError("sweep needs a validation part to choose by; validation_share must not be 0")


def with_largest_penalties(setup: Setup, words: Sequence[str]) -> Setup:
    """The setup with the largest l2 and dropout that the sweep holds: what its proof is of.

    Raises:
        ValueError: If the words or the setup do not allow a sweep.
    """
    check_sweep(setup)
    settings = settings_of(words, 1.0)
    largest = {name: max(settings[name]) or None for name in ("l2", "dropout") if name in settings}
    return setup._replace(net=replace(setup.net, **largest))


def of_the_leader(metrics: History, task: Task) -> dict[str, float]:
    """The metrics of the network that leads after an epoch."""
    leader = ranking({name: values[None] for name, values in metrics.items()}, task)[0]
    return {name: float(values[leader]) for name, values in metrics.items()}


def run_sweep(setup: Setup, words: Sequence[str], on_epoch: Callable[[int, History], None] | None = None) -> Swept:
    """Train all combinations and choose the best on the validation part.

    Raises:
        ValueError: If the settings or the setup do not allow it.
    """
    check_sweep(setup)
    rate = float(setup.config.optimization.learning_rate or 0)
    settings = settings_of(words, rate)
    unit = unit_optimizer(setup)
    optimizer = optax.inject_hyperparams(
        lambda learning_rate: optax.chain(unit, optax.scale(learning_rate))  # every rule is linear in its rate
    )(learning_rate=rate)
    training = setup.config.training
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonFiniteLoss)  # the table of the sweep shows them
        sweep = fit_many(
            jax.random.key(training.seed),
            setup.net,
            optimizer,
            setup.arrays("train"),
            settings,
            epochs=setup.epochs,
            batch_size=training.batch_size or 1,
            validation=setup.arrays("validation"),
            task=setup.task,
            on_epoch=on_epoch,
        )
    return Swept(sweep, _of_the_best(setup, sweep), _result(sweep))


def _of_the_best(setup: Setup, sweep: Sweep) -> Setup:
    """The setup with the settings of the best network in the place of its own; the seed still draws the parts."""
    own: dict[str, Any] = {name: float(column[sweep.best]) for name, column in sweep.settings.items() if name != "seed"}
    network = {name: own[name] for name in ("l2", "dropout") if name in own}
    rate = {name: own[name] for name in ("learning_rate",) if name in own}
    config = replace(
        setup.config,
        network=replace(setup.config.network, **network),
        optimization=replace(setup.config.optimization, **rate),
    )
    net = replace(setup.net, **{name: value or None for name, value in network.items()})
    return setup._replace(config=config, net=net)


def _result(sweep: Sweep) -> Result:
    """The best network's state and history, as if it had been trained alone."""
    best, epochs = sweep.best, len(sweep.seconds)
    history = {name: values[:, best] for name, values in sweep.history.items()}
    compiling = np.zeros(epochs)
    compiling[0] = sweep.compile_seconds
    history |= {"seconds": sweep.seconds, "compile_seconds": compiling}
    state = jax.tree.map(lambda leaf: leaf[best], sweep.states)
    return Result(state, history, epochs, 0, "epochs", None)
