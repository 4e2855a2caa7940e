"""The parameters of an estimator, checked when it is fitted, as scikit-learn asks."""

from collections.abc import Callable
from typing import Any

import numpy as np

from funcnet.estimators.solvers import SOLVERS
from funcnet.numbers import check_at_least_zero, check_count, check_limit, check_positive, check_share

SCHEDULES = ("constant", "invscaling", "adaptive")
NUMBERS: dict[str, Callable[[str, Any], Any]] = {
    "alpha": check_at_least_zero,
    "learning_rate_init": check_positive,
    "power_t": check_at_least_zero,
    "max_iter": check_count,
    "tol": check_at_least_zero,
    "momentum": check_limit,
    "validation_fraction": check_share,
    "beta_1": check_share,
    "beta_2": check_share,
    "epsilon": check_positive,
    "n_iter_no_change": check_limit,
    "max_fun": check_count,
    "dropout": check_share,
}
SWITCHES = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "restore_best_weights")


def check_settings(estimator: Any) -> None:
    """Refuse a parameter out of its range, by name.

    Raises:
        TypeError: If it is not of its kind.
        ValueError: If it is out of its range.
    """
    for name, check in NUMBERS.items():
        check(name, getattr(estimator, name))
    if estimator.momentum > 1:
        raise ValueError(f"momentum must be in [0, 1]; got {estimator.momentum}")
    if estimator.validation_fraction == 0:
        raise ValueError("validation_fraction must be in (0, 1); got 0")
    for name in SWITCHES:
        if getattr(estimator, name) not in (True, False):
            raise TypeError(f"{name} must be True or False; got {getattr(estimator, name)!r}")
    if estimator.standardize not in (True, False, "auto"):
        raise ValueError(f"standardize must be True, False or 'auto'; got {estimator.standardize!r}")
    if estimator.dtype not in (None, "float32", "float64", np.float32, np.float64):
        raise ValueError(f"dtype must be None, 'float32' or 'float64'; got {estimator.dtype!r}")
    if estimator.learning_rate not in SCHEDULES:
        raise ValueError(f"learning_rate must be one of {', '.join(SCHEDULES)}; got {estimator.learning_rate!r}")
    if isinstance(estimator.solver, str) and estimator.solver not in SOLVERS:
        raise ValueError(
            f"solver must be one of {', '.join(SOLVERS)}, or an Optax transformation; got {estimator.solver!r}"
        )
    if estimator.batch_size != "auto":
        check_count("batch_size", estimator.batch_size)
    hidden = estimator.hidden_layer_sizes
    for size in hidden if hasattr(hidden, "__iter__") else (hidden,):
        check_count("hidden_layer_sizes", size)
