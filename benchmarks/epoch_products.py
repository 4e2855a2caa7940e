"""The matrix products that no epoch can do without, alone: by NumPy, and by XLA with each of its libraries."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

STIR = 1e-5
"""How much of a product goes into the next step's input, so that no step is like the one before."""
EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
"""XLA's other library for products on CPUs, faster for some shapes."""

Products = Callable[[], tuple[Any, Any]]
"""Runs the products of so many steps; returns the last step's input and its products Aᵀ Δ."""


def numpy_products(ws: list[np.ndarray], x: np.ndarray, steps: int) -> Products:
    """By NumPy, into arrays that are there."""
    outputs, cotangents = ([np.empty((len(x), w.shape[1]), np.float32) for w in ws] for _ in range(2))
    grads = [np.empty_like(w) for w in ws]

    def run() -> tuple[Any, Any]:
        inputs = [x.copy(), *outputs]
        for _ in range(steps):
            for a, w, z in zip(inputs, ws, outputs, strict=False):
                np.matmul(a, w, out=z)
            d = outputs[-1]
            for i in reversed(range(len(ws))):
                np.matmul(inputs[i].T, d, out=grads[i])
                if i > 0:
                    d = np.matmul(d, ws[i].T, out=cotangents[i - 1])
            inputs[0][0, 0] += np.float32(STIR) * grads[0][0, 0]
        return inputs[0], grads

    return run


def xla_products(ws: list[np.ndarray], x: np.ndarray, steps: int, options: dict[str, Any]) -> Products | None:
    """By XLA, all steps in one program; None where this compiler does not know the options.

    All products of a step depend on its input, and that on the products of the step before. So none can be moved out
    of the loop or left out; and since the input's entry is written after its last use, nothing is copied for it.
    """

    def one_step(_: Any, carried: Any) -> Any:
        ws, x, _ = carried
        inputs = [x]
        for w in ws:
            inputs.append(jnp.matmul(inputs[-1], w, precision="highest"))
        d, grads = inputs[-1], []
        for i in reversed(range(len(ws))):
            grads.insert(0, jnp.matmul(inputs[i].T, d, precision="highest"))
            d = jnp.matmul(d, ws[i].T, precision="highest") if i > 0 else d
        return ws, x.at[0, 0].add(STIR * grads[0][0, 0]), grads

    def program(ws: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, steps, one_step, (ws, x, [jnp.zeros_like(w) for w in ws]))[1:]

    arguments = [jnp.asarray(w) for w in ws], jnp.asarray(x)
    try:
        compiled = jax.jit(program, compiler_options=options).lower(*arguments).compile()
    except jax.errors.JaxRuntimeError:  # options come and go with the compiler's versions
        return None
    return lambda: compiled(*arguments)


def products(widths: tuple[int, ...], batch_size: int, steps: int) -> dict[str, Products]:
    """A W, Aᵀ Δ and, but for the first layer, Δ Wᵀ, of so many steps, nothing else; matrices are random."""
    random = np.random.default_rng(0)
    ws = [random.normal(0, i**-0.5, (i, o)).astype(np.float32) for i, o in pairwise(widths)]
    x = random.normal(0, 1, (batch_size, widths[0])).astype(np.float32)
    runs = {"NumPy": numpy_products(ws, x, steps), "XLA": xla_products(ws, x, steps, {})}
    runs["XLA by Eigen"] = xla_products(ws, x, steps, EIGEN)
    return {name: run for name, run in runs.items() if run}
