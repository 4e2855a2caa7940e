"""Solvers by scikit-learn's names, as Optax transformations whose settings can change without compiling anew."""

from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import optax

from funcnet.training.checks import check_optimizer
from funcnet.training.optimizers import optimizer_by_name


def _sgd(learning_rate: Any, momentum: Any, nesterov: bool) -> optax.GradientTransformation:
    """As in scikit-learn a step keeps the learning rate it was taken with: v ← m v − η g."""
    return optax.chain(optax.scale_by_learning_rate(learning_rate), optax.trace(momentum, nesterov))


def _adam(learning_rate: Any, b1: Any, b2: Any, eps: Any) -> optax.GradientTransformation:
    """As in scikit-learn ε is added before the deviation is corrected: m̂ / (√v̂ + ε / √(1 − β₂ᵗ)).

    References: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, the end of section 2.
    """

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        t = (state.count + 1).astype(b2.dtype)
        return optax.scale_by_adam(b1, b2, eps / jnp.sqrt(1 - b2**t)).update(updates, state, params)

    rule = optax.GradientTransformation(optax.scale_by_adam(b1, b2, eps).init, update)
    return optax.chain(rule, optax.scale_by_learning_rate(learning_rate))


INJECTED: dict[str, tuple[Callable[..., optax.GradientTransformation], tuple[str, ...]]] = {
    "adam": (_adam, ("b1", "b2", "eps")),
    "rmsprop": (optax.rmsprop, ("eps",)),
    "sgd": (_sgd, ("momentum",)),
}
OWN = ("kfac", "gauss-newton")
SOLVERS = ("lbfgs", *INJECTED, *OWN)


@runtime_checkable
class Settings(Protocol):
    """What a solver is made from: an estimator."""

    solver: Any
    learning_rate_init: float
    momentum: float
    nesterovs_momentum: bool
    beta_1: float
    beta_2: float
    epsilon: float


@cache
def _injected(solver: str, nesterov: bool) -> optax.GradientTransformation:
    """Settings stand in its state, as arrays."""
    build, names = INJECTED[solver]
    more = {"nesterov": nesterov} if solver == "sgd" else {}
    return optax.inject_hyperparams(build, static_args=tuple(more))(
        learning_rate=1e-3, **dict.fromkeys(names, 0.5), **more
    )


def solver_of(settings: Settings) -> optax.GradientTransformation:
    """The transformation; equal settings give the same object, and so compile once."""
    if not isinstance(settings.solver, str):
        check_optimizer(settings.solver)
        return settings.solver
    if settings.solver in INJECTED:
        return _injected(settings.solver, bool(settings.nesterovs_momentum))
    return optimizer_by_name(settings.solver)


def with_settings(state: Any, settings: Settings, learning_rate: float) -> Any:
    """The state with the settings as they are now."""
    if not isinstance(settings.solver, str) or settings.solver not in INJECTED:
        return state
    values = {
        "learning_rate": learning_rate,
        "b1": settings.beta_1,
        "b2": settings.beta_2,
        "eps": settings.epsilon,
        "momentum": settings.momentum,
    }
    own = {name: old.dtype.type(values[name]) if name in values else old for name, old in state.hyperparams.items()}
    return state._replace(hyperparams=own)
