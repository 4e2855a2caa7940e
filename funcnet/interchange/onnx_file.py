"""A network as an ONNX file, with all that it takes to predict from raw features."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from funcnet.activations import Activation
from funcnet.activations.piecewise import SELU_ALPHA, SELU_SCALE
from funcnet.activations.sigmoidal import GELU_CUBIC, SQRT_2_OVER_PI
from funcnet.boundary import check_network
from funcnet.data.standardisation import Standardisation
from funcnet.interchange.description import checked_text, describe
from funcnet.interchange.scales import checked_scales
from funcnet.interchange.weights_file import write_whole
from funcnet.network import MLP
from funcnet.precision import work_dtype
from funcnet.types import Layer, Params

OPSET, IR_VERSION = 20, 9
"""The first opset that has Gelu, and the file version that belongs to it, so that older runtimes read it too."""
LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "sigmoid_cross_entropy": ("Sigmoid", {}),
    "softmax_cross_entropy": ("Softmax", {"axis": 1}),
    "softmax_cross_entropy_chunked": ("Softmax", {"axis": 1}),
    "label_smoothed": ("Softmax", {"axis": 1}),
    "poisson": ("Exp", {}),
}
"""What each loss's inverse link is in ONNX; it is nothing for the other losses."""
OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    "softplus": ("Softplus", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "gelu": ("Gelu", {}),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}),
}
"""Activations that are one operator."""
NARROW = ("leaky_relu", "elu", "selu", "softplus", "gelu", "gelu_tanh")
"""Those of them that runtimes have for float32 alone, or with constants of float32."""


class Graph(NamedTuple):
    """A graph under construction: nodes, and constants by name; values are known by their names.

    Attributes:
        nodes: The nodes, in the order in which they run.
        constants: Weights and numbers.
        dtype: What is computed in.
    """

    nodes: list[Any]
    constants: dict[str, np.ndarray]
    dtype: np.dtype


