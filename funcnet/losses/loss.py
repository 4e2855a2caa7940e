"""What a loss is: a name, a per-example value, and its first two derivatives in the outputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Real

from funcnet.rules import check_functions, fingerprint

Outputs = Float[Array, "n k"]
RealTargets = Real[Array, "n k"]
PerExample = Float[Array, " n"]
Factor = Float[Array, "n c k"]


@dataclass(frozen=True)
class Loss:
    """A per-example loss ℓ(outputs, y), summed over the outputs of each example, with its derivatives in the outputs.

    It never averages over examples and never weights them: that happens once, in `funcnet.loss`. A loss of your own
    is such a value:

    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> def curvature(outputs, y):
    ...     return 1 / jnp.cosh(outputs - y) ** 2
    >>> log_cosh = fn.Loss(
    ...     name="log_cosh",
    ...     value=lambda outputs, y: jnp.sum(jnp.log(jnp.cosh(outputs - y)), axis=1),
    ...     gradient=lambda outputs, y: jnp.tanh(outputs - y),
    ...     hessian_action=lambda outputs, y, v: curvature(outputs, y) * v,
    ...     hessian_factor=lambda outputs, y: fn.losses.diagonal(jnp.sqrt(curvature(outputs, y))),
    ... )
    >>> net = fn.MLP((3, 4, 2), activation=fn.tanh, loss=log_cosh)

    Attributes:
        name: What it is called. Losses are compared by name, constants, and the code of their functions with the values
            these close over.
        value: ℓ of each example, from (outputs, y).
        gradient: g = ∂ℓ/∂outputs, row by row.
        hessian_action: H v for each example, H = ∂²ℓ/∂outputs², from (outputs, y, v): for quantities of second order,
            not for the gradient.
        hessian_factor: S with SᵀS = H for each example (for a convex loss): for Gauss-Newton quantities.
        constants: Numbers that belong to its name, such as the δ of huber.
        targets: What y may be: "real", numbers in the shape of the outputs, or "classes", integer labels `(n,)` or
            target distributions in the shape of the outputs.
        target_range: The least and the largest target that makes sense; looked at where data enters a program.
        logits: Whether it takes logits and so requires the identity as output activation.
        inverse_link: The prediction of y that the outputs stand for: probabilities, rates, or the outputs themselves.
    """

    name: str
    value: Callable[[Outputs, Any], PerExample] = field(compare=False, repr=False)
    gradient: Callable[[Outputs, Any], Outputs] = field(compare=False, repr=False)
    hessian_action: Callable[[Outputs, Any, Outputs], Outputs] = field(compare=False, repr=False)
    hessian_factor: Callable[[Outputs, Any], Factor] = field(compare=False, repr=False)
    constants: tuple[float, ...] = ()
    targets: Literal["real", "classes"] = "real"
    target_range: tuple[float, float] = (-math.inf, math.inf)
    logits: bool = False
    inverse_link: Callable[[Outputs], Outputs] = field(default=jnp.asarray, compare=False, repr=False)
    code: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive what the comparison of functions goes by."""
        names = ("value", "gradient", "hessian_action", "hessian_factor", "inverse_link")
        functions = {name: getattr(self, name) for name in names}
        check_functions(self.name, functions)
        object.__setattr__(self, "code", tuple(fingerprint(f) for f in functions.values()))


def diagonal(v: Outputs) -> Factor:
    """diag(v) for each example: the Hessian factor of a loss that treats its outputs one by one."""
    return v[:, :, None] * jnp.eye(v.shape[1], dtype=v.dtype)[None, :, :]


def weighed(y: RealTargets, v: Outputs) -> Outputs:
    """Y v, elementwise, with 0 · ∞ = 0: what a target of 0 multiplies does not count, be it infinite."""
    return jnp.where(y == 0, 0, y * jnp.where(y == 0, 0, v))
