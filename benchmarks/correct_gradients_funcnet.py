"""The gradients of funcnet itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gradient_cases import Family, integers, normal

import funcnet as fn


def families() -> list[Family]:
    """All of them."""

    def arguments(net: fn.MLP, targets: Any) -> Callable[[str, float], tuple[Any, ...]]:
        def args(dtype: str, scale: float) -> tuple[Any, ...]:
            params = fn.init(jax.random.key(1), net, dtype=dtype)
            return net, params, normal(2, (8, net.widths[0]), dtype, scale), targets(dtype)

        return args

    gelu = fn.MLP((5, 6, 3), activation=fn.gelu, loss=fn.softmax_cross_entropy, l2=0.01)
    count = fn.MLP((5, 6, 3), activation=fn.tanh, loss=fn.poisson)
    labels = arguments(gelu, lambda dtype: integers(4, 3, (8,)))
    counts = arguments(count, lambda dtype: integers(4, 5, (8, 3)).astype(dtype))
    return [
        Family("funcnet, gelu classifier", fn.loss, fn.value_and_grad, labels, argnums=1),
        Family("funcnet, gelu classifier, features", fn.loss, fn.input_gradient, labels, argnums=2),
        Family("funcnet, counts", fn.loss, fn.value_and_grad, counts, argnums=1, dtypes=("float16", "float64")),
        Family(
            "funcnet, closed_form_loss",
            fn.loss,
            jax.grad(fn.closed_form_loss, argnums=1),
            counts,
            argnums=1,
            dtypes=("bfloat16", "float32"),
        ),
        Family(
            "funcnet, softmax cross-entropy",
            lambda z, y: jnp.sum(fn.softmax_cross_entropy.value(z, y)),
            fn.softmax_cross_entropy.gradient,
            _outputs,
            scales=(1.0, 40.0),
        ),
    ]


def _outputs(dtype: str, scale: float) -> tuple[Any, ...]:
    return normal(9, (9, 4), dtype, scale), integers(10, 4, (9,))
