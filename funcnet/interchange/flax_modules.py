"""Flax: parameters of `flax.linen` as dictionaries, MLPs of `flax.nnx` as modules; and back, bit for bit.

Flax's kernels are inputs × outputs, as funcnet's weights are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from funcnet.activations import Activation, identity
from funcnet.boundary import check_network
from funcnet.interchange.assembly import Affine, counterpart, network_of_maps, network_of_sequence, ordered
from funcnet.interchange.jax_functions import FUNCTIONS, activation_of
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.types import Params


def to_flax(net: MLP, params: Params) -> dict[str, Any]:
    """The variables of a `flax.linen` MLP of `nn.Dense` layers: {"params": {"Dense_0": {"kernel", "bias"}, …}}.

    Needs no Flax. The variables fit any module that calls `nn.Dense(width)` once for each layer, in order.

    Args:
        net: The network.
        params: Its parameters.

    Raises:
        TypeError: If params are not those of the network.
        ValueError: If they do not fit it.

    >>> import jax
    >>> import funcnet as fn
    >>> from funcnet.interchange import from_flax, to_flax
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.half_squared_error)
    >>> variables = to_flax(net, fn.init(jax.random.key(0), net))
    >>> jax.tree.map(lambda leaf: leaf.shape, variables["params"])
    {'Dense_0': {'bias': (4,), 'kernel': (3, 4)}, 'Dense_1': {'bias': (2,), 'kernel': (4, 2)}}
    >>> from_flax(variables, activation=fn.tanh, loss=fn.half_squared_error)[0] == net
    True
    """
    check_network(net, params)
    return {"params": {f"Dense_{i}": {"kernel": layer.w, "bias": layer.b} for i, layer in enumerate(params)}}


def from_flax(
    variables: Mapping[str, Any],
    *,
    loss: Loss,
    activation: Activation | Sequence[Activation],
    output_activation: Activation = identity,
    order: Sequence[str] | None = None,
) -> tuple[MLP, Params]:
    """Network and parameters of the variables of a `flax.linen` MLP; a layer without bias gets zeros. Needs no Flax.

    Args:
        variables: {"params": {…}} or what is in it, nested as it may be: a kernel and a bias for each layer.
        loss: The loss, which parameters do not tell.
        activation: Of the hidden layers, likewise.
        output_activation: Of the last layer, likewise.
        order: The names of the layers, where numbers in them do not tell: ("inner", "out"), or "MLP_0/inner".

    Raises:
        TypeError: If it is no dictionary, or dtypes differ.
        ValueError: If it holds anything but kernels and biases, or they do not fit one another.
    """
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables must be a dictionary of parameters; got {type(variables).__name__}")
    if "params" in variables and len(variables) > 1:
        others = ", ".join(name for name in variables if name != "params")
        raise ValueError(f"variables must hold params alone; got {others} too")
    groups = dict(_groups(variables.get("params", variables), ""))
    maps = [Affine(name, group["kernel"], group.get("bias")) for name, group in ordered(groups, order).items()]
    return network_of_maps(maps, loss=loss, activation=activation, output_activation=output_activation)


def _groups(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The layers in a tree, by the path to each."""
    for name, value in tree.items():
        where = f"{path}/{name}" if path else str(name)
        if not isinstance(value, Mapping):
            raise ValueError(f"variables must hold a kernel and a bias for each layer and nothing else; got {where}")
        if not value or any(isinstance(inner, Mapping) for inner in value.values()):
            yield from _groups(value, where)
        elif "kernel" in value and set(value) <= {"kernel", "bias"}:
            yield where, value
        else:
            raise ValueError(f"{where} must hold a kernel and a bias; got {', '.join(map(str, value))}")


def to_nnx(net: MLP, params: Params) -> Any:
    """An `nnx.Sequential` of `nnx.Linear` and functions of `jax.nn`, whose outputs are those of `apply`.

    The loss, l2, dropout and operand_dtype are not part of it.

    Args:
        net: The network, of funcnet's own activations.
        params: Its parameters.

    Raises:
        TypeError: If params are not those of the network.
        ValueError: If they do not fit it, or an activation is the user's own.
        ModuleNotFoundError: If flax is not installed.
    """
    from flax import nnx

    check_network(net, params)
    modules: list[Any] = []
    for (w, b), activation in zip(params, net.activations, strict=True):
        kernel, bias = jnp.asarray(w), jnp.asarray(b)
        initial: Any = {"kernel_init": lambda *_, of=kernel: of, "bias_init": lambda *_, of=bias: of}
        modules.append(nnx.Linear(*w.shape, param_dtype=kernel.dtype, rngs=nnx.Rngs(0), **initial))
        if activation != identity:
            modules.append(counterpart(FUNCTIONS, activation, "jax.nn"))
    return nnx.Sequential(*modules)


def from_nnx(module: Any, *, loss: Loss) -> tuple[MLP, Params]:
    """Network and parameters of an `nnx.Sequential` of `nnx.Linear`, functions of `jax.nn` and `nnx.Dropout`.

    Args:
        module: The Sequential. Of another module, `from_flax(nnx.to_pure_dict(nnx.state(module, nnx.Param)), …)` takes
            the parameters.
        loss: The loss, which a module does not tell.

    Raises:
        TypeError: If it is no Sequential.
        ValueError: If it is no MLP, or has what funcnet's networks have not.
        ModuleNotFoundError: If flax is not installed.
    """
    from flax import nnx

    if type(module) is not nnx.Sequential:
        raise TypeError(f"module must be an nnx.Sequential of nnx.Linear and functions; got {type(module).__name__}")

    def item(where: str, each: Any) -> Affine | Activation | float:
        if type(each) is nnx.Linear:
            state: Any = nnx.to_pure_dict(nnx.state(each, nnx.Param))
            return Affine(where, state["kernel"], state.get("bias"))
        return float(each.rate) if type(each) is nnx.Dropout else activation_of(where, each)

    items = ((f"layers[{i}]", item(f"layers[{i}]", each)) for i, each in enumerate(module.layers))
    return network_of_sequence(items, loss)
