"""The quantities of `per_example.py` as users of PyTorch have them: by Opacus and by BackPACK.

Each form is built once on a network's matrices and a batch, and is then called without arguments. Losses are summed
over examples, so that every example's gradient is that of its own ℓ_i: with PyTorch's mean, BackPACK's squared norms
are 1/n² of them, and Opacus multiplies by n to make up for it.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from per_example_forms import CLIPPED, GRAM, MOMENT, NOISE, NORMS, PLAIN, SHARE

import funcnet as fn

TORCH, HOOKS, GHOST, BACKPACK = "PyTorch", "Opacus, hooks", "Opacus, ghost", "BackPACK"
PACKAGES = {TORCH: ("torch",), HOOKS: ("torch", "opacus"), GHOST: ("torch", "opacus"), BACKPACK: ("torch", "backpack")}
DISTRIBUTIONS = {"torch": "torch", "opacus": "opacus", "backpack": "backpack-for-pytorch"}


class Setting(NamedTuple):
    """What a form is built on.

    Attributes:
        matrices: W (in × out) and b of each layer, in order.
        x, y: Features and labels.
        max_norm: What examples' gradients are clipped to.
    """

    matrices: list[np.ndarray]
    x: np.ndarray
    y: np.ndarray
    max_norm: float = SHARE


Built = dict[str, Callable[[], Any]]
"""By quantity."""


def setting_of(params: Any, x: Any, y: Any, max_norm: float = SHARE) -> Setting:
    """That of a network's parameters and a batch."""
    return Setting([np.array(leaf) for leaf in jax.tree.leaves(params)], np.array(x), np.array(y), max_norm)


def constant_setting(widths: tuple[int, ...], n: int) -> Setting:
    """Constant matrices and n examples, where only sizes matter: random numbers would take longer than the runs."""
    shapes = [shape for i, o in pairwise(widths) for shape in ((i, o), (o,))]
    matrices = [np.full(shape, 0.01, "float32") for shape in shapes]
    return Setting(matrices, np.ones((n, widths[0]), "float32"), np.zeros(n, "int64"))


def load() -> Any:
    """PyTorch, with its profiler told to print nothing."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    return import_module("torch")


def model_of(setting: Setting) -> tuple[Any, Any, Any]:
    """The same network and batch in PyTorch."""
    torch = load()
    weights = setting.matrices[0::2]
    layers = [torch.nn.Linear(*w.shape) for w in weights]
    model = torch.nn.Sequential(*(part for layer in layers for part in (layer, torch.nn.ReLU())))[:-1]
    with torch.no_grad():
        for own, given in zip(model.parameters(), setting.matrices, strict=True):
            own.copy_(torch.from_numpy(given.T))
    return model, torch.from_numpy(setting.x), torch.from_numpy(setting.y).long()


def tree_of(result: Any) -> Any:
    """A form's result as funcnet gives it: a list as the layers' W and b, a tensor as an array."""
    if not isinstance(result, list):
        return jnp.asarray(result.detach().numpy())
    arrays = [jnp.asarray(part.detach().numpy().T) for part in result]
    return tuple(fn.Layer(w, b) for w, b in zip(arrays[0::2], arrays[1::2], strict=True))


def torch_forms(setting: Setting) -> Built:
    """The plain gradient of the mean loss."""
    torch = load()
    model, x, y = model_of(setting)
    parameters, loss = list(model.parameters()), torch.nn.CrossEntropyLoss()
    return {PLAIN: lambda: list(torch.autograd.grad(loss(model(x), y), parameters))}


def hooks_forms(setting: Setting) -> Built:
    """Opacus with every example's gradient written out by hooks in one backward pass: its default."""
    torch, opacus, optimizers = load(), import_module("opacus"), import_module("opacus.optimizers")
    model, x, y = model_of(setting)
    model = opacus.GradSampleModule(model, loss_reduction="sum")
    optimizer = optimizers.DPOptimizer(
        torch.optim.SGD(model.parameters()), noise_multiplier=0.0, max_grad_norm=setting.max_norm,
        expected_batch_size=None, loss_reduction="sum",
    )  # fmt: skip
    loss = torch.nn.CrossEntropyLoss(reduction="sum")

    def norms() -> Any:
        loss(model(x), y).backward()
        each = torch.stack([rows.flatten(1).norm(dim=1) for rows in optimizer.grad_samples]).norm(dim=0)
        optimizer.zero_grad(set_to_none=True)
        return each

    def clipped() -> Any:
        loss(model(x), y).backward()
        optimizer.clip_and_accumulate()
        total = [parameter.summed_grad for parameter in optimizer.params]
        optimizer.zero_grad(set_to_none=True)
        return total

    return {NORMS: norms, CLIPPED: clipped}


