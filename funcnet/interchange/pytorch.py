"""PyTorch: an MLP as an `nn.Sequential`, and back, bit for bit.

PyTorch's weights are outputs × inputs, the transpose of funcnet's. Nothing here reads or writes a pickle: `torch.save`
makes one; `safetensors.torch.save_file(module.state_dict(), path)` does not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped

from funcnet import activations
from funcnet.activations import Activation, identity
from funcnet.boundary import check_network
from funcnet.interchange.assembly import Affine, counterpart, network_of_maps, network_of_sequence, ordered
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.types import AnyArray, Layer, Params

LINKS: dict[str, tuple[str, ...]] = {
    "Softmax": ("softmax_cross_entropy", "softmax_cross_entropy_chunked", "label_smoothed"),
    "LogSoftmax": ("softmax_cross_entropy", "softmax_cross_entropy_chunked", "label_smoothed"),
    "Sigmoid": ("sigmoid_cross_entropy",),
}
"""Last modules that funcnet has in its loss: its networks end in logits."""
SOFTPLUS_THRESHOLD = 40.0
"""From here on softplus is linear in PyTorch: at its own 20 that costs digits of float64."""


def to_torch(net: MLP, params: Params) -> Any:
    """An `nn.Sequential` of Linear, activation and Dropout modules in the parameters' dtype.

    Its outputs are those of `apply`. It has its own copy of the parameters, and is in training mode, as new modules
    are: `.eval()` switches dropout off.
    The loss, l2 and operand_dtype are not part of it.

    Args:
        net: The network, of funcnet's own activations.
        params: Its parameters.

    Raises:
        TypeError: If params are not those of the network.
        ValueError: If they do not fit it, or an activation is the user's own.
        ModuleNotFoundError: If torch is not installed.
    """
    from torch import nn

    check_network(net, params)
    modules: list[Any] = []
    for i, (layer, activation) in enumerate(zip(params, net.activations, strict=True)):
        modules.append(_linear(layer))
        if activation != identity:
            modules.append(counterpart(_makers(), activation, "PyTorch")())
        if i < net.n_layers - 1 and net.dropout is not None:
            modules.append(nn.Dropout(float(net.dropout)))
    return nn.Sequential(*modules)


def from_torch(
    module: Any,
    *,
    loss: Loss,
    activation: Activation | Sequence[Activation] | None = None,
    output_activation: Activation | None = None,
    order: Sequence[str] | None = None,
) -> tuple[MLP, Params]:
    """Network and parameters of an `nn.Sequential`, or of the `state_dict()` of any MLP.

    Off a Sequential all is read but the loss: Linear (without bias: zeros), activations, Dropout, Identity, Flatten,
    and Sequentials in it. A last Softmax or LogSoftmax goes into the softmax cross-entropy, a last Sigmoid into that
    of sigmoids.

    Args:
        module: The Sequential, or a state dictionary of matrices and biases, tensors or arrays: "0.weight", "0.bias",
            "2.weight", …; "fc1.weight", ….
        loss: The loss that it was trained with: a module does not tell.
        activation: Of the hidden layers, for a state dictionary alone, which does not tell.
        output_activation: Of the last layer, likewise; the identity if left out.
        order: The names of the layers of a state dictionary, where numbers in them do not tell: ("inner", "out").

    Raises:
        TypeError: If it is neither, or activations are missing or not asked for.
        ValueError: If it is no MLP, has what funcnet's networks have not, or is float64 without jax_enable_x64.
        ModuleNotFoundError: If torch is not installed.
    """
    if isinstance(module, Mapping):
        return _from_state(module, loss, activation, output_activation or identity, order)
    if not _is_sequential(module):
        raise TypeError(
            "module must be an nn.Sequential of Linear and activation modules, or the state_dict() of an MLP with its "
            f"activation; got {type(module).__name__}"
        )
    if not (activation is None and output_activation is None and order is None):
        raise TypeError("activation, output_activation and order are read off an nn.Sequential: leave them out")
    found = [(f"module {name}, {' '.join(str(each).split())},", each) for name, each in _flat(module, "")]
    if found and _is_link(found[-1][1], loss):
        found.pop()
    return network_of_sequence(((where, _item(where, each)) for where, each in found), loss)


def _from_state(
    state: Mapping[str, Any],
    loss: Loss,
    activation: Activation | Sequence[Activation] | None,
    output_activation: Activation,
    order: Sequence[str] | None,
) -> tuple[MLP, Params]:
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in state.items():
        name, _, kind = key.rpartition(".")
        if kind not in ("weight", "bias"):
            raise ValueError(f"module must have a weight and a bias for each layer and nothing else; got {key!r}")
        groups.setdefault(name, {})[kind] = _array(tensor)
    if lacking := [name for name, group in groups.items() if "weight" not in group]:
        raise ValueError(f"module must have a weight for each bias; {lacking[0]}.weight is missing")
    if activation is None and len(groups) > 1:
        raise TypeError("activation must be given with a state dictionary, which does not tell it")
    maps = [Affine(name, group["weight"].T, group.get("bias")) for name, group in ordered(groups, order).items()]
    given = identity if activation is None else activation
    return network_of_maps(maps, loss=loss, activation=given, output_activation=output_activation)


def _flat(module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """The modules of a Sequential and of those in it, without what does nothing to a batch of rows."""
    from torch import nn

    for i, each in enumerate(module):  # not named_children(), which leaves out a module that comes again
        where = f"{prefix}{i}"
        if _is_sequential(each):
            yield from _flat(each, f"{where}.")
        elif type(each) is nn.Flatten and (each.start_dim, each.end_dim) == (1, -1):
            continue
        elif type(each) is not nn.Identity:
            yield where, each


def _is_sequential(module: Any) -> bool:
    """Whether it applies what it holds one after the other."""
    from torch import nn

    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _is_link(module: Any, loss: Loss) -> bool:
    """Whether it is what the loss does to logits."""
    return getattr(loss, "name", None) in LINKS.get(type(module).__name__, ()) and getattr(module, "dim", 1) in (
        1,
        -1,
        None,
    )


def _item(where: str, module: Any) -> Affine | Activation | float:
    """What a module is to `network_of_sequence`.

    Raises:
        ValueError: If it is nothing that funcnet's networks have.
    """
    from torch import nn

    if type(module) is nn.Linear:
        if extra := set(dict(module.named_parameters())) - {"weight", "bias"}:
            raise ValueError(f"{where} must have weight and bias as its parameters; got {', '.join(sorted(extra))}")
        return Affine(where, _array(module.weight).T, None if module.bias is None else _array(module.bias))
    if type(module) is nn.Dropout:
        return float(module.p)
    for name, make in _makers().items():
        same = make()
        if type(module) is type(same) and _settings(module) == _settings(same):
            return activations.by_name(name)
    constants = "leaky_relu of slope 0.01, elu of alpha 1, softplus of beta 1 and threshold 20 or more"
    hint = "; it has " + constants if type(module) in (nn.LeakyReLU, nn.ELU, nn.Softplus) else ""
    link = "; the last may be dropped with the cross-entropy it belongs to as loss" if "Softmax" in where else ""
    raise ValueError(f"{where} is nothing that funcnet's networks have{hint}{link}")


def _settings(module: Any) -> dict[str, Any]:
    """What tells two activation modules of one type apart."""
    names = ("negative_slope", "alpha", "beta", "approximate")
    settings = {name: getattr(module, name) for name in names if hasattr(module, name)}
    return settings | ({"is_whole": module.threshold >= 20} if hasattr(module, "threshold") else {})


def _makers() -> dict[str, Callable[[], Any]]:
    """A module for each activation."""
    from torch import nn

    return {
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "selu": nn.SELU,
        "softplus": partial(nn.Softplus, threshold=SOFTPLUS_THRESHOLD),
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
        "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    }


def _linear(layer: Layer) -> Any:
    from torch import nn

    n_in, n_out = layer.w.shape
    linear = nn.Linear(n_in, n_out, device="meta")  # draws no numbers
    linear.weight, linear.bias = nn.Parameter(_tensor(layer.w.T)), nn.Parameter(_tensor(layer.b))
    return linear


def _tensor(array: Shaped[AnyArray, "..."]) -> Any:
    """A tensor of its own memory; NumPy's bfloat16 is foreign to PyTorch, its bits are not."""
    import torch

    values = np.array(array, order="C")
    if values.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(values)


def _array(tensor: Any) -> Shaped[np.ndarray, "..."]:
    """A tensor's values; what is an array already needs no PyTorch."""
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    import torch

    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return values.numpy()
