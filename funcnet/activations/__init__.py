"""Activations with their first three derivatives in closed form.

All are elementwise. Kinks have the value of `jax.nn`: the slope at 0 is 0 for relu, 1 for leaky_relu and elu,
1.758… for selu.
"""

from funcnet.activations.activation import Activation as Activation
from funcnet.activations.gaussian import gelu
from funcnet.activations.piecewise import elu, identity, leaky_relu, relu, selu
from funcnet.activations.sigmoidal import gelu_tanh, sigmoid, silu, softplus, tanh

ACTIVATIONS = {
    activation.name: activation
    for activation in (
        identity,
        relu,
        leaky_relu,
        elu,
        selu,
        softplus,
        sigmoid,
        tanh,
        silu,
        gelu,
        gelu_tanh,
    )
}


def by_name(name: str) -> Activation:
    """The activation of that name, for command lines and configuration files.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {name!r}")
    return ACTIVATIONS[name]