def ghost_forms(setting: Setting) -> Built:
    """Opacus with ghost clipping: norms in one backward pass, the sum of reweighted losses in a second."""
    torch, optimizers = load(), import_module("opacus.optimizers")
    grad_sample, utils = import_module("opacus.grad_sample"), import_module("opacus.utils.fast_gradient_clipping_utils")
    model, x, y = model_of(setting)
    model = grad_sample.GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=setting.max_norm, use_ghost_clipping=True
    )
    optimizer = optimizers.DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters()), noise_multiplier=0.0, max_grad_norm=setting.max_norm,
        expected_batch_size=None, loss_reduction="sum",
    )  # fmt: skip
    loss = torch.nn.CrossEntropyLoss(reduction="sum")
    private = utils.DPLossFastGradientClipping(model, optimizer, loss, loss_reduction="sum")

    def norms() -> Any:
        loss(model(x), y).backward()
        optimizer.zero_grad(set_to_none=True)
        return model.get_norm_sample()

    def clipped() -> Any:
        private(model(x), y).backward()
        total = [parameter.grad for parameter in optimizer.params]
        optimizer.zero_grad(set_to_none=True)
        return total

    return {NORMS: norms, CLIPPED: clipped}


def backpack_forms(setting: Setting) -> Built:
    """BackPACK's first-order extensions; the Gram matrix from the examples' gradients that it writes out."""
    torch, backpack, extensions = load(), import_module("backpack"), import_module("backpack.extensions")
    model, x, y = model_of(setting)
    model, loss, n = backpack.extend(model), backpack.extend(torch.nn.CrossEntropyLoss(reduction="sum")), len(y)
    parameters = list(model.parameters())

    def sweep(extension: Any) -> tuple[list[Any], list[Any]]:
        """What the extension leaves at each parameter, and the gradients; both are taken away from there."""
        with backpack.backpack(extension):
            loss(model(x), y).backward()
        gradients = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        return [vars(parameter).pop(extension.savefield) for parameter in parameters], gradients

    def norms() -> Any:
        return torch.stack(sweep(extensions.BatchL2Grad())[0]).sum(dim=0).sqrt()

    def gram() -> Any:
        each = torch.cat([rows.flatten(1) for rows in sweep(extensions.BatchGrad())[0]], dim=1)
        return each @ each.T

    def noise() -> Any:
        squares, gradients = sweep(extensions.BatchL2Grad())
        m, of_mean = torch.stack(squares).sum(dim=0).mean(), sum((total / n).square().sum() for total in gradients)
        signal = n * of_mean - m
        return torch.where(signal > 0, n * (m - of_mean) / signal, torch.inf)

    return {NORMS: norms, MOMENT: lambda: sweep(extensions.SumGradSquared())[0], GRAM: gram, NOISE: noise}


BUILDERS: dict[str, Callable[[Setting], Built]] = {
    TORCH: torch_forms,
    HOOKS: hooks_forms,
    GHOST: ghost_forms,
    BACKPACK: backpack_forms,
}


def quiet() -> None:
    """Turn off what is no concern of the numbers."""
    # PyTorch, since the features need no gradient; Opacus' hooks are made for that
    warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)


def available() -> tuple[Mapping[str, Callable[[Setting], Built]], list[str]]:
    """The forms that can run here, and why others cannot."""
    builders, reasons = {}, []
    for name, builder in BUILDERS.items():
        absent = [DISTRIBUTIONS[package] for package in PACKAGES[name] if find_spec(package) is None]
        if absent:
            reasons.append(f"{name} is left out: not installed: {', '.join(absent)}")
        else:
            builders[name] = builder
    return builders, reasons
