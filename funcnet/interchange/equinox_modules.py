"""Equinox: an MLP as an `eqx.nn.MLP`, and back, bit for bit.

Equinox's weights are outputs × inputs, the transpose of funcnet's, and its modules take one example:
`jax.vmap(module)(x)` takes a batch.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from funcnet.activations import Activation, identity
from funcnet.boundary import check_network
from funcnet.interchange.assembly import Affine, counterpart, network_of_sequence
from funcnet.interchange.jax_functions import FUNCTIONS, activation_of
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.types import Layer, Params


def to_equinox(net: MLP, params: Params) -> Any:
    """An `eqx.nn.MLP`; where hidden layers differ in width or activation, an `eqx.nn.Sequential`.

    The loss, l2, dropout and operand_dtype are not part of it.

    Args:
        net: The network, of funcnet's own activations.
        params: Its parameters.

    Raises:
        TypeError: If params are not those of the network.
        ValueError: If they do not fit it, or an activation is the user's own.
        ModuleNotFoundError: If equinox is not installed.
    """
    import equinox as eqx

    check_network(net, params)
    functions = [counterpart(FUNCTIONS, activation, "jax.nn") for activation in net.activations]
    linears = [_linear(layer) for layer in params]
    if len(set(net.widths[1:-1])) != 1 or len(set(net.activations[:-1])) > 1:
        pairs = zip(linears, functions, net.activations, strict=True)
        parts = [(linear, *([] if a == identity else [eqx.nn.Lambda(function)])) for linear, function, a in pairs]
        return eqx.nn.Sequential([module for part in parts for module in part])
    mlp: Any = eqx.filter_eval_shape(  # a form without numbers, which are put in below
        eqx.nn.MLP,
        net.widths[0],
        net.widths[-1],
        net.widths[1],
        net.n_layers - 1,
        activation=functions[0],
        final_activation=functions[-1],
        key=jax.random.key(0),
    )
    return eqx.tree_at(lambda module: module.layers, mlp, tuple(linears))


def _linear(layer: Layer) -> Any:
    import equinox as eqx

    form: Any = eqx.filter_eval_shape(eqx.nn.Linear, *layer.w.shape, key=jax.random.key(0))
    return eqx.tree_at(
        lambda linear: (linear.weight, linear.bias), form, (jnp.asarray(layer.w).T, jnp.asarray(layer.b))
    )


def from_equinox(module: Any, *, loss: Loss) -> tuple[MLP, Params]:
    """Network and parameters of an `eqx.nn.MLP`, or of an `eqx.nn.Sequential` of Linear, Lambda and Dropout.

    Layers without bias get zeros. Activations are functions of `jax.nn`, or those that Equinox itself takes if told
    nothing.

    Args:
        module: The MLP or the Sequential.
        loss: The loss, which a module does not tell.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is no MLP, or has what funcnet's networks have not.
        ModuleNotFoundError: If equinox is not installed.
    """
    import equinox as eqx

    if type(module) is eqx.nn.MLP:
        items = _mlp_items(module)
    elif type(module) is eqx.nn.Sequential:
        items = ((f"layers[{i}]", _item(f"layers[{i}]", each)) for i, each in enumerate(module.layers))
    else:
        raise TypeError(f"module must be an eqx.nn.MLP or an eqx.nn.Sequential; got {type(module).__name__}")
    return network_of_sequence(items, loss)


def _mlp_items(mlp: Any) -> Iterator[tuple[str, Affine | Activation]]:
    """The parts of an MLP; with `scan` hidden layers are stacked; without hidden layers it has no function."""
    import equinox as eqx

    layers = list(mlp.layers)
    if mlp.scan:
        layers[1:-1] = [jax.tree.map(lambda leaf, i=i: leaf[i], layers[1]) for i in range(mlp.depth - 1)]
    default = inspect.signature(eqx.nn.MLP.__init__).parameters["final_activation"].default
    for i, linear in enumerate(layers):
        name = "activation" if i < mlp.depth else "final_activation"
        function = getattr(mlp, name)
        yield f"layers[{i}]", _item(f"layers[{i}]", linear)
        if mlp.depth:
            yield name, identity if function is default else activation_of(name, function)


def _item(where: str, module: Any) -> Any:
    """What a module is to `network_of_sequence`.

    Raises:
        ValueError: If it is nothing that funcnet's networks have.
    """
    import equinox as eqx

    if type(module) is eqx.nn.Linear:
        return Affine(where, module.weight.T, module.bias)
    if type(module) is eqx.nn.Dropout:
        return float(module.p)
    return activation_of(where, module.fn if type(module) is eqx.nn.Lambda else module)
