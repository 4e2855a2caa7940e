"""Training from data to parameters."""

import warnings

import optax
from jax.sharding import Mesh

from funcnet.network import MLP
from funcnet.numbers import check_count
from funcnet.training.accounting import Privacy
from funcnet.training.checks import check_on_epoch
from funcnet.training.epoch import State
from funcnet.training.failure import NonFiniteLoss
from funcnet.training.metrics import Task
from funcnet.training.preparation import Data, prepare
from funcnet.training.run import History, OnEpoch, run
from funcnet.training.streaming import Stream
from funcnet.types import KeyArray, Params


def fit(
    key: KeyArray,
    net: MLP,
    optimizer: optax.GradientTransformation,
    data: Data | Stream,
    *,
    epochs: int,
    batch_size: int | None = 128,
    validation: Data | Stream | None = None,
    params: Params | None = None,
    patience: int | None = None,
    tolerance: float | None = None,
    task: Task | None = None,
    privacy: Privacy | None = None,
    mesh: Mesh | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[State, History]:
    """Train a network by the closed-form gradient; each epoch, its shuffle included, is one compiled program.

    The same key gives the same result, bit for bit (on the same device and versions). Rows of weight 0 count as absent.
    It loops over epochs in Python and so cannot run inside `jax.jit` or `jax.vmap`; `funcnet.training.step` can.

    Args:
        key: The random key for initial parameters, order and dropout.
        net: The network.
        optimizer: Any Optax gradient transformation. Reuse the object and nothing compiles a second time. Line searches
            are handed `closed_form_loss`, so that the closed form is what they differentiate.
        data: `(x, y)` or `(x, y, weights)`; or a `Stream` of data larger than memory, which is read part by part.
        epochs: How often every example is seen.
        batch_size: Examples for each step; the last batch of an epoch may have fewer. None makes each epoch one step on
            all examples, for L-BFGS, line searches and `gauss_newton`, which takes nothing else, and no dropout.
        validation: Data that is only evaluated, after each epoch.
        params: Parameters to start from; by default `funcnet.init`. They are not changed.
        patience: Stop after so many epochs without a lower validation loss (without validation data, training loss);
            the state that comes back is then that of the best epoch.
        tolerance: Stop when ‖∇L‖ is no larger; with batch_size None only.
        task: "classification" measures the accuracy of the top class, "questions" that of each output as a yes or no,
            "regression" R² and mean absolute error; by default what the loss is for. (A squared error on unit vectors
            can be a classifier.)
        privacy: Makes training differentially private: each step draws batch_size examples on average, each by itself,
            clips their gradients and adds noise, then that of the l2 penalty; an epoch is n / batch_size steps, rounded
            up. ε of this run stands in the history as `epsilon`; runs that go on from `params` add up. It holds while
            the key stays secret, and covers neither what is measured on data nor what was chosen by looking at it.
        mesh: Devices to share the work, with axes "data", for batches, and "model", for wide layers: see
            `funcnet.training.device_mesh`. Each step is that of one device up to rounding, for any mesh; many steps
            amplify rounding, here as between two machines.
        on_epoch: Called after each epoch with its number, from 1, and its metrics.

    Returns:
        The last state, whose `params` are the trained ones, and the history: for each metric an array with one entry an
        epoch. `train_loss` and `train_accuracy` (for regression `train_r2` and `train_mean_absolute_error`) are over
        the epoch's steps, taken before each step's update and with dropout; `validation_…` are taken after the epoch,
        without. Both losses are L, the l2 penalty included. With batch_size None there is `gradient_norm`, before the
        step. `seconds` is the time of the epoch, `compile_seconds` that of compiling before it.

    Warns:
        NonFiniteLoss: If a step's loss or a parameter is not finite. Training stops, the message names epoch, step and
            layer, and the state of the best epoch before it comes back.

    Raises:
        TypeError: If an argument is not of its kind.
        ValueError: If the data is empty, does not fit the network, is not finite, or holds labels out of range or of
            one class only; if weights are negative or all 0; if a number is out of its range. Features of a stream are
            looked at when they are read, while it trains.
        OSError: If a stream cannot be read.

    >>> import jax, optax
    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> net = fn.MLP((2, 8, 2), activation=fn.tanh, loss=fn.softmax_cross_entropy)
    >>> x, y = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), jnp.array([0, 1, 1, 0])
    >>> state, history = fn.fit(jax.random.key(0), net, optax.sgd(1.0), (x, y), epochs=100)
    >>> float(history["train_accuracy"][-1])
    1.0
    """
    check_count("epochs", epochs)
    check_on_epoch(on_epoch)
    prepared = prepare(
        key,
        net,
        optimizer,
        data,
        batch_size=batch_size,
        validation=validation,
        params=params,
        task=task,
        privacy=privacy,
        mesh=mesh,
    )
    result = run(prepared, epochs, patience=patience, tolerance=tolerance, on_epoch=on_epoch)
    if result.failure is not None:
        warnings.warn(str(result.failure), NonFiniteLoss, stacklevel=2)
    return result.state, result.history
