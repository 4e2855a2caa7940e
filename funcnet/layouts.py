"""The same parameters written in other conventions, and back.

| layout | one layer is | its map |
| --- | --- | --- |
| row | Layer(w: in × out, b) | z = x W + b |
| column | Layer(w: out × in, b) | z = W x + b |
| subtractive | Layer(w: in × out, b) | z = x W − b |
| augmented | (1 + in) × out, row 0 the bias | z = [1, x] W |
| per_node | out × (1 + in), column 0 the bias | z = W [1; x] |

Each map is a signed permutation Q of the entries, exact in every dtype. For θ' = Q θ,
dL = gᵀ dθ = gᵀ Qᵀ dθ' = (Q g)ᵀ dθ', so gradients convert by the same call as parameters.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from funcnet.types import Layer

Augmented = Float[Array, "bias_and_i o"]


class Layout(NamedTuple):
    """A convention for one layer, its fields (w, b) or one matrix, and the maps from and to `row`."""

    is_pair: bool
    from_row: Callable[[Layer], Any]
    to_row: Callable[[Any], Layer]


def _transposed(layer: Layer) -> Layer:
    return Layer(jnp.asarray(layer.w).T, jnp.asarray(layer.b))


def _negated_bias(layer: Layer) -> Layer:
    return Layer(jnp.asarray(layer.w), -jnp.asarray(layer.b))


def _augmented(layer: Layer) -> Augmented:
    return jnp.concatenate([jnp.asarray(layer.b)[None, :], jnp.asarray(layer.w)])


LAYOUTS = {
    "row": Layout(True, lambda layer: layer, lambda layer: layer),
    "column": Layout(True, _transposed, _transposed),
    "subtractive": Layout(True, _negated_bias, _negated_bias),
    "augmented": Layout(False, _augmented, lambda m: Layer(m[1:], m[0])),
    "per_node": Layout(False, lambda layer: _augmented(layer).T, lambda m: Layer(m[:, 1:].T, m[:, 0])),
}


def convert(params: tuple[Any, ...], to: str, source: str = "row") -> tuple[Any, ...]:
    """Parameters or gradients of one layout in another, entry for entry.

    Args:
        params: One entry for each layer, as the table above says for `source`.
        to: The layout wanted.
        source: The layout given.

    Raises:
        TypeError: If a layer is not of the kind that `source` calls for.
        ValueError: If there is no such layout, or a layer's shapes do not fit it.

    >>> import jax
    >>> import funcnet as fn
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=fn.half_squared_error)
    >>> per_node = fn.layouts.convert(fn.init(jax.random.key(0), net), to="per_node")
    >>> [w.shape for w in per_node]
    [(4, 4), (2, 5)]
    """
    for name, layout in (("to", to), ("source", source)):
        if layout not in LAYOUTS:
            raise ValueError(f"{name} must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    _check(params, source)
    return tuple(LAYOUTS[to].from_row(LAYOUTS[source].to_row(layer)) for layer in params)


def _check(params: Any, source: str) -> None:
    if not isinstance(params, tuple | list) or isinstance(params, Layer):
        raise TypeError(f"params must be a tuple with one entry for each layer; got {type(params).__name__}")
    for i, layer in enumerate(params):
        if LAYOUTS[source].is_pair:
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"params[{i}] must be a funcnet.Layer(w, b) in layout {source!r}; got {type(layer).__name__}"
                )
            outputs = layer.w.shape[0 if source == "column" else -1] if layer.w.ndim == 2 else None
            if layer.b.shape != (outputs,):
                raise ValueError(
                    f"params[{i}] must have a matrix w and one bias for each output in layout {source!r}; "
                    f"got shapes {layer.w.shape} and {layer.b.shape}"
                )
        elif not hasattr(layer, "ndim"):
            raise TypeError(f"params[{i}] must be one matrix in layout {source!r}; got {type(layer).__name__}")
        elif layer.ndim != 2 or min(layer.shape) < 1:
            raise ValueError(
                f"params[{i}] must be a matrix with its bias in layout {source!r}; got shape {layer.shape}"
            )
