"""What every framework's reader needs: named affine maps and activations put together to a network, nothing guessed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from funcnet.activations import ACTIVATIONS, Activation, identity, relu
from funcnet.boundary import check_network
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.precision import is_floating
from funcnet.types import AnyArray, Layer, Params

T = TypeVar("T")
NO_MAPS = "a network must have at least one affine map; got none"


class Affine(NamedTuple):
    """One affine map of another framework, its matrix brought to inputs × outputs; no bias stands for zeros.

    Attributes:
        name: What it is called there, for messages.
        w: The weights.
        b: The biases, or None.
    """

    name: str
    w: Shaped[AnyArray, "..."]
    b: Shaped[AnyArray, "..."] | None


def held(name: str, array: AnyArray) -> Array:
    """An array as JAX's, bit for bit.

    Raises:
        ValueError: If JAX would round it.
    """
    kept = array if isinstance(array, jax.Array) else jnp.array(array)  # a copy: its owner may write into it
    if kept.dtype != array.dtype:
        raise ValueError(f"{name} is {array.dtype}, which JAX holds only with jax_enable_x64")
    return kept


def _params_of(maps: Sequence[Affine]) -> Params:
    """The parameters that affine maps make, one behind the other.

    Raises:
        TypeError: If their dtypes are not one floating-point dtype.
        ValueError: If there are none, or a shape does not fit.
    """
    if not maps:
        raise ValueError(NO_MAPS)
    layers = []
    for i, (name, w, b) in enumerate(maps):
        if w.ndim != 2 or not is_floating(w):
            raise ValueError(f"{name} must have a matrix of floating-point weights; got {w.dtype} of shape {w.shape}")
        if i and layers[-1].w.shape[1] != w.shape[0]:
            before = layers[-1].w.shape[1]
            raise ValueError(f"{name} takes {w.shape[0]} inputs, but {maps[i - 1].name} before it gives {before}")
        if b is not None and b.shape != w.shape[1:]:
            raise ValueError(f"{name} must have {w.shape[1]} biases, one for each output; got shape {b.shape}")
        weights = held(f"the weights of {name}", w)
        layers.append(Layer(weights, _biases(name, weights, b)))
    return tuple(layers)


def _biases(name: str, weights: Float[Array, "i o"], b: AnyArray | None) -> Array:
    if b is None:
        return jnp.zeros(weights.shape[1], weights.dtype)
    return held(f"the biases of {name}", b)


def network_of_maps(
    maps: Sequence[Affine],
    *,
    loss: Loss,
    activation: Activation | Sequence[Activation],
    output_activation: Activation = identity,
    dropout: Any = None,
) -> tuple[MLP, Params]:
    """The network of affine maps, one behind the other, and its parameters; one activation stands for equal ones.

    Raises:
        TypeError: If an activation or the loss is not of its kind, or dtypes differ.
        ValueError: If activations or loss do not fit the widths.
    """
    params = _params_of(maps)
    hidden = activation if isinstance(activation, Activation) else tuple(activation)
    if isinstance(hidden, tuple) and len(hidden) == len(params) - 1 and len(set(hidden)) <= 1:
        hidden = hidden[0] if hidden else relu  # MLP's own default where there is no hidden layer
    widths = (params[0].w.shape[0], *(layer.w.shape[1] for layer in params))
    net = MLP(widths, activation=hidden, output_activation=output_activation, loss=loss, dropout=dropout)
    check_network(net, params)
    return net, params


def ordered(groups: Mapping[str, T], order: Sequence[str] | None) -> dict[str, T]:
    """Layers by name in the order in which they are applied: as told, or by the numbers in their names.

    Raises:
        ValueError: If the names tell no order, or `order` is not of these names.
    """
    if order is not None:
        if sorted(order) != sorted(groups):
            raise ValueError(f"order must hold each of {', '.join(groups)} once; got {', '.join(order)}")
        return {name: groups[name] for name in order}
    if len(groups) == 1:
        return dict(groups)
    words = {re.sub(r"\d+", "0", name) for name in groups}
    numbers = {name: [int(number) for number in re.findall(r"\d+", name)] for name in groups}
    if len(words) > 1:
        raise ValueError(
            f"the order of layers {', '.join(groups)} cannot be told from their names: give order=(first, …, last)"
        )
    return {name: groups[name] for name in sorted(groups, key=numbers.__getitem__)}


def network_of_sequence(items: Iterable[tuple[str, Affine | Activation | float]], loss: Loss) -> tuple[MLP, Params]:
    """Network and parameters of a sequence of named affine maps, activations, and shares of dropout (a float).

    Raises:
        TypeError: If the loss is none, or dtypes differ.
        ValueError: If it is no MLP; the message names what does not fit.
    """
    maps, found, dropped = [], [], []
    for name, item in items:
        if isinstance(item, Affine):
            maps.append(item)
            found.append(None)
            dropped.append(0.0)
        elif not maps:
            raise ValueError(f"{name} stands before the first affine map, where funcnet's networks have nothing")
        elif isinstance(item, Activation):
            if found[-1] is not None or dropped[-1]:
                raise ValueError(f"{name} must stand right behind an affine map, one for each")
            found[-1] = item
        else:
            dropped[-1] = 1 - (1 - dropped[-1]) * (1 - item) if dropped[-1] else item
    if not maps:
        raise ValueError(NO_MAPS)
    hidden, last = set(dropped[:-1]), dropped[-1]
    if len(hidden) > 1 or last:
        raise ValueError(
            "dropout must be behind every hidden layer with one share and not behind the outputs, as funcnet's is; "
            f"got shares {', '.join(f'{share:g}' for share in dropped)}: put an identity in its place"
        )
    *activations, output_activation = (activation or identity for activation in found)
    dropout = hidden.pop() or None if hidden else None
    return network_of_maps(
        maps, loss=loss, activation=activations, output_activation=output_activation, dropout=dropout
    )


def counterpart(table: Mapping[str, T], activation: Activation, framework: str) -> T:
    """What stands for one of funcnet's activations in another framework.

    Raises:
        ValueError: If there is nothing.
    """
    if ACTIVATIONS.get(activation.name) != activation or activation.name not in table:
        raise ValueError(f"activation {activation.name!r} has no counterpart in {framework}; it has {', '.join(table)}")
    return table[activation.name]
