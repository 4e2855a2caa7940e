"""funcnet: derivatives of multilayer perceptrons in closed form, proven against `jax.grad`.

Start with `MLP`, `init`, `value_and_grad` and `fit`; `help(funcnet.losses)` and `help(funcnet.activations)` have the
formulas.
"""

import importlib
from typing import TYPE_CHECKING, Any

from funcnet import activations, checking, derive, layouts, losses, sweeps, training
from funcnet.activations import (
    Activation,
    elu,
    gelu,
    gelu_tanh,
    identity,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from funcnet.affine import affine, affine_backward
from funcnet.checking import GradientMismatch, GradientReport, check_gradient, check_vjp
from funcnet.curvature_blocks import ggn_diagonal, kfac_factors
from funcnet.curvature_products import ggn_vp, hvp
from funcnet.custom_rule import closed_form_loss
from funcnet.damped_step import gauss_newton_step
from funcnet.gradients import apply, input_gradient, loss, per_example_losses, value_and_grad
from funcnet.input_derivatives import input_jacobian, laplacian
from funcnet.kernels import empirical_ntk, grad_gram
from funcnet.laplacian_gradient import laplacian_vjp
from funcnet.losses import (
    Loss,
    absolute_error,
    half_squared_error,
    huber,
    label_smoothed,
    poisson,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    softmax_cross_entropy_chunked,
)
from funcnet.many_classes import linear_cross_entropy, linear_cross_entropy_value_and_grad
from funcnet.network import MLP, init
from funcnet.per_example import (
    clipped_grad_sum,
    grad_second_moment,
    gradient_noise_scale,
    per_example_grad_norms,
    weighted_grad_sum,
)
from funcnet.training import fit
from funcnet.types import Layer, Params

if TYPE_CHECKING:
    from funcnet import estimators as estimators

__all__ = [
    "MLP",
    "Activation",
    "GradientMismatch",
    "GradientReport",
    "Layer",
    "Loss",
    "Params",
    "absolute_error",
    "activations",
    "affine",
    "affine_backward",
    "apply",
    "check_gradient",
    "check_vjp",
    "checking",
    "clipped_grad_sum",
    "closed_form_loss",
    "derive",
    "elu",
    "empirical_ntk",
    "fit",
    "gauss_newton_step",
    "gelu",
    "gelu_tanh",
    "ggn_diagonal",
    "ggn_vp",
    "grad_gram",
    "grad_second_moment",
    "gradient_noise_scale",
    "half_squared_error",
    "huber",
    "hvp",
    "identity",
    "init",
    "input_gradient",
    "input_jacobian",
    "kfac_factors",
    "label_smoothed",
    "laplacian",
    "laplacian_vjp",
    "layouts",
    "leaky_relu",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "loss",
    "losses",
    "per_example_grad_norms",
    "per_example_losses",
    "poisson",
    "relu",
    "selu",
    "sigmoid",
    "sigmoid_cross_entropy",
    "silu",
    "softmax_cross_entropy",
    "softmax_cross_entropy_chunked",
    "softplus",
    "sweeps",
    "tanh",
    "training",
    "value_and_grad",
    "weighted_grad_sum",
]


def __getattr__(name: str) -> Any:
    """`funcnet.estimators`, imported when it is first asked for: it needs scikit-learn, which the others do not."""
    if name == "estimators":
        try:
            return importlib.import_module("funcnet.estimators")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: funcnet.estimators needs the packages of funcnet[train]") from None
    raise AttributeError(f"module 'funcnet' has no attribute {name!r}")
