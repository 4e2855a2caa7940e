"""Training from data to parameters."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Real

from funcnet.boundary import check_network
from funcnet.network import MLP, check_key, init
from funcnet.precision import work_dtype
from funcnet.training.checks import check_count, check_data, check_penalties
from funcnet.training.epoch import Examples, State, epoch, evaluate, new_state
from funcnet.training.metrics import Sums, score_name
from funcnet.types import AnyArray, KeyArray, Params

AnyFeatures = Float[AnyArray, "_ ..."]
AnyNumbers = Real[AnyArray, "_ ..."] | Bool[AnyArray, "_ ..."]
Data = tuple[AnyFeatures, AnyNumbers] | tuple[AnyFeatures, AnyNumbers, AnyNumbers]
"""(x, y) or (x, y, weights), of as many examples as there are."""

History = dict[str, np.ndarray]


class Prepared(NamedTuple):
    """Everything a run needs, checked and compiled.

    Attributes:
        net: The network.
        optimizer: The optimizer.
        batch_size: Examples for each step, no more than there are.
        state: The state before the first step.
        train: The data to learn from.
        validation: Data that is only evaluated.
        compile_seconds: The time that compiling took.
    """

    net: MLP
    optimizer: optax.GradientTransformation
    batch_size: int
    state: State
    train: Examples
    validation: Examples | None
    compile_seconds: float


def prepare(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data,
    *,
    batch_size: int = 128,
    validation: Data | None = None,
    params: Params | None = None,
) -> Prepared:
    """Check the arguments, draw the first state and compile: all of `fit` that comes before the first step.

    Arguments and errors are those of `fit`.
    """
    batch_size = check_count("batch_size", batch_size)
    check_key(key)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer must be an Optax transformation such as optax.adam(1e-3); got {optimizer!r}")
    init_key, state_key = jax.random.split(key)
    params = init(init_key, net) if params is None else params
    check_network(net, params)
    check_penalties(net)
    dtype = work_dtype(params[0].w.dtype)
    train = check_data(net, data, dtype)
    held_out = None if validation is None else check_data(net, validation, dtype, "validation", learning=False)
    batch_size = min(batch_size, train.x.shape[0])
    state = new_state(state_key, params, optimizer)
    start = time.perf_counter()
    epoch.lower(net, optimizer, batch_size, state, train).compile()  # the calls that follow find it compiled
    if held_out is not None:
        evaluate.lower(net, state.params, held_out).compile()
    return Prepared(net, optimizer, batch_size, state, train, held_out, time.perf_counter() - start)


def run(
    prepared: Prepared, epochs: int, on_epoch: Callable[[int, dict[str, float]], None] | None = None
) -> tuple[State, History]:
    """Train what was prepared: the other half of `fit`, with its arguments and results. `prepared` can be run again."""
    epochs = check_count("epochs", epochs)
    net, optimizer, batch_size, state, train, validation, compile_seconds = prepared
    state = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)  # an epoch reuses the memory of its state
    records = []
    for number in range(1, epochs + 1):
        start = time.perf_counter()
        state, sums = epoch(net, optimizer, batch_size, state, train)
        metrics = _means(net, "train", sums)
        if validation is not None:
            metrics |= _means(net, "validation", evaluate(net, state.params, validation))
        metrics |= {"seconds": time.perf_counter() - start, "compile_seconds": compile_seconds if number == 1 else 0.0}
        records.append(metrics)
        if on_epoch is not None:
            on_epoch(number, metrics)
    return state, {name: np.array([record[name] for record in records]) for name in records[0]}


def fit(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data,
    *,
    epochs: int,
    batch_size: int = 128,
    validation: Data | None = None,
    params: Params | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] | None = None,
) -> tuple[State, History]:
    """Train a network by the closed-form gradient; each epoch, its shuffle included, is one compiled program.

    The same key gives the same result, bit for bit (on the same device and versions). Rows of weight 0 count as absent.
    It loops over epochs in Python and so cannot run inside `jax.jit` or `jax.vmap`; `funcnet.training.step` can.

    Args:
        key: The random key for initial parameters, order and dropout.
        net: The network.
        optimizer: Any Optax gradient transformation. Reuse the object and nothing compiles a second time.
        data: `(x, y)` or `(x, y, weights)`.
        epochs: How often every example is seen.
        batch_size: Examples for each step; the last batch of an epoch may have fewer.
        validation: Data that is only evaluated, after each epoch.
        params: Parameters to start from; by default `funcnet.init`. They are copied, not changed.
        on_epoch: Called after each epoch with its number, from 1, and its metrics.

    Returns:
        The last state, whose `params` are the trained ones, and the history: for each metric an array with one entry an
        epoch. `train_loss` and `train_accuracy` (for losses on real targets `train_mean_absolute_error`) are means over
        the epoch's steps, taken before each step's update and with dropout; `validation_…` are taken after the epoch,
        without. Both losses are L, the l2 penalty included. `seconds` is the time of the epoch, `compile_seconds` that
        of compiling before it.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the data is empty, does not fit the network, is not finite, or holds labels out of range or of
            one class only; if weights are negative or all 0; if epochs or batch_size is below 1.

    >>> import jax, optax
    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((2, 8, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> x, y = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([0, 1, 1, 0])
    >>> state, history = fn.fit(jax.random.key(0), net, optax.sgd(1.0), (x, y), epochs=100)
    >>> float(history["train_accuracy"][-1])
    1.0
    """
    epochs = check_count("epochs", epochs)
    prepared = prepare(key, net, optimizer, data, batch_size=batch_size, validation=validation, params=params)
    return run(prepared, epochs, on_epoch)


def _means(net: MLP, part: str, sums: Sums) -> dict[str, float]:
    loss, score, weight = (float(s) for s in sums)
    return {f"{part}_loss": loss / weight, f"{part}_{score_name(net)}": score / weight}
