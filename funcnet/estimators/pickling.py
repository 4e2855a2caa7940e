"""What an estimator keeps, as arrays and plain values for a pickle, and back."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.interchange import describe, network_of

TREES = ("_params", "_best_params", "_state")


def as_plain(state: dict[str, Any]) -> dict[str, Any]:
    """The description of the network for the network, NumPy's arrays for JAX's."""
    if "_net" not in state:
        return state
    arrays = {name: jax.tree.map(np.asarray, state[name]) for name in TREES}
    return state | arrays | {"_net": describe(state["_net"]), "_key": np.asarray(jax.random.key_data(state["_key"]))}


def from_plain(state: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `as_plain`."""
    if "_net" not in state:
        return state
    with jax.enable_x64(True):
        arrays = {name: jax.tree.map(jnp.asarray, state[name]) for name in TREES}
    key = jax.random.wrap_key_data(jnp.asarray(state["_key"]))
    return state | arrays | {"_net": network_of(state["_net"]), "_key": key}
