"""Where a run stands after an epoch: all that going on takes."""

import math
from typing import NamedTuple

from funcnet.training.epoch import State


class Progress(NamedTuple):
    """A run after some epochs; going on from it is as if the run had never stopped.

    Attributes:
        state: The state after the last epoch.
        best: The state of the best epoch.
        best_epoch: Which that was; 0 for the state before training.
        since: The epoch after which there was no better one.
        least: The monitored loss of the best epoch.
        records: The metrics of each epoch.
    """

    state: State
    best: State
    best_epoch: int
    since: int
    least: float
    records: tuple[dict[str, float], ...]

    @property
    def epoch(self) -> int:
        """How many epochs there were."""
        return len(self.records)


def begin(state: State) -> Progress:
    """A run before its first epoch."""
    return Progress(state, state, 0, 0, math.inf, ())
