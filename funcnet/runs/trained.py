"""What a run has in hand when training is over."""

from typing import Any, NamedTuple

from funcnet.runs.model import Model
from funcnet.runs.proof import Proof
from funcnet.runs.setup import Setup
from funcnet.training.fit import Result
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
