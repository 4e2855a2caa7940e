"""How each closed form of funcnet is put before the checker."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from funcnet import activations, contractions, layouts, losses, sweeps
from funcnet.affine import affine, affine_backward
from funcnet.checking import GradientReport, check_gradient, check_vjp
from funcnet.custom_rule import closed_form_loss
from funcnet.gradients import apply, input_gradient, loss, per_example_losses, value_and_grad
from funcnet.many_classes import linear_cross_entropy, linear_cross_entropy_value_and_grad
from funcnet.precision import lift, matmul
from funcnet.types import Params
from funcnet.verification.example_forms import EXAMPLE_FORMS
from funcnet.verification.problems import NETWORK, Form, N, Setting, loss_of, numbers, problem, targets
from funcnet.verification.second_forms import SECOND_FORMS


def _value_and_grad(s: Setting) -> GradientReport:
    p = problem(s)
    return check_gradient(loss, value_and_grad, p.net, p.params, p.x, p.y, argnums=1, raises=False, **p.kwargs)


def _input_gradient(s: Setting) -> GradientReport:
    p = problem(s)
    return check_gradient(loss, input_gradient, p.net, p.params, p.x, p.y, argnums=2, raises=False, **p.kwargs)


def _closed_form_loss(s: Setting) -> GradientReport:
    """In parameters, inputs, and example weights that are not 0 or l2 where there are such."""
    p = problem(s)
    extra, names = (p.kwargs["weights"],) if "weights" in p.kwargs else (), ("weights",)
    extra = tuple(jnp.where(w == 0, 1, w).astype(w.dtype) for w in extra)
    key = p.kwargs.get("key")

    def of(fun: Callable[..., Any]) -> Callable[..., Any]:
        return lambda params, x, *more: fun(p.net, params, x, p.y, key=key, **dict(zip(names, more, strict=False)))

    return check_vjp(of(loss), p.params, p.x, *extra, rule=of(closed_form_loss), raises=False)


def _backward(s: Setting) -> GradientReport:
    """The sweeps on their own, for any cotangent of the outputs."""
    p = problem(s)
    key, rows = p.kwargs.get("key"), p.x.reshape(N, -1)

    def fwd(params: Params) -> Any:
        outputs, saved = sweeps.forward(p.net, params, rows.astype(params[0].w.dtype), key)
        return outputs, (params, saved)

    def bwd(residuals: Any, d_outputs: Any) -> Any:
        params, saved = residuals
        return (sweeps.backward(p.net, params, saved, d_outputs, contractions.gradient).contracted,)

    return check_vjp(lambda params: apply(p.net, params, rows, key=key), p.params, rule=(fwd, bwd), raises=False)


def _per_example_losses(s: Setting) -> GradientReport:
    """The weighted mean of the losses of the examples belongs to the gradient of `loss`."""
    p = problem(s)
    net, w, key = replace(p.net, l2=None), p.kwargs.get("weights"), p.kwargs.get("key")

    def mean(params: Params) -> Any:
        each = per_example_losses(net, params, p.x, p.y, key=key)
        weights = jnp.ones_like(each) if w is None else w.astype(each.dtype)
        return jnp.sum(weights * each) / jnp.sum(weights)

    def grad(params: Params) -> Any:
        return value_and_grad(net, params, p.x, p.y, **p.kwargs)[1]

    return check_gradient(mean, grad, p.params, raises=False)


def _convert(s: Setting) -> GradientReport:
    """Gradients convert as parameters do."""
    p, layout = problem(s), sorted(set(layouts.LAYOUTS) - {"row"})[s.turn % 4]

    def value(params: Any) -> Any:
        return loss(p.net, layouts.convert(params, to="row", source=layout), p.x, p.y, **p.kwargs)

    def grad(params: Any) -> Any:
        grads = value_and_grad(p.net, layouts.convert(params, to="row", source=layout), p.x, p.y, **p.kwargs)[1]
        return layouts.convert(grads, to=layout)

    return check_gradient(value, grad, layouts.convert(p.params, to=layout), raises=False)


def _affine_backward(s: Setting) -> GradientReport:
    x, w, b = (numbers(i, shape, s.dtype) for i, shape in enumerate(((5, 2, 3), (6, 4), (4,))))
    rule = (lambda x, w, b: (affine(x, w, b), (x, w)), lambda saved, dy: affine_backward(saved[0], saved[1], dy))
    return check_vjp(affine, x, w, b, rule=rule, raises=False)


def _linear_cross_entropy(s: Setting) -> GradientReport:
    """Both forms against the plain one: by value and gradient, and by JAX through the rule."""
    h, w, b = (numbers(40 + i, shape, s.dtype) for i, shape in enumerate(((N, 4), (4, 10), (10,))))
    labels, weights = jnp.arange(N) % 10, numbers(43, (N,), s.dtype)
    how: dict[str, Any] = {"weights": weights, "chunk_size": 4, "label_smoothing": 0.125 * (s.turn % 2)}

    def plain(h: Any, w: Any, b: Any) -> Any:
        rule = losses.label_smoothed(how["label_smoothing"])
        h, w, b, c = (lift(array) for array in (h, w, b, weights.astype(h.dtype)))  # as the form, it gives float32
        return jnp.sum(c / jnp.sum(c) * rule.value(matmul(h, w) + b[None], labels))

    if s.turn % 3 == 0:
        return check_vjp(
            plain, h, w, b, rule=lambda h, w, b: linear_cross_entropy(h, w, b, labels, **how), raises=False
        )

    def grad(h: Any, w: Any, b: Any) -> Any:
        return linear_cross_entropy_value_and_grad(h, w, b, labels, **how)[1]

    return check_gradient(plain, grad, h, w, b, argnums=(0, 1, 2), raises=False)


def _loss_arguments(s: Setting) -> tuple[losses.Loss, Any, Any, Any]:
    rule = loss_of(s)
    y = targets(rule, N, 3, s.dtype, distributions=s.turn % 2 == 0)
    return rule, numbers(5, (N, 3), s.dtype, 2.0), y, numbers(6, (N, 3), s.dtype)


def _loss_gradient(s: Setting) -> GradientReport:
    rule, z, y, _ = _loss_arguments(s)
    return check_gradient(lambda z, y: jnp.sum(rule.value(z, y)), rule.gradient, z, y, raises=False)


def _hessian_action(s: Setting) -> GradientReport:
    rule, z, y, v = _loss_arguments(s)

    def directed(z: Any, y: Any, v: Any) -> Any:
        return jnp.sum(v * rule.gradient(z, y))

    return check_gradient(directed, rule.hessian_action, z, y, v, raises=False)


def _hessian_factor(s: Setting) -> GradientReport:
    rule, z, y, v = _loss_arguments(s)

    def directed(z: Any, y: Any, v: Any) -> Any:
        return jnp.sum(v * rule.gradient(z, y))

    def by_factor(z: Any, y: Any, v: Any) -> Any:
        factor = rule.hessian_factor(z, y)
        return jnp.einsum("nci,nc->ni", factor, jnp.einsum("ncj,nj->nc", factor, v))

    return check_gradient(directed, by_factor, z, y, v, raises=False)


def _points(dtype: str) -> Any:
    return jnp.asarray([-8, -3.1, -1.2, -0.7, -0.1, 0.05, 0.4, 0.9, 1.3, 2.2, 5.5, 12], dtype)


def _derivative(order: int) -> Callable[[Setting], GradientReport]:
    names = ("value", "slope", "curvature", "third")

    def check(s: Setting) -> GradientReport:
        rule = activations.by_name(s.activation)

        def of(name: str) -> Callable[[Any], Any]:
            f = getattr(rule, name)
            return f if name == "value" else lambda z: f(z, rule.value(z))

        return check_gradient(
            lambda z: jnp.sum(of(names[order - 1])(z)), of(names[order]), _points(s.dtype), raises=False
        )

    return check


FORMS = {
    "value_and_grad": Form(
        ("value_and_grad", "loss", "both_sweeps", "parameter_gradient", "chunked_gradient"), NETWORK, _value_and_grad
    ),
    "input_gradient": Form(("input_gradient", "row_gradient"), NETWORK, _input_gradient),
    "closed_form_loss": Form(("closed_form_loss",), NETWORK, _closed_form_loss),
    "per_example_losses": Form(("per_example_losses",), NETWORK, _per_example_losses),
    "layouts.convert": Form(("convert",), NETWORK, _convert),
    "sweeps.backward": Form(("apply", "backward", "gradient"), ("activation", "dtype"), _backward),
    **EXAMPLE_FORMS,
    **SECOND_FORMS,
    "linear_cross_entropy": Form(
        ("linear_cross_entropy", "linear_cross_entropy_value_and_grad", "second_pass"),
        ("dtype",),
        _linear_cross_entropy,
    ),
    "affine_backward": Form(("affine", "affine_backward"), ("dtype",), _affine_backward),
    "Loss.gradient": Form(("Loss.value", "Loss.gradient"), ("loss", "dtype"), _loss_gradient),
    "Loss.hessian_action": Form(("Loss.hessian_action",), ("loss", "dtype"), _hessian_action),
    "Loss.hessian_factor": Form(("Loss.hessian_factor",), ("loss", "dtype"), _hessian_factor),
    "Activation.slope": Form(("Activation.value", "Activation.slope"), ("activation", "dtype"), _derivative(1)),
    "Activation.curvature": Form(("Activation.curvature",), ("activation", "dtype"), _derivative(2)),
    "Activation.third": Form(("Activation.third",), ("activation", "dtype"), _derivative(3)),
}
