"""What a run has in hand when training is over."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from funcnet.runs.model import Model, measure
from funcnet.runs.processes import mesh_of
from funcnet.runs.proof import Proof
from funcnet.runs.setup import Setup
from funcnet.training.run import Result
from funcnet.training.sweep import Sweep


class Trained(NamedTuple):
    """What training gave, and how good it is; of a sweep the best network.

    Attributes:
        setup: What was trained.
        result: What training left.
        model: The network with its scales and names.
        summary: How good it is on each part, and where the time went.
        proof: What was proven of its gradient before.
        sweep: All networks, if there were several.
    """

    setup: Setup
    result: Result
    model: Model
    summary: dict[str, Any]
    proof: Proof
    sweep: Sweep | None = None


def measured(setup: Setup, result: Result, proof: Proof, start: float, trained_in: float, networks: int = 1) -> Trained:
    """How good the model is on each part, and where the time went."""
    result = result._replace(history=setup.in_units(result.history))
    model = setup.model(result.state.params)
    mesh = mesh_of(setup.config)
    epoch = float(np.mean(result.history["seconds"]))
    wholes = setup.parts if setup.streamed is None else {**setup.parts, "train": setup.streamed}
    summary = {
        "examples": setup.counts,
        **{part: measure(model, dataset) for part, dataset in wholes.items()},
        "epochs": len(result.history["seconds"]),
        "epochs_wanted": setup.epochs,
        "stopped": result.stopped,
        "kept_epoch": result.epoch,
        "failure": str(result.failure) if result.failure else None,
        "privacy": privacy_of(setup, result),
        "compile_seconds": float(result.history["compile_seconds"][0]),
        "epoch_seconds": epoch,
        "networks": networks,
        "examples_a_second": networks * setup.counts["train"] / epoch,
        "training_seconds": trained_in,
        "seconds": time.perf_counter() - start,
        "devices": 1 if mesh is None else mesh.size,
        "processes": jax.process_count(),
    }
    return Trained(setup, result, model, summary, proof)


def privacy_of(setup: Setup, result: Result) -> dict[str, float] | None:
    """ε of all steps that were taken, and what it took."""
    if setup.privacy is None:
        return None
    return {"epsilon": float(result.history["epsilon"][-1]), **setup.privacy._asdict()}
