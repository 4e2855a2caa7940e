"""Activations as the functions of `jax.nn` that Flax and Equinox networks are made with, and back."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from funcnet import activations
from funcnet.activations import ACTIVATIONS, Activation

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "identity": jax.nn.identity,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jax.nn.tanh,
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": jax.nn.gelu,  # its own default is the approximation
}
OTHER_NAMES = {jax.lax.tanh: activations.tanh, jax.lax.logistic: activations.sigmoid}


def activation_of(where: str, function: Any) -> Activation:
    """The activation that a function is, found by identity: what functions compute is not guessed.

    Raises:
        ValueError: If it is none that funcnet knows.
    """
    if isinstance(function, partial) and function.func is jax.nn.gelu and list(function.keywords) == ["approximate"]:
        return activations.gelu_tanh if function.keywords["approximate"] else activations.gelu
    for name, activation in ACTIVATIONS.items():
        if function is FUNCTIONS[name] or function is activation.value:
            return activation
    for other, activation in OTHER_NAMES.items():
        if function is other:
            return activation
    called = getattr(function, "__name__", None) or type(function).__name__
    raise ValueError(
        f"{where} must be one of jax.nn's {', '.join(FUNCTIONS)} (partial(jax.nn.gelu, approximate=False) for gelu); "
        f"got {called}"
    )
