"""How an estimator is trained: passes until nothing gets better, or L-BFGS."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from numpy.random import RandomState
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from funcnet.estimators import passes
from funcnet.estimators.examples import Data
from funcnet.estimators.solvers import solver_of, with_settings
from funcnet.training.epoch import State, new_state
from funcnet.training.metrics import task_of
from funcnet.types import Params

SMALLEST_RATE = 1e-6
"""scikit-learn's: learning_rate="adaptive" stops below."""
LARGEST_BATCH = 200
LEAST_PROGRESS = 2.2e-9, 4
"""L-BFGS has converged when an iteration lowers the loss by less, relatively, or by fewer units of its last place."""


def forget(estimator: Any) -> None:
    """Begin all that is kept about a run."""
    estimator.t_ = 0
    estimator.loss_curve_ = []
    estimator.validation_loss_curve_ = estimator.validation_scores_ = estimator.best_validation_score_ = None
    estimator.best_loss_ = None if estimator.early_stopping else np.inf
    estimator._no_improvement_count = 0
    estimator._best_params = None
    estimator._rate = estimator._first_rate = estimator.learning_rate_init


def train(estimator: Any, data: Data, validation: Data | None, random: RandomState, incremental: bool) -> None:
    """Train on data: until nothing gets better, or `incremental` in one pass."""
    iterations = 1 if incremental else estimator.max_iter
    if estimator._first_rate != estimator.learning_rate_init:
        estimator._rate = estimator._first_rate = estimator.learning_rate_init
    if not _stops_early(estimator, validation) and estimator.best_loss_ is None:
        estimator.best_loss_ = np.inf
    if validation is not None and estimator.validation_scores_ is None:
        estimator.validation_scores_, estimator.validation_loss_curve_ = [], []
        estimator.best_validation_score_ = -np.inf
    if estimator.solver == "lbfgs":
        _by_lbfgs(estimator, data, validation, iterations)
    else:
        _by_passes(estimator, data, validation, random, iterations, incremental)
    restored = validation is not None and estimator.restore_best_weights and estimator._best_params is not None
    if restored:
        estimator._params = estimator._best_params
    finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(estimator._params))
    if np.isfinite(estimator.loss_) and finite:
        return
    said = f"the loss or a parameter was not finite in iteration {estimator.n_iter_}"
    if not restored:
        raise ValueError(f"{said}: scale X (and y), or take a smaller learning_rate_init")
    warnings.warn(f"{said}; the best parameters before are kept", ConvergenceWarning, stacklevel=4)


def _stops_early(estimator: Any, validation: Data | None) -> bool:
    """Whether what counts is the score of a validation set."""
    return estimator.early_stopping and validation is not None


def _by_passes(
    estimator: Any, data: Data, validation: Data | None, random: RandomState, iterations: int, incremental: bool
) -> None:
    n, net, optimizer = len(data.x), estimator._net, solver_of(estimator)
    size = _batch_size(estimator, n)
    examples, task = passes.padded(*data), task_of(net)
    state = _first_state(estimator, optimizer)
    alone = incremental or validation is not None or estimator.learning_rate == "invscaling"
    together = 1 if alone else passes.at_once(n, size)
    rate, numbers, done = None, np.arange(n), 0
    try:
        while done < iterations:
            if rate != estimator._rate:
                rate = estimator._rate
                state = state._replace(opt_state=with_settings(state.opt_state, estimator, rate))
            drawn = _orders(estimator, numbers, random, min(together, iterations - done))
            plan, before = passes.orders([order for order, _ in drawn], size, together), state
            state, losses = passes.run(net, optimizer, plan, before, examples, task)
            for number, loss in enumerate(losses.tolist(), 1):
                estimator.t_, estimator.n_iter_ = estimator.t_ + n, done + number
                _note(estimator, state.params, loss, validation)
                over = not np.isfinite(loss) or _is_over(estimator)
                if over or rate != estimator._rate:
                    break
            if number < plan.passes:  # the same steps again, but only to here
                state, _ = passes.run(net, optimizer, plan._replace(passes=number), before, examples, task)
                random.set_state(drawn[number - 1][1])
            done, numbers = done + number, drawn[number - 1][0]
            estimator._params, estimator._key, estimator._state = state.params, state.key, state.opt_state
            if over:
                break
        else:
            if not incremental:
                _warn(f"max_iter={iterations} iterations were not enough to converge")
    except KeyboardInterrupt:
        warnings.warn("training was interrupted; what was learned is kept", stacklevel=5)


def _first_state(estimator: Any, optimizer: optax.GradientTransformation) -> State:
    """With what the solver kept, if it is this solver's."""
    state, kept = new_state(estimator._key, estimator._params, optimizer), estimator._state
    fits = kept is not None and jax.tree.structure(kept) == jax.tree.structure(state.opt_state)
    return state._replace(opt_state=kept) if fits else state


