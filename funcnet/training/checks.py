"""What only the values of data can tell, checked once where data enters a program, before anything is compiled."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from funcnet.affine import flatten
from funcnet.boundary import check_features, check_network, check_targets, check_weights
from funcnet.network import MLP
from funcnet.training.metrics import Task, task_of
from funcnet.training.objective import Examples, Objective
from funcnet.training.pixels import in_bytes


def check_data(net: MLP, data: Any, dtype: Any, name: str = "data", learning: bool = True) -> Examples:
    """Check `(x, y)` or `(x, y, weights)` and bring it into the form that epochs run on, in this process's memory.

    Rows of weight 0 are left out: they count as absent, whatever they hold.

    Args:
        net: The network that is to see the data.
        data: Features, targets and, if wanted, a weight for each example.
        dtype: The dtype to compute in.
        name: What the message calls the data.
        learning: Whether it is data to learn from, which must hold more than one class.

    Raises:
        TypeError: If an array is of the wrong kind.
        ValueError: If there are no examples, sizes do not fit, a number is not finite, a label is out of range, all
            labels are one class, or weights are negative or all 0; the message names the argument and the place.
    """
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise TypeError(f"{name} must be (x, y) or (x, y, weights); got {type(data).__name__}")
    x, y, weights = (*data, None) if len(data) == 2 else data
    try:
        check_features(net, x)
        if x.shape[0] == 0:
            raise ValueError(f"x must have at least one example; got shape {x.shape}")
        check_targets(net, x.shape[0], y)
        if weights is not None:
            check_weights(x.shape[0], weights)
        rows, y = np.asarray(flatten(x), dtype), np.asarray(y)
        weights = checked_weights(weights, rows.shape[0], dtype)
        present = np.flatnonzero(weights)
        if len(present) < len(weights):
            rows, y, weights = rows[present], y[present], weights[present]
        check_finite("x", rows, present)
        check_target_values(net, y, present)
        if learning and y.ndim == 1 and (y == y[0]).all():
            raise ValueError(f"y must hold at least 2 classes to learn from; got only class {y[0]}")
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    arrays: Any = (in_bytes(rows), y if y.ndim == 1 else y.astype(dtype), weights)
    return Examples(*arrays)


def checked_weights(weights: Any, n: int, dtype: Any) -> np.ndarray:
    """Weights in the dtype, 1 for each of n examples where none are given.

    Raises:
        ValueError: If one is not finite or negative, or all are 0.
    """
    if weights is None:
        return np.ones(n, dtype)
    weights = np.asarray(weights, dtype)
    check_finite("weights", weights)
    if weights.min() < 0:
        raise ValueError(f"weights must not be negative; got {weights.min():g} at example {weights.argmin()}")
    if not weights.any():
        raise ValueError("weights must not all be 0")
    return weights


def check_finite(name: str, array: np.ndarray, numbers: Sequence[int] | np.ndarray | None = None) -> None:
    """Refuse what is not finite; `numbers` are those of the rows in the caller's data."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum()):  # which is faster than to look at each
            return
    finite = np.isfinite(array)
    if not finite.all():
        bad = np.argwhere(~finite)
        row, *rest = (int(i) for i in bad[0])
        place = [row if numbers is None else int(numbers[row]), *rest]
        raise ValueError(f"{name} must be finite; got {array[tuple(bad[0])]} at {place}")


def check_target_values(net: MLP, y: np.ndarray, numbers: Sequence[int] | np.ndarray) -> None:
    """Refuse targets that the loss has no value for, and labels of no output.

    Raises:
        ValueError: If there is one; the message tells which.
    """
    if y.ndim > 1:
        check_finite("y", y.astype(np.float64), numbers)
        low, high = net.loss.target_range
        if y.min() < low or y.max() > high:
            raise ValueError(f"y must be in [{low:g}, {high:g}] for {net.loss.name}; got {y.min():g} to {y.max():g}")
        return
    k = net.widths[-1]
    if y.min() < 0 or y.max() >= k:
        wrong = np.flatnonzero((y < 0) | (y >= k))[0]
        raise ValueError(
            f"y must be labels from 0 to {k - 1}, one for each of the {k} outputs; "
            f"got {y[wrong]} at example {numbers[wrong]}"
        )


def check_penalties(net: MLP) -> None:
    """Refuse an l2 or a dropout out of its range, which `MLP` itself sees only in plain numbers.

    Raises:
        ValueError: If l2 is negative or not finite, or dropout outside [0, 1).
    """
    if net.l2 is not None and not 0 <= float(net.l2) < float("inf"):
        raise ValueError(f"l2 must be a finite number of at least 0; got {float(net.l2)}")
    if net.dropout is not None and not 0 <= float(net.dropout) < 1:
        raise ValueError(f"dropout must be in [0, 1); got {float(net.dropout)}")


def check_optimizer(optimizer: Any) -> None:
    """Refuse what is no Optax transformation.

    Raises:
        TypeError: If it has no `init` and `update`.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"optimizer must be an Optax transformation such as optax.adam(1e-3); got {optimizer!r}")


def check_objective(name: str, params: Any, value_fn: Any, value: Any = 0.0) -> None:
    """Refuse an update of an optimizer that was not handed what it looks at.

    Raises:
        TypeError: If params, the value of the loss, or the `Objective` with its examples are missing.
        ValueError: If params are not those of the objective's network, or the value is not one number.
    """
    if not isinstance(value_fn, Objective):
        raise TypeError(f"{name} needs a funcnet.training.Objective as value_fn; got {type(value_fn).__name__}")
    if not isinstance(value_fn.batch, Examples) or value_fn.batch.weights is None:
        raise TypeError(f"{name} needs a value_fn whose batch is Examples(x, y, weights); got {value_fn.batch!r}")
    if params is None or value is None:
        raise TypeError(f"{name} needs {'params' if params is None else 'value, the loss at params'}; got None")
    check_network(value_fn.net, params)
    if getattr(value, "shape", ()) != ():
        raise ValueError(f"{name} needs a value that is one number; got shape {value.shape}")


def check_on_epoch(on_epoch: Any) -> None:
    """Refuse what cannot be called after each epoch.

    Raises:
        TypeError: If it is neither None nor a function.
    """
    if on_epoch is not None and not callable(on_epoch):
        raise TypeError(f"on_epoch must be a function of an epoch's number and metrics; got {on_epoch!r}")


def check_task(net: MLP, task: str | None) -> Task:
    """What predictions are measured by, as asked for or as the loss tells.

    Raises:
        ValueError: If there is no such task, or the loss does not allow it.
    """
    own = task_of(net)
    if task is not None and task not in get_args(Task):
        raise ValueError(f"task must be one of {', '.join(get_args(Task))}; got {task!r}")
    if task in (None, own):
        return own
    if task != "classification":
        raise ValueError(
            f"task must be {' or '.join(sorted({own, 'classification'}))} for {net.loss.name}; got {task!r}"
        )
    return "classification"
