"""What training starts from: scikit-learn's initial parameters, and features whose size a network can bear."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from funcnet.activations import Activation, sigmoid
from funcnet.data.standardisation import Standardisation
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.types import Layer, Params

LARGEST_FEATURES = 20.0
"""The root mean square of all features from which on standardize="auto" standardises."""


def initial_parameters(random: np.random.Generator, net: MLP, prior: np.ndarray, dtype: Any) -> Params:
    """Parameters drawn as in scikit-learn, but for the last biases, with which the network first says the mean target.

    All are uniform between ±√(6 / (n_in + n_out)), √2 in the place of √6 for the sigmoid.

    Args:
        random: The generator.
        net: The network.
        prior: The last biases.
        dtype: The dtype of all of them.

    References:
        Glorot, Bengio 2010, Understanding the difficulty of training deep feedforward neural networks.
    """

    def layer(n_in: int, n_out: int, activation: Activation) -> Layer:
        bound = math.sqrt((2 if activation == sigmoid else 6) / (n_in + n_out))
        return Layer(*(jnp.asarray(random.uniform(-bound, bound, shape), dtype) for shape in ((n_in, n_out), n_out)))

    sizes = zip(net.widths[:-1], net.widths[1:], net.activations, strict=True)
    layers = [layer(*each) for each in sizes]
    return (*layers[:-1], layers[-1]._replace(b=jnp.asarray(prior, dtype)))


def prior_of(loss: Loss, y: np.ndarray, weights: np.ndarray, outputs: int) -> np.ndarray:
    """The outputs that stand for the mean target: the mean itself, its logarithm, logits of the classes' shares."""
    if y.ndim == 1:
        shares = np.bincount(y, weights, outputs)
        return np.log(np.maximum(shares, shares.sum() / (1 + len(y))) / shares.sum())
    mean = np.average(y.astype(np.float64), axis=0, weights=weights)
    least = 1 / (1 + len(y))
    if loss.name == "poisson":
        return np.log(np.maximum(mean, least))
    if loss.logits:
        share = np.clip(mean, least, 1 - least)
        return np.log(share) - np.log1p(-share)
    return mean


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
