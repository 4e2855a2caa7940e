"""The arguments of a call: what shapes and dtypes can tell, told before anything is computed, and the form for sweeps.

Values (a label out of range, a NaN, a negative weight) are checked where data enters a program: see
`funcnet.training.checks`.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from funcnet.affine import flatten
from funcnet.network import MLP, check_key, check_net
from funcnet.precision import is_floating, lift
from funcnet.types import Features, KeyArray, Layer, Params, Targets, Weights


def check_network(net: Any, params: Any) -> None:
    """Refuse parameters that are not those of the network.

    Raises:
        TypeError: If net is no MLP, params no tuple of layers, or their dtypes are not one floating-point dtype.
        ValueError: If the number of layers or a shape does not match the widths.
    """
    check_net(net)
    if not isinstance(params, tuple) or not all(isinstance(layer, Layer) for layer in params):
        raise TypeError(f"params must be a tuple of funcnet.Layer(w, b); got {type(params).__name__}")
    if len(params) != net.n_layers:
        raise ValueError(f"params must have {net.n_layers} layers to match widths {net.widths}; got {len(params)}")
    dtype = params[0].w.dtype
    for i, layer in enumerate(params):
        shape = net.widths[i : i + 2]
        for name, array, expected in (("w", layer.w, shape), ("b", layer.b, shape[1:])):
            if array.shape != expected:
                raise ValueError(f"params[{i}].{name} must have shape {expected}; got {array.shape}")
            if not is_floating(array) or array.dtype != dtype:
                others = "" if array.dtype == dtype else f", and {dtype} in params[0].w"
                raise TypeError(
                    f"params must share one floating-point dtype; got {array.dtype} in params[{i}].{name}{others}"
                )


def check_tangent(params: Params, tangent: Any) -> None:
    """Refuse a direction that has not the form of the parameters.

    Raises:
        TypeError: If it is no tuple of layers, or its dtype is not that of the parameters.
        ValueError: If the number of layers or a shape differs.
    """
    if not isinstance(tangent, tuple) or not all(isinstance(layer, Layer) for layer in tangent):
        raise TypeError(f"tangent must be a tuple of funcnet.Layer(w, b), as params; got {type(tangent).__name__}")
    if len(tangent) != len(params):
        raise ValueError(f"tangent must have {len(params)} layers, as params; got {len(tangent)}")
    for i, (layer, moved) in enumerate(zip(params, tangent, strict=True)):
        for name, array, expected in zip(layer._fields, moved, layer, strict=True):
            where = f"tangent[{i}].{name}"
            check_array(where, array)
            if array.shape != expected.shape:
                raise ValueError(f"{where} must have shape {expected.shape}, as params; got {array.shape}")
            if array.dtype != expected.dtype:
                raise TypeError(f"{where} must be {expected.dtype}, as params; got {array.dtype}")


def check_features(net: MLP, x: Any, name: str = "x") -> None:
    """Refuse a batch that does not fit the first layer.

    Raises:
        TypeError: If x is no floating-point array.
        ValueError: If its number of features is not the network's.
    """
    check_array(name, x)
    if not is_floating(x):
        raise TypeError(f"{name} must be floating point, for example {name}.astype('float32'); got {x.dtype}")
    expected, features = net.widths[0], math.prod(x.shape[1:])
    if x.ndim < 2:
        raise ValueError(f"{name} must be a batch (n, *features) with {expected} features; got shape {x.shape}")
    if features != expected:
        raise ValueError(f"{name} must have {expected} features to match params[0].w; got {features} (shape {x.shape})")


def check_targets(net: MLP, n: int, y: Any) -> None:
    """Refuse targets that do not fit the loss and the outputs, `(n, 1)` against `(n,)` among them.

    Raises:
        TypeError: If y is no array of numbers, or labels are not integers.
        ValueError: If its shape is not that of labels or targets.
    """
    check_array("y", y)
    if not (jnp.issubdtype(y.dtype, jnp.integer) or y.dtype == jnp.bool_ or is_floating(y)):
        raise TypeError(f"y must be real numbers; got {y.dtype}")
    k, name = net.widths[-1], net.loss.name
    if net.loss.targets == "real":
        if y.shape != (n, k):
            raise ValueError(f"y must have the shape {(n, k)} of the outputs for {name}; got {y.shape}")
    elif y.shape == (n,):
        if is_floating(y):
            raise TypeError(f"y must be integer labels (or target distributions of shape {(n, k)}); got {y.dtype}")
    elif y.shape != (n, k):
        raise ValueError(
            f"y must be labels of shape {(n,)} or target distributions of shape {(n, k)} for {name}; got {y.shape}"
        )


def check_weights(n: int, weights: Any, name: str = "weights") -> None:
    """Refuse example weights that are not one number for each example.

    Raises:
        TypeError: If weights is no array of real numbers.
        ValueError: If its shape is not (n,).
    """
    check_array(name, weights)
    if not (jnp.issubdtype(weights.dtype, jnp.integer) or weights.dtype == jnp.bool_ or is_floating(weights)):
        raise TypeError(f"{name} must be real numbers; got {weights.dtype}")
    if weights.shape != (n,):
        raise ValueError(f"{name} must have shape {(n,)}, one for each example; got {weights.shape}")


def check_call(net: Any, params: Any, x: Any, y: Any, weights: Any = None, key: Any = None) -> None:
    """All of the above, in the order of the arguments."""
    check_network(net, params)
    check_features(net, x)
    check_targets(net, x.shape[0], y)
    if weights is not None:
        check_weights(x.shape[0], weights)
    check_key(key)


def check_array(name: str, array: Any) -> None:
    """Refuse what is no array.

    Raises:
        TypeError: If it has no shape or dtype.
    """
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise TypeError(f"{name} must be a JAX or NumPy array; got {type(array).__name__}")


class Call(NamedTuple):
    """The checked arguments of a call, in the dtype they are computed in.

    Attributes:
        params: The parameters, lifted to the work dtype.
        x: The features of each example in one row; 0 where the weight is 0.
        y: The targets in the work dtype, or integer labels; 0 where the weight is 0.
        c: c_i = w_i / Σ w.
    """

    params: Params
    x: Float[Array, "n d"]
    y: Shaped[Array, "n ..."]
    c: Float[Array, " n"]


def lift_params(params: Params) -> Params:
    """The parameters in the dtype they are computed in."""
    return tuple(Layer(lift(layer.w), lift(layer.b)) for layer in params)


def enter(net: MLP, params: Params, x: Features, y: Targets, weights: Weights | None, key: KeyArray | None) -> Call:
    """Check the arguments of a call and bring them into the form the sweeps compute with."""
    check_call(net, params, x, y, weights, key)
    params = lift_params(params)
    dtype, n = params[0].w.dtype, x.shape[0]
    rows, y = jnp.asarray(flatten(x), dtype), jnp.asarray(y)
    if y.ndim > 1:
        y = y.astype(dtype)
    if weights is None:
        return Call(params, rows, y, jnp.full(n, 1 / max(n, 1), dtype))
    w = jnp.asarray(weights, dtype)
    total = jnp.sum(w)
    c = jnp.where(total == 0, 0, w / jnp.where(total == 0, 1, total))
    absent = w == 0
    rows = jnp.where(absent[:, None], 0, rows)
    y = jnp.where(absent if y.ndim == 1 else absent[:, None], jnp.zeros_like(y), y)
    return Call(params, rows, y, c)
