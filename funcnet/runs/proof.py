"""The proof that a run starts with: the closed-form gradient of its first batch against `jax.grad` in float64."""

from typing import Any, NamedTuple

import jax

from funcnet.checking import TOLERANCE, Comparison, compare, in_float64, reference_value_and_grad
from funcnet.gradients import loss, value_and_grad
from funcnet.network import MLP
from funcnet.types import Params


class Proof(NamedTuple):
    """Two comparisons with the oracle.

    Attributes:
        formula: The closed form in float64.
        arithmetic: The closed form in the dtype of the parameters.
    """

    formula: Comparison
    arithmetic: Comparison

    @property
    def holds(self) -> bool:
        """Whether rounding explains every difference."""
        return all(
            not each.problems and all(leaf.error <= TOLERANCE[leaf.dtype] for leaf in each.leaves) for each in self
        )


def layer_errors(net: MLP, proof: Proof) -> list[tuple[tuple[int, int], list[float]]]:
    """Of each layer the shape of its weights, and its largest error in both comparisons."""
    leaves = [slice(1 + 2 * i, 3 + 2 * i) for i in range(net.n_layers)]  # behind the value, w and b of each layer
    shapes = zip(net.widths[:-1], net.widths[1:], strict=True)
    return [
        (shape, [max(leaf.error for leaf in each.leaves[own]) for each in proof])
        for shape, own in zip(shapes, leaves, strict=True)
    ]


def prove(net: MLP, params: Params, x: Any, y: Any, key: Any) -> Proof:
    """Compare value and gradient of a batch, dropout included, with `jax.value_and_grad` in float64."""
    reference = reference_value_and_grad(loss, argnums=1, compiled=True)(net, params, x, y, key=key)
    formula = compare(in_float64(value_and_grad, compiled=True)(net, params, x, y, key=key), reference)
    got = jax.jit(value_and_grad)(net, params, x, y, key=key)
    return Proof(formula, compare(got, reference, like=(params[0].b[0], params)))
