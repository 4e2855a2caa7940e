"""Optimizers and schedules by name: Optax's, the exact line search, Gauss-Newton and K-FAC."""

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import optax

from funcnet.numbers import check_at_least_zero, check_count, check_positive, check_share
from funcnet.training.kronecker import kfac
from funcnet.training.levenberg_marquardt import gauss_newton
from funcnet.training.line_search import exact_line_search
from funcnet.types import Layer, Params

SCHEDULES = ("constant", "cosine", "one_cycle")


def _weights_only(params: Params) -> Params:
    """True for weights, False for biases, which are never penalised."""
    return tuple(Layer._make((True, False)) for _ in params)


class Rule(NamedTuple):
    """An optimizer that can be asked for by name.

    Attributes:
        build: The Optax transformation from the learning rate (where it has one) and its settings.
        learning_rate: The default; None where the length of a step is found by looking at the loss.
        settings: What else can be set, with its default.
        examples: Whether it looks at the examples, and not at the gradient alone.
    """

    build: Callable[..., optax.GradientTransformationExtraArgs | optax.GradientTransformation]
    learning_rate: float | None = None
    settings: Mapping[str, float] = MappingProxyType({})
    examples: bool = False


def _line_search() -> optax.GradientTransformationExtraArgs:
    search = optax.scale_by_backtracking_linesearch(40, increase_factor=2.0, max_learning_rate=1e6, store_grad=True)
    return optax.chain(optax.sgd(1.0), search)


OPTIMIZERS = {
    "sgd": Rule(optax.sgd, 0.1),
    "momentum": Rule(optax.sgd, 0.02, {"momentum": 0.9}),
    "nesterov": Rule(lambda rate, momentum: optax.sgd(rate, momentum, nesterov=True), 0.02, {"momentum": 0.9}),
    "rmsprop": Rule(optax.rmsprop, 1e-3),
    "adam": Rule(optax.adam, 2e-3),
    "adamw": Rule(
        lambda rate, weight_decay: optax.adamw(rate, weight_decay=weight_decay, mask=_weights_only),
        2e-3,
        {"weight_decay": 1e-2},
    ),
    "kfac": Rule(kfac, 0.2, {"momentum": 0.9, "damping": 3e-2}, examples=True),
    "lbfgs": Rule(optax.lbfgs, examples=True),
    "line_search": Rule(_line_search, examples=True),
    "exact_line_search": Rule(exact_line_search, examples=True),
    "gauss-newton": Rule(gauss_newton, None, {"damping": 1e-2}, examples=True),
}
"""Those without a learning rate compare losses, and want all examples in each step: `batch_size=None`."""

FULL_BATCH = tuple(name for name, rule in OPTIMIZERS.items() if rule.learning_rate is None)


def schedule_by_name(
    name: str, learning_rate: float, steps: int | None = None, warmup: int = 0
) -> optax.Schedule | float:
    """The learning rate as a function of the number of steps taken.

    Args:
        name: "constant"; "cosine", down to 0; or "one_cycle", up from 1/25 in 30 % of the steps and down to 0.
        learning_rate: The largest one.
        steps: The number of steps in all; a constant rate without warm-up needs none.
        warmup: The number of steps, of those, in which it first rises from 0 in a straight line.

    Raises:
        TypeError: If steps is no whole number.
        ValueError: If there is no such schedule, the warm-up leaves no step, or one_cycle is to have another warm-up.

    References:
        Loshchilov, Hutter 2017, SGDR: Stochastic Gradient Descent with Warm Restarts.
        Smith, Topin 2018, Super-Convergence.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; got {name!r}")
    if name == "constant" and warmup == 0:
        return learning_rate
    if steps is None:
        raise ValueError(f"steps, the number of steps in all, is needed for the schedule {name} or a warm-up")
    steps = check_count("steps", steps)
    if not 0 <= warmup < steps:
        raise ValueError(f"warmup must be from 0 to less than the {steps} steps there are; got {warmup}")
    if name == "one_cycle":
        if warmup:
            raise ValueError("warmup must be 0 with one_cycle, which has its own")
        # fewer than 4 steps have no room for a rise
        return optax.cosine_onecycle_schedule(steps, learning_rate) if steps > 3 else learning_rate
    after = optax.cosine_decay_schedule(learning_rate, steps - warmup) if name == "cosine" else learning_rate
    if not warmup:
        return after
    rise = optax.linear_schedule(0.0, learning_rate, warmup)
    later = after if callable(after) else optax.constant_schedule(after)
    return optax.join_schedules([lambda count: rise(count + 1), later], [warmup])


@cache
def optimizer_by_name(
    name: str,
    *,
    learning_rate: float | None = None,
    schedule: str | None = None,
    steps: int | None = None,
    warmup: int = 0,
    momentum: float | None = None,
    weight_decay: float | None = None,
    damping: float | None = None,
    clip_norm: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer from plain values, for command lines and configuration files. Equal calls give the same object.

    Args:
        name: One of `OPTIMIZERS`. lbfgs, the line searches and gauss-newton are for `batch_size=None`.
        learning_rate: By default the optimizer's own in `OPTIMIZERS`.
        schedule: One of `SCHEDULES`, by default "constant".
        steps: The number of steps in all, for the others and for a warm-up.
        warmup: Steps in which the learning rate first rises from 0.
        momentum: The share of the last step that is kept, for momentum, nesterov and kfac.
        weight_decay: The share of the weights, times the learning rate, that each step of adamw takes off.
        damping: What is added to the curvature's diagonal: in kfac always, in gauss-newton for the first step.
        clip_norm: Gradients longer than this are shortened to it.

    Raises:
        TypeError: If a number is none.
        ValueError: If there is no such optimizer, a number is out of range, or a setting is not one of the optimizer's.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}")
    rule, given = OPTIMIZERS[name], {"momentum": momentum, "weight_decay": weight_decay, "damping": damping}
    searching = {"learning_rate": learning_rate, "schedule": schedule, "warmup": warmup or None, "clip_norm": clip_norm}
    for setting, value in {**given, **(searching if rule.learning_rate is None else {})}.items():
        if value is not None and setting not in rule.settings:
            reason = ": it finds the length of its steps itself" if setting in searching else ""
            raise ValueError(f"{setting} is not for {name}{reason}; got {value}")
    settings = {**rule.settings} | {key: value for key, value in given.items() if value is not None}
    for setting, check in (
        ("momentum", check_share),
        ("weight_decay", check_at_least_zero),
        ("damping", check_positive),
    ):
        if setting in settings:
            check(setting, settings[setting])
    if rule.learning_rate is None:
        return optax.with_extra_args_support(rule.build(**settings))
    rate = check_positive("learning_rate", rule.learning_rate if learning_rate is None else learning_rate)
    rates = schedule_by_name(schedule or "constant", rate, steps, warmup)
    optimizer = rule.build(rates, **settings)
    if clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(check_positive("clip_norm", clip_norm)), optimizer)
    return optax.with_extra_args_support(optimizer)
