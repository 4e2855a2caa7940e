"""Compiler options for the programs that training spends its time in. They change speed, never results beyond rounding.

What each is worth is measured in `benchmarks/NOTES.md`.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from funcnet.network import MLP

Options = tuple[tuple[str, str | bool], ...]

STATIC = ("optimizer", "task", "batch_size")
IN_PLACE: Options = (("xla_cpu_copy_insertion_use_region_analysis", True),)
"""A finer look at who still reads the weights, so that they are updated in place and not copied in every step."""
EIGEN: Options = (("xla_cpu_experimental_ynn_fusion_type", "LIBRARY_FUSION_TYPE_REDUCE"),)
"""Products by Eigen: faster for A W and Aᵀ Δ, slower for Δ Wᵀ, which networks of one hidden layer hardly need."""


def options_for(net: MLP) -> dict[str, str | bool]:
    """The options that make an epoch of this network faster here, as far as the compiler knows them."""
    if jax.default_backend() != "cpu":
        return {}
    wanted = IN_PLACE + (EIGEN if net.n_layers <= 2 else ())
    return {name: value for name, value in wanted if _known(name, value)}


def compiled(function: Callable[..., Any], net: MLP, out_shardings: Any = None) -> Any:
    """A function compiled with the options that suit the network, once for each value of the arguments in `STATIC`.

    Args:
        function: The function.
        net: The network.
        out_shardings: Where on several devices the results are to lie.
    """
    static = tuple(name for name in STATIC if name in inspect.signature(function).parameters)
    leaves, tree = jax.tree.flatten(out_shardings)
    return _compiled(function, static, tuple(options_for(net).items()), tuple(leaves), tree)


@cache
def _compiled(
    function: Callable[..., Any], static: tuple[str, ...], options: Options, leaves: tuple[Any, ...], tree: Any
) -> Any:
    shardings = {"out_shardings": jax.tree.unflatten(tree, leaves)} if leaves else {}
    return jax.jit(function, static_argnames=static, compiler_options=dict(options), **shardings)


@cache
def _known(name: str, value: str | bool) -> bool:
    try:
        jax.jit(lambda: jnp.zeros(()), compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:  # options come and go with the compiler's versions
        return False
    return True
