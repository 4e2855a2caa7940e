"""What `test_devices.py` looks at, as JSON: functions and training on several devices, beside one device alone.

With --short on two meshes, by one optimizer.

A program of its own, since the number of devices is fixed before JAX starts.
"""

import json
import re
import sys
from collections import Counter

import jax
import numpy as np
import optax

import funcnet as fn
from funcnet.checking import compare
from funcnet.training import Stream, device_mesh, prepare, run
from funcnet.training.placement import check_mesh, placed, placement

COLLECTIVE = re.compile(r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")
MESHES = {"1": (1, 1), "2": (2, 1), "4": (4, 1), "8": (8, 1), "4 x 2": (4, 2), "1 x 4": (1, 4)}
RANDOM = np.random.default_rng(0)
NET = fn.MLP((12, 16, 24, 8, 5), activation=fn.tanh, loss=fn.softmax_cross_entropy, l2=0.01)
PARAMS = fn.init(jax.random.key(0), NET, dtype="float32")
TANGENT = fn.init(jax.random.key(1), NET, dtype="float32")
X, Y = RANDOM.normal(size=(32, 12)).astype(np.float32), RANDOM.integers(0, 5, 32)
WEIGHTS = RANDOM.uniform(0, 2, 32).astype(np.float32)
FUNCTIONS = {
    "value_and_grad": lambda p, x, y, w: fn.value_and_grad(NET, p, x, y),
    "value_and_grad, weighted": lambda p, x, y, w: fn.value_and_grad(NET, p, x, y, weights=w),
    "per_example_grad_norms": lambda p, x, y, w: fn.per_example_grad_norms(NET, p, x, y),
    "clipped_grad_sum": lambda p, x, y, w: fn.clipped_grad_sum(NET, p, x, y, 0.5, weights=w),
    "ggn_vp": lambda p, x, y, w: fn.ggn_vp(NET, p, x, y, TANGENT, weights=w),
    "hvp": lambda p, x, y, w: fn.hvp(NET, p, x, y, TANGENT, weights=w),
}
N = 301
DATA = RANDOM.normal(size=(N, 12)).astype(np.float32), RANDOM.integers(0, 5, N), RANDOM.integers(1, 4, N)
OPTIMIZERS = {"adam": optax.adam(1e-2), "lbfgs": fn.training.optimizer_by_name("lbfgs")}
RUNS = (("adam", None), ("adam", 0.3), ("lbfgs", None))
LOSSES = ("train_loss", "validation_loss")
FULL = ("8", "4 x 2")


def collectives(program):
    return dict(Counter(COLLECTIVE.findall(program.as_text())))


def functions(mesh, expected):
    """The largest error of each function in eps·max, and what its program sends between devices."""
    place = placement(mesh, NET, fn.training.new_state(jax.random.key(0), PARAMS, optax.sgd(0.1)), None)
    params = jax.tree.map(placed, PARAMS, place.state.params)
    rows = [placed(array, place.on("data")) for array in (X, Y, WEIGHTS)]
    found = {}
    for name, function in FUNCTIONS.items():
        program = jax.jit(function)
        error = compare(program(params, *rows), expected[name]).error
        found[name] = {"error": float(error), "sent": collectives(program.lower(params, *rows).compile())}
    return found


def trained(optimizer, dropout, mesh):
    net = fn.MLP(NET.widths, activation=fn.tanh, loss=fn.softmax_cross_entropy, l2=0.01, dropout=dropout)
    whole = optimizer != "adam"
    prepared = prepare(
        jax.random.key(0), net, OPTIMIZERS[optimizer], DATA, batch_size=None if whole else 32, params=PARAMS,
        validation=DATA, mesh=mesh,
    )  # fmt: skip
    return prepared, run(prepared, 3)


def training(run_of, mesh, alone):
    """How far parameters and losses are from those of one device, and what an epoch sends."""
    prepared, result = trained(*run_of, mesh)
    program, arguments = prepared.epoch(prepared.state)
    sharding = result.state.params[0].w.sharding
    return {
        "error": float(compare(jax.device_get(result.state.params), alone.state.params).error),
        "losses": max(float(np.max(np.abs(result.history[m] / alone.history[m] - 1))) for m in LOSSES),
        "sent": collectives(program.lower(*arguments).compile()),
        "devices": len(sharding.device_set),
        "split": not sharding.is_fully_replicated,
        "blocks": prepared.placement.blocks,
    }


def streamed(mesh):
    """Training on a stream in several parts."""
    stream = Stream(*DATA, part_size=80)
    prepared = prepare(
        jax.random.key(0), NET, OPTIMIZERS["adam"], stream, batch_size=16, params=PARAMS, validation=stream, mesh=mesh
    )
    return prepared, run(prepared, 3)


def streaming(mesh):
    """How far training on a stream is from that on one device, and in how many parts an epoch was."""
    alone, (prepared, result) = streamed(None)[1], streamed(mesh)
    return {
        "error": float(compare(jax.device_get(result.state.params), alone.state.params).error),
        "losses": max(float(np.max(np.abs(result.history[m] / alone.history[m] - 1))) for m in LOSSES),
        "parts": prepared.parts,
        "blocks": prepared.placement.blocks,
    }


def nonfinite(mesh):
    """What is told of a loss that is not finite."""
    prepared = prepare(jax.random.key(0), NET, optax.sgd(1e38), DATA, batch_size=32, params=PARAMS, mesh=mesh)
    return str(run(prepared, 2).failure)


def main():
    expected = {name: jax.jit(function)(PARAMS, X, Y, WEIGHTS) for name, function in FUNCTIONS.items()}
    short = "--short" in sys.argv
    alone = {each: trained(*each, None)[1] for each in (RUNS[:1] if short else RUNS)}
    found = {}
    for name, sizes in MESHES.items():
        if short and name not in FULL:
            continue
        mesh = check_mesh(device_mesh(*sizes), NET, None)
        runs = RUNS if name in FULL and not short else RUNS[:1]
        found[name] = {
            "functions": functions(mesh, expected) if name in FULL else {},
            "training": {
                f"{optimizer}, {dropout}": training((optimizer, dropout), mesh, alone[optimizer, dropout])
                for optimizer, dropout in runs
            },
        }
    mesh = device_mesh(4, 2)
    found["streaming"] = streaming(mesh)
    found["nonfinite"] = [nonfinite(mesh), nonfinite(None)]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
