"""What training starts from: scikit-learn's initial parameters, and features whose size a network can bear."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnet.activations import Activation, relu, sigmoid
from funcnet.data.standardisation import Standardisation
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.types import Layer, Params

LARGEST_FEATURES = 20.0
"""The root mean square of all features from which on standardize="auto" standardises."""


def initial_parameters(random: np.random.RandomState, net: MLP, dtype: Any) -> Params:
    """Parameters drawn as scikit-learn draws them: all uniform between ±√(6 / (n_in + n_out)), for the sigmoid √2.

    References:
        Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks.
    """

    def layer(n_in: int, n_out: int, activation: Activation) -> Layer:
        bound = math.sqrt((2 if activation == sigmoid else 6) / (n_in + n_out))
        return Layer(*(jnp.asarray(random.uniform(-bound, bound, shape), dtype) for shape in ((n_in, n_out), n_out)))

    before = net.activations[:-1] or (relu,)
    sizes = zip(net.widths[:-1], net.widths[1:], (*net.activations[:-1], before[-1]), strict=True)
    return tuple(layer(*each) for each in sizes)


def saying_the_mean(params: Params, loss: Loss, y: np.ndarray, weights: np.ndarray) -> Params:
    """With last biases by which a regression begins at the mean target (poisson: at its logarithm)."""
    if loss.logits and loss.name != "poisson":
        return params
    mean = np.average(y.astype(np.float64), axis=0, weights=weights)
    if loss.name == "poisson":
        mean = np.log(np.maximum(mean, 1 / (1 + len(y))))
    return (*params[:-1], params[-1]._replace(b=jnp.asarray(mean, params[-1].b.dtype)))


def are_large(x: np.ndarray) -> bool:
    """Whether features are so large that the first steps would throw a network far off."""
    return math.sqrt(np.mean(np.square(x, dtype=np.float64))) > LARGEST_FEATURES


def folded(params: Params, scaling: Standardisation | None) -> Params:
    """Parameters that take features as they come for such as take them standardised: W / σ, b − Wᵀ (μ / σ)."""
    if scaling is None:
        return params
    w, b = (np.asarray(leaf, np.float64) for leaf in params[0])
    raw = w / scaling.scale[:, None]
    first: Any = (leaf.astype(params[0].w.dtype) for leaf in (raw, b - scaling.mean @ raw))
    return (Layer(*first), *params[1:])
