"""Activations with their first three derivatives in closed form.

All are elementwise. Kinks have the value of `jax.nn`: the slope at 0 is 0 for relu, 1 for leaky_relu and elu,
1.758… for selu. With σ the logistic function and Φ the distribution function of the standard normal distribution:

| activation | φ(z) |
| --- | --- |
| `identity` | z |
| `relu` | max(z, 0) |
| `leaky_relu` | z for z ≥ 0, else 0.01 z |
| `elu` | z for z > 0, else e^z − 1 |
| `selu` | 1.0507… (z for z > 0, else 1.6732… (e^z − 1)) |
| `softplus` | log(1 + e^z) |
| `sigmoid` | σ(z) = 1/(1 + e^{−z}) |
| `tanh` | tanh z |
| `silu` | z σ(z) |
| `gelu` | z Φ(z) |
| `gelu_tanh` | ½ z (1 + tanh(√(2/π) (z + 0.044715 z³))) |
"""

from funcnet.activations.activation import Activation as Activation
from funcnet.activations.activation import zero as zero
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