def _orders(estimator: Any, numbers: np.ndarray, random: RandomState, count: int) -> list[tuple[np.ndarray, Any]]:
    """The orders of passes, each that before as `sklearn.utils.shuffle` shuffles it, and the generator behind each."""
    drawn = []
    for _ in range(count):
        if estimator.shuffle:
            order = np.arange(len(numbers))
            random.shuffle(order)
            numbers = numbers[order]
        drawn.append((numbers, random.get_state()))
    return drawn


def _batch_size(estimator: Any, n: int) -> int:
    if estimator.solver == "gauss-newton":
        return n
    if estimator.batch_size == "auto":
        return min(LARGEST_BATCH, n)
    if estimator.batch_size > n:
        warnings.warn(f"batch_size {estimator.batch_size} is more than the {n} examples; it is {n} now", stacklevel=6)
    return min(estimator.batch_size, n)


def _note(estimator: Any, params: Params, loss: float, validation: Data | None) -> None:
    """Keep curves and the best parameters, and count iterations without progress."""
    estimator.loss_ = loss
    estimator.loss_curve_.append(loss)
    say = [f"Iteration {estimator.n_iter_}, loss = {loss:.8f}"]
    if validation is not None:
        out = passes.outputs(estimator._net, params, validation.x)
        values = np.asarray(passes.losses(estimator._net, *passes.padded(out, validation.y, validation.weights)[:2]))
        mean = float(np.average(values[: len(out)], weights=validation.weights))
        score = estimator._score(out, validation.y, validation.weights)
        estimator.validation_loss_curve_.append(mean)
        estimator.validation_scores_.append(score)
        say.append(f"validation loss = {mean:.8f}, score = {score:.6f}")
    if estimator.verbose:
        print("; ".join(say))
    if _stops_early(estimator, validation):
        better = estimator.validation_scores_[-1] >= estimator.best_validation_score_ + estimator.tol
    else:
        better = loss <= estimator.best_loss_ - estimator.tol
        estimator.best_loss_ = min(loss, estimator.best_loss_)
    estimator._no_improvement_count = 0 if better else estimator._no_improvement_count + 1
    if validation is not None and estimator.validation_scores_[-1] > estimator.best_validation_score_:
        estimator.best_validation_score_, estimator._best_params = estimator.validation_scores_[-1], params


def _is_over(estimator: Any) -> bool:
    """Whether nothing gets better any more; first the learning rate may fall."""
    by_rate = estimator.solver == "sgd"
    if by_rate and estimator.learning_rate == "invscaling":
        estimator._rate = estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t
    if estimator._no_improvement_count <= estimator.n_iter_no_change:
        return False
    estimator._no_improvement_count = 0
    if by_rate and estimator.learning_rate == "adaptive" and estimator._rate > SMALLEST_RATE:
        estimator._rate /= 5
        if estimator.verbose:
            print(f"learning rate is {estimator._rate:g} now")
        return False
    if estimator.verbose:
        what = "validation score" if estimator.early_stopping else "training loss"
        print(f"{what} did not improve by tol={estimator.tol:g} in {estimator.n_iter_no_change} iterations")
    return True


def _by_lbfgs(estimator: Any, data: Data, validation: Data | None, iterations: int) -> None:
    """SciPy's L-BFGS-B, as in scikit-learn."""
    net, examples = estimator._net, passes.padded(*data)
    start, unravel = ravel_pytree(estimator._params)
    estimator.n_iter_ = 0

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, grads = passes.whole_value_and_grad(net, unravel(jnp.asarray(flat, start.dtype)), examples)
        return float(value), np.asarray(ravel_pytree(grads)[0], np.float64)

    def after(intermediate_result: OptimizeResult) -> None:
        estimator.n_iter_ += 1
        _note(estimator, unravel(jnp.asarray(intermediate_result.x, start.dtype)), intermediate_result.fun, validation)
        patience_is_over = estimator._no_improvement_count > estimator.n_iter_no_change
        if _stops_early(estimator, validation) and patience_is_over:
            raise StopIteration

    limits = {"maxiter": iterations, "maxfun": estimator.max_fun, "gtol": estimator.tol}
    least = {"ftol": max(LEAST_PROGRESS[0], LEAST_PROGRESS[1] * float(jnp.finfo(start.dtype).eps))}
    found = minimize(
        objective, np.asarray(start, np.float64), jac=True, method="L-BFGS-B", callback=after, options=limits | least
    )
    estimator._params, estimator.loss_ = unravel(jnp.asarray(found.x, start.dtype)), float(found.fun)
    estimator.t_ += found.nfev * len(data.x)
    if found.nit >= iterations or found.nfev >= estimator.max_fun:
        _warn(f"L-BFGS did not converge in {found.nit} iterations and {found.nfev} evaluations")


def _warn(what: str) -> None:
    warnings.warn(f"{what}: raise max_iter, or scale X", ConvergenceWarning, stacklevel=6)