def to_onnx(
    net: MLP,
    params: Params,
    path: str | Path,
    *,
    features: Any = None,
    targets: Any = None,
    probabilities: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network as an ONNX file: input "x" of any number of rows, output "probabilities" or "outputs".

    It computes in the parameters' dtype, in float32 for float16 and bfloat16, and has passed `onnx.checker`. Dropout is
    no part of it. The description of the network is in its metadata as "network".

    Args:
        net: The network, of funcnet's own activations and losses.
        params: Its parameters.
        path: The file, written whole or not at all.
        features: How raw features are scaled before they enter, a `Standardisation` or a fitted StandardScaler or
            MinMaxScaler of scikit-learn; the file then takes raw features.
        targets: How the numbers to predict were scaled, likewise; the file then gives them in their own units.
        probabilities: Whether to end in the loss's inverse link: probabilities of cross-entropies, rates of poisson.
            Else outputs are those of `apply`, logits and logarithms of rates.
        metadata: Further text by name; of class names such as `json.dumps(model.classes_.tolist())`.

    Raises:
        TypeError: If params are not those of the network, or a scale or metadata are not of their kind.
        ValueError: If they do not fit it, an activation or loss is the user's own, or gelu is asked for in float64,
            whose erf runtimes do not have.
        OSError: If the file cannot be written.
        ModuleNotFoundError: If onnx is not installed (it is in the extra `export`).
    """
    import onnx
    from onnx import helper, numpy_helper

    check_network(net, params)
    features, targets = checked_scales(net, features, targets)
    props = {**checked_text(metadata), "network": json.dumps(describe(net))}
    graph = Graph([], {}, work_dtype(params[0].w.dtype))
    _build(graph, net, params, features, targets, probabilities)
    output = "probabilities" if probabilities and net.loss.logits else "outputs"
    graph.nodes[-1].output[0] = output
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "funcnet",
            [helper.make_tensor_value_info("x", kind, ["n", net.widths[0]])],
            [helper.make_tensor_value_info(output, kind, ["n", net.widths[-1]])],
            [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="funcnet",
    )
    helper.set_model_props(model, props)
    onnx.checker.check_model(model, full_check=True)
    write_whole(Path(path), model.SerializeToString())


def _build(
    graph: Graph,
    net: MLP,
    params: Params,
    features: Standardisation | None,
    targets: Standardisation | None,
    probabilities: bool,
) -> None:
    """Scales, layers, link and scales again, as funcnet computes them: what is scaled is so in float64."""
    value = "x"
    if features is not None:
        centred = _add(graph, "Sub", _cast(graph, value, np.float64), _constant(graph, "features.mean", features.mean))
        value = _cast(graph, _add(graph, "Div", centred, _constant(graph, "features.scale", features.scale)))
    for i, (layer, activation) in enumerate(zip(params, net.activations, strict=True)):
        value = _activation(graph, activation, _affine(graph, f"layers.{i}", layer, value, net.operand_dtype))
    if probabilities and net.loss.name in LINKS:
        operator, attributes = LINKS[net.loss.name]
        value = _add(graph, operator, value, **attributes)
    if targets is not None:
        grown = _add(graph, "Mul", _cast(graph, value, np.float64), _constant(graph, "targets.scale", targets.scale))
        _cast(graph, _add(graph, "Add", grown, _constant(graph, "targets.mean", targets.mean)))


def _add(graph: Graph, operator: str, *inputs: str, **attributes: Any) -> str:
    """A node of one output, which is called by what comes back."""
    from onnx import helper

    name = f"{operator.lower()}_{len(graph.nodes)}"
    graph.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
    return name


def _constant(graph: Graph, name: str, value: Float[np.ndarray, "*s"]) -> str:
    graph.constants[name] = value
    return name


def _number(graph: Graph, value: float) -> str:
    return _constant(graph, repr(value), np.asarray(value, graph.dtype))


def _cast(graph: Graph, value: str, to: Any = None) -> str:
    from onnx import helper

    return _add(graph, "Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(to or graph.dtype)))


def _affine(graph: Graph, name: str, layer: Layer, value: str, operand_dtype: str | None) -> str:
    """X W + 1 bᵀ; operands that are rounded to bfloat16 are rounded here too, the weights for good."""
    from onnx import TensorProto

    w, b = (np.asarray(leaf).astype(graph.dtype) for leaf in layer)
    if operand_dtype is not None:
        w = w.astype(operand_dtype).astype(graph.dtype)
        value = _cast(graph, _add(graph, "Cast", value, to=TensorProto.BFLOAT16))
    return _add(graph, "Gemm", value, _constant(graph, f"{name}.w", w), _constant(graph, f"{name}.b", b))


def _activation(graph: Graph, activation: Activation, z: str) -> str:
    name = activation.name
    if name == "identity":
        return z
    if name == "silu":
        return _add(graph, "Mul", z, _add(graph, "Sigmoid", z))
    if graph.dtype == np.float64 and name in NARROW:
        return _wide(graph, activation, z)
    operator, attributes = OPERATORS[name]
    return _add(graph, operator, z, **attributes)


def _wide(graph: Graph, activation: Activation, z: str) -> str:
    """In float64, of operators that runtimes have for it.

    Raises:
        ValueError: If there are none: gelu needs erf.
    """
    if activation.name == "gelu":
        raise ValueError("gelu cannot be written in float64, for which runtimes have no erf: take params in float32")
    if activation.name == "gelu_tanh":  # z σ(2 √(2/π) (z + 0.044715 z³))
        cube = _add(graph, "Mul", _add(graph, "Mul", z, z), _add(graph, "Mul", z, _number(graph, GELU_CUBIC)))
        inner = _add(graph, "Mul", _add(graph, "Add", z, cube), _number(graph, 2 * SQRT_2_OVER_PI))
        return _add(graph, "Mul", z, _add(graph, "Sigmoid", inner))
    zero = _number(graph, 0.0)
    above = _add(graph, "Max", z, zero)
    if activation.name == "softplus":  # max(z, 0) + log(1 + e^{−|z|})
        tail = _add(graph, "Exp", _add(graph, "Neg", _add(graph, "Abs", z)))
        return _add(graph, "Add", above, _add(graph, "Log", _add(graph, "Add", tail, _number(graph, 1.0))))
    below = _add(graph, "Min", z, zero)
    if activation.name == "leaky_relu":
        return _add(graph, "Add", above, _add(graph, "Mul", below, _number(graph, activation.constants[0])))
    alpha, scale = activation.constants  # s (max(z, 0) + α (e^{min(z, 0)} − 1)), e^v − 1 as (e^v + 1) tanh(v/2)
    half = _add(graph, "Tanh", _add(graph, "Mul", below, _number(graph, 0.5)))
    minus_one = _add(graph, "Mul", half, _add(graph, "Add", _add(graph, "Exp", below), _number(graph, 1.0)))
    curved = _add(graph, "Mul", minus_one, _number(graph, alpha))
    return _add(graph, "Mul", _add(graph, "Add", above, curved), _number(graph, scale))
