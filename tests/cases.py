"""What the tests share: one small network per case, its data, and the comparison with the oracle.

Sizes are the same wherever they may be, since each new shape compiles anew.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn
from funcnet.checking import TOLERANCE, Comparison, compare, reference_value_and_grad
from funcnet.derive.assignments import sizes_in, statements
from funcnet.derive.code import Names

X64 = jax.config.jax_enable_x64
DTYPES = ("float16", "bfloat16", "float32", "float64") if X64 else ("float16", "bfloat16", "float32")
WIDE = DTYPES[-1]
ACTIVATIONS = tuple(fn.activations.ACTIVATIONS.values())
CHUNKED = fn.softmax_cross_entropy_chunked(2)  # so that 3 classes are more than one chunk
LOSSES = tuple(CHUNKED if name == CHUNKED.name else fn.losses.by_name(name) for name in fn.losses.LOSSES)
N = 9
MNIST = Path(os.environ.get("FUNCNET_MNIST_DIR", Path(__file__).parent.parent.parent / "shared" / "data" / "mnist"))
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}; FUNCNET_MNIST_DIR names its folder")


def name_of(case: Any) -> str:
    return getattr(case, "name", str(case))


def some(values: Iterable[Any], count: int) -> list[Any]:
    """Parameters of a test: the default run takes `count` of them, evenly spread; the others are slow tests."""
    values = [value if type(value) is tuple else (value,) for value in values]
    kept = {round(i) for i in np.linspace(0, len(values) - 1, count)}
    return [pytest.param(*value, marks=() if i in kept else pytest.mark.slow) for i, value in enumerate(values)]


def targets(loss: fn.Loss, k: int = 3, dtype: str = WIDE, n: int = N, seed: int = 3) -> jax.Array:
    """Labels for a classifier, counts or numbers in [0, 1] for the others."""
    random = np.random.default_rng(seed)
    if loss.targets == "classes":
        return jnp.asarray(random.integers(0, k, n), "int32")
    y = random.integers(0, 4, (n, k)) if loss.name == "poisson" else random.uniform(0, 1, (n, k))
    return jnp.asarray(y, dtype)


def case(
    activation: Any = fn.tanh, loss: fn.Loss = fn.half_squared_error, dtype: str = WIDE, k: int = 3, **fields: Any
) -> tuple[fn.MLP, fn.Params, jax.Array, jax.Array]:
    """A network 5-7-6-k with nonzero biases, a batch and its targets."""
    net = fn.MLP((5, 7, 6, k), activation=activation, loss=loss, **fields)
    random = np.random.default_rng(1)
    params = tuple(
        fn.Layer(
            jnp.asarray(random.normal(0, 1 / np.sqrt(i), (i, o)), dtype), jnp.asarray(random.normal(0, 0.3, o), dtype)
        )
        for i, o in zip(net.widths[:-1], net.widths[1:], strict=True)
    )
    x = jnp.asarray(random.normal(0, 1, (N, 5)), dtype)
    return net, params, x, targets(loss, k, dtype)


def signed_weights(dtype: str = WIDE) -> jax.Array:
    """Random weights of both signs, one of them 0; most are positive, so that weighted sums hardly cancel."""
    weights = np.random.default_rng(2).normal(1, 1, N)
    weights[4] = 0
    assert weights.min() < 0
    return jnp.asarray(weights, dtype)


_loss_reference = reference_value_and_grad(fn.loss, argnums=1)


def against_oracle(net: fn.MLP, params: fn.Params, x: Any, y: Any, compiled: bool = False, **kwargs: Any) -> Comparison:
    """The closed form in its own dtype against `jax.grad` in float64, value included."""
    run = jax.jit(fn.value_and_grad) if compiled else fn.value_and_grad
    got = run(net, params, x, y, **kwargs)
    return compare(got, _loss_reference(net, params, x, y, **kwargs), like=(params[0].b[0], params))


def assert_close(got: Any, expected: Any, like: Any = None, terms: float = 1.0) -> None:
    """Equal within the tolerance of the dtype, taken `terms` times where the test itself adds up as many results."""
    result = expected_to_fit(compare(got, expected, like=like), terms)
    assert not result, result


def expected_to_fit(comparison: Comparison, terms: float = 1.0) -> str:
    """The text of the comparison if anything in it is off, else nothing."""
    off = comparison.problems or any(leaf.error > terms * TOLERANCE[leaf.dtype] for leaf in comparison.leaves)
    return str(comparison) if off else ""


def load_script(name: str) -> Any:
    """A script of the project as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent.parent / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def expression_value(e, symbols, arrays):
    """The value of a `funcnet.derive` expression as derived modules compute it."""
    lines = statements([("value_", e)], Names(sizes_in(symbols), {}, "d_"))
    space = {"jnp": jnp, "jax": jax, "fn": fn, **arrays}
    exec("\n".join(lines), space)
    return space["value_"]
