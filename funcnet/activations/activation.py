"""What an activation is: a name and four pure functions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import jax.numpy as jnp

from funcnet.rules import check_functions, fingerprint
from funcnet.types import Values

Scheme = Literal["he", "glorot", "lecun"]


def zero(z: Values, h: Values) -> Values:
    """φ'' = φ''' = 0, of what is made of straight pieces: sweeps of second order leave out what it is multiplied by.

    Derivation:
        φ' is constant on each piece, so dφ' = 0.
    """
    return jnp.zeros_like(z)


@dataclass(frozen=True)
class Activation:
    """An elementwise function h = φ(z) with its first three derivatives.

    Each derivative is given both the pre-activation z and the output h = φ(z), and uses whichever keeps full
    accuracy; what goes unused costs nothing once compiled. An activation of your own is such a value:

    >>> import jax.numpy as jnp
    >>> import funcnet as fn
    >>> square = fn.Activation(
    ...     name="square",
    ...     value=lambda z: z * z,
    ...     slope=lambda z, h: 2 * z,
    ...     curvature=lambda z, h: jnp.full_like(z, 2),
    ...     third=lambda z, h: jnp.zeros_like(z),
    ... )
    >>> net = fn.MLP((3, 4, 2), activation=square, loss=fn.half_squared_error)

    Attributes:
        name: What it is called. Activations are compared by name, constants, and the code of their functions with the
            values these close over.
        value: φ(z).
        slope: φ'(z), from (z, h).
        curvature: φ''(z), from (z, h): for quantities of second order, not for the gradient.
            `funcnet.activations.zero` where φ is made of straight pieces.
        third: φ'''(z), from (z, h): for gradients of second derivatives in the inputs.
        constants: Numbers that belong to its name, such as the 0.01 of leaky_relu.
        initializer: The scheme that `init` uses for the layer in front of it.
    """

    name: str
    value: Callable[[Values], Values] = field(compare=False, repr=False)
    slope: Callable[[Values, Values], Values] = field(compare=False, repr=False)
    curvature: Callable[[Values, Values], Values] = field(compare=False, repr=False)
    third: Callable[[Values, Values], Values] = field(compare=False, repr=False)
    constants: tuple[float, ...] = ()
    initializer: Scheme = field(default="glorot", compare=False, repr=False)
    code: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive what the comparison of functions goes by."""
        functions = {name: getattr(self, name) for name in ("value", "slope", "curvature", "third")}
        check_functions(self.name, functions)
        object.__setattr__(self, "code", tuple(fingerprint(f) for f in functions.values()))

    @property
    def is_piecewise_linear(self) -> bool:
        """Whether the curvature is `zero`."""
        return self.curvature is zero
