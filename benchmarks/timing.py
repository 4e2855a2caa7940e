"""What every benchmark needs: interleaved timing, a description of the machine, and a way to write results whole."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np


class Spread(NamedTuple):
    """Seconds of repeated runs.

    Attributes:
        median: Their median.
        low: Their lower quartile.
        high: Their upper quartile.
    """

    median: float
    low: float
    high: float


def seconds(run: Callable[[], Any]) -> float:
    """The time of one run, its result waited for."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def interleaved(contenders: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 2) -> dict[str, np.ndarray]:
    """Run the contenders in turn, round by round in a new order, so that drift of the machine hits all alike.

    Returns:
        For each contender its seconds, round by round: ratios of the same round compare like with like.
    """
    for _ in range(warm_up):
        for run in contenders.values():
            seconds(run)
    order = list(contenders)
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(repeats):
        for i in random.permutation(len(order)):
            times[order[i]].append(seconds(contenders[order[i]]))
    return {name: np.array(values) for name, values in times.items()}


def spread(times: np.ndarray) -> Spread:
    """Median and quartiles."""
    low, median, high = np.percentile(times, [25, 50, 75])
    return Spread(float(median), float(low), float(high))


def machine(*packages: str) -> str:
    """One line: device, processor, cores, and versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("funcnet", "jax", "jaxlib", "numpy", *packages))
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    device = jax.devices()[0]
    where = f"{device.platform} ({device.device_kind}), {model}, {os.cpu_count()} cores"
    return f"{where}; Python {platform.python_version()}, {versions}"


def write_whole(path: Path, save: Callable[[Path], Any]) -> None:
    """Have `save` write a file beside `path`, then put it in its place: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.unfinished{path.suffix}")
    save(unfinished)
    unfinished.replace(path)
