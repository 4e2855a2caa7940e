"""The quantities of `per_example.py`: in closed form, and from the examples' gradients written out."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import funcnet as fn

PLAIN, SHARE, NORMS, CLIPPED, GRAM = "plain gradient", 0.5, "norms", "clipped sum", "Gram matrix"
MOMENT, NOISE = "second moment", "noise scale"
CLOSED: dict[str, Callable[..., Any]] = {
    NORMS: fn.per_example_grad_norms,
    CLIPPED: lambda net, params, x, y: fn.clipped_grad_sum(net, params, x, y, SHARE),
    MOMENT: fn.grad_second_moment,
    GRAM: fn.grad_gram,
    NOISE: fn.gradient_noise_scale,
}
CHUNK = 16
"""Examples at a time, where not all gradients are written out at once."""
WRITTEN_OUT = {"all at once": None, f"{CHUNK} at a time": CHUNK}


class Case(NamedTuple):
    """A network, a batch, and what is aimed at.

    Attributes:
        widths: Of the network.
        batch: Examples.
        faster: How many times faster than written out a quantity is to be.
        plain: How many times as long as a plain gradient the clipped sum may take.
    """

    widths: tuple[int, ...]
    batch: int
    faster: Mapping[str, float]
    plain: float = 1.1


def classifier(widths: tuple[int, ...]) -> fn.MLP:
    """The relu network that everything is measured on."""
    return fn.MLP(widths, activation=fn.relu, loss=fn.softmax_cross_entropy)


def problem(case: Case) -> tuple[Any, ...]:
    """A relu classifier and random data."""
    net = classifier(case.widths)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(0, 1, (case.batch, case.widths[0])), "float32")
    y = jnp.asarray(random.integers(0, case.widths[-1], case.batch), "int32")
    return net, fn.init(jax.random.key(0), net, dtype="float32"), x, y


def flat_rows(tree: Any) -> jax.Array:
    """Leaves with a first axis of examples, side by side."""
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def one_gradient(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array) -> Any:
    """∇ℓ of one example by JAX."""
    return jax.grad(lambda p: fn.per_example_losses(net, p, x[None], y[None])[0])(params)


def squares(tree: Any) -> jax.Array:
    """‖∇ℓ‖² of one gradient."""
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.zeros((), "float32"))


def clipped(tree: Any) -> Any:
    """One gradient, clipped."""
    factor = jnp.minimum(1, SHARE / jnp.sqrt(squares(tree)))
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def summed(tree: Any) -> Any:
    """Leaves with a first axis of examples, added up."""
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), tree)


def of_rows(name: str, rows: Callable[[Callable[[Any], Any]], Any], n: int) -> Any:
    """A quantity from `rows(f)`, which is f of each example's gradient, stacked."""
    if name == NORMS:
        return jnp.sqrt(rows(squares))
    if name == CLIPPED:
        return summed(rows(clipped))
    if name == MOMENT:
        return summed(rows(lambda tree: jax.tree.map(jnp.square, tree)))
    if name == GRAM:
        each = flat_rows(rows(lambda tree: tree))
        return jnp.matmul(each, each.T, precision="highest")
    each = rows(lambda tree: tree)
    mean = squares(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each))
    m = squares(each) / n
    signal = n * mean - m
    return jnp.where(signal > 0, n * (m - mean) / signal, jnp.inf)


def written_out(name: str, chunk: int | None) -> Callable[..., Any]:
    """A quantity from the examples' gradients, all at once or `chunk` at a time."""

    def run(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array) -> Any:
        def rows(f: Callable[[Any], Any]) -> Any:
            def one(example: tuple[jax.Array, jax.Array]) -> Any:
                return f(one_gradient(net, params, *example))

            return jax.vmap(one)((x, y)) if chunk is None else jax.lax.map(one, (x, y), batch_size=chunk)

        return of_rows(name, rows, x.shape[0])

    return run
