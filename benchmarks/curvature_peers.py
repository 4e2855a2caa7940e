"""The quantities of `curvature.py` by BackPACK and curvlinops, in PyTorch.

Each form is built once on a network's parameters and a batch, and is then called without arguments.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax.numpy as jnp
from curvature_forms import DIAGONAL, FACTORS, GGN_VP, HVP, SAMPLED, SAMPLED_FACTORS
from per_example_peers import load, model_of, quiet, setting_of, tree_of

import funcnet as fn
from funcnet.curvature_blocks import KroneckerFactors

BACKPACK, CURVLINOPS = "BackPACK", "curvlinops"
DISTRIBUTIONS = {
    "torch": "torch",
    "backpack": "backpack-for-pytorch",
    "curvlinops": "curvlinops-for-pytorch",
}


class Form(NamedTuple):
    """A quantity of a package.

    Attributes:
        run: Call it.
        read: Call it, and have the result as funcnet gives it.
    """

    run: Callable[[], Any]
    read: Callable[[], Any]


class Builder(NamedTuple):
    """A package's forms.

    Attributes:
        packages: What has to be installed.
        build: The forms by quantity, from a network, its parameters, a batch and a direction.
    """

    packages: tuple[str, ...]
    build: Callable[..., dict[str, Form]]


def _factors_of(result: list[list[Any]]) -> tuple[KroneckerFactors, ...]:
    """BackPACK's factors of the weights, the outputs' first, as funcnet's."""
    arrays = [[jnp.asarray(part.detach().numpy()) for part in each] for each in result[0::2]]
    return tuple(KroneckerFactors(a, g) for g, a in arrays)


def backpack_forms(net: fn.MLP, params: fn.Params, x: Any, y: Any, v: fn.Params) -> dict[str, Form]:
    """BackPACK's second-order extensions."""
    del net, v
    torch, backpack, extensions = load(), import_module("backpack"), import_module("backpack.extensions")
    model, features, labels = model_of(setting_of(params, x, y))
    model, loss = backpack.extend(model), backpack.extend(torch.nn.CrossEntropyLoss())
    parameters = list(model.parameters())

    def form(extension: Any, read: Callable[[Any], Any]) -> Form:
        def run() -> Any:
            with backpack.backpack(extension):
                loss(model(features), labels).backward()
            for parameter in parameters:
                parameter.grad = None
            return [vars(parameter).pop(extension.savefield) for parameter in parameters]

        return Form(run, lambda: read(run()))

    return {
        DIAGONAL: form(extensions.DiagGGNExact(), tree_of),
        SAMPLED: form(extensions.DiagGGNMC(), tree_of),
        FACTORS: form(extensions.KFLR(), _factors_of),
        SAMPLED_FACTORS: form(extensions.KFAC(), _factors_of),
    }


def curvlinops_forms(net: fn.MLP, params: fn.Params, x: Any, y: Any, v: fn.Params) -> dict[str, Form]:
    """Products by curvlinops' linear operators."""
    del net
    torch, curvlinops = load(), import_module("curvlinops")
    setting = setting_of(params, x, y)
    model, features, labels = model_of(setting)
    parameters, loss = list(model.parameters()), torch.nn.CrossEntropyLoss()
    direction = [torch.from_numpy(array.T.copy()) for array in setting_of(v, x, y).matrices]
    kinds = {HVP: curvlinops.HessianLinearOperator, GGN_VP: curvlinops.GGNLinearOperator}

    def form(kind: Any) -> Form:
        operator = kind(model, loss, parameters, [(features, labels)], check_deterministic=False)
        return Form(lambda: operator @ direction, lambda: tree_of(list(operator @ direction)))

    return {name: form(kind) for name, kind in kinds.items()}


BUILDERS = {
    BACKPACK: Builder(("torch", "backpack"), backpack_forms),
    CURVLINOPS: Builder(("torch", "curvlinops"), curvlinops_forms),
}


def available() -> tuple[Mapping[str, Callable[..., dict[str, Form]]], list[str]]:
    """The forms that can run here, and why others cannot."""
    builders, reasons = {}, []
    quiet()
    for label, (packages, build) in BUILDERS.items():
        absent = [DISTRIBUTIONS[package] for package in packages if find_spec(package) is None]
        if absent:
            reasons.append(f"{label} is left out: not installed: {', '.join(absent)}")
        else:
            builders[label] = build
    return builders, reasons
