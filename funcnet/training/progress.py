"""Where a run stands after a part of an epoch: all that going on takes."""

import math
from typing import NamedTuple

from funcnet.training.epoch import State
from funcnet.training.metrics import Sums


class Progress(NamedTuple):
    """A run after some epochs and parts of the next; going on from it is as if the run had never stopped.

    Attributes:
        state: The state after the last part; within an epoch its key is that of the epoch.
        best: The state of the best epoch.
        best_epoch: Which that was; 0 for the state before training.
        since: The epoch after which there was no better one.
        least: The monitored loss of the best epoch.
        records: The metrics of each epoch.
        parts: The parts of an epoch; 1 for data in memory.
        window: The rows that a part of a stream has of each block; 0 for data in memory.
        part: How many of the next epoch are done.
        sums: Their sums.
        seconds: The time they took.
    """

    state: State
    best: State
    best_epoch: int
    since: int
    least: float
    records: tuple[dict[str, float], ...]
    parts: int = 1
    window: int = 0
    part: int = 0
    sums: Sums | None = None
    seconds: float = 0.0

    @property
    def epoch(self) -> int:
        """How many epochs there were."""
        return len(self.records)

    @property
    def position(self) -> int:
        """How many parts of epochs there were."""
        return self.epoch * self.parts + self.part


def place(epoch: int, part: int) -> str:
    """Where a run stands, in words."""
    return f"epoch {epoch}" + (f", part {part} of the next" if part else "")


def begin(state: State, parts: int = 1, window: int = 0) -> Progress:
    """A run before its first epoch."""
    return Progress(state, state, 0, 0, math.inf, (), parts, window)
