"""What every benchmark needs: interleaved timing, a measure of noise, the machine in words, results written whole."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from math import ceil
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


CONTROL = "control"
"""The name of a workload that never changes, whose spread tells how noisy the machine was."""


def control() -> Callable[[], Any]:
    """That workload: products of two fixed matrices by NumPy, some milliseconds long."""
    matrix = np.random.default_rng(0).normal(0, 1, (512, 512)).astype(np.float32)
    return lambda: [matrix @ matrix for _ in range(20)]


def seconds(run: Callable[[], Any]) -> float:
    """The time of one run, its result waited for."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def often(run: Callable[[], Any], calls: int) -> Callable[[], None]:
    """So many calls one after the other, each waited for."""

    def loop() -> None:
        for _ in range(calls):
            jax.block_until_ready(run())

    return loop


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


BLOCK = 0.02
"""Seconds that each contender takes in each round of `in_blocks`: what is faster is called more often in a row."""


def in_blocks(contenders: Mapping[str, Callable[[], Any]], repeats: int, block: float = BLOCK) -> dict[str, np.ndarray]:
    """Seconds of one call of each, round by round; fast ones are called more often, as slow ones empty all caches."""
    for run in contenders.values():
        seconds(run)
    calls = {label: ceil(block / seconds(run)) for label, run in contenders.items()}
    loops = {label: often(run, calls[label]) for label, run in contenders.items()}
    return {label: times / calls[label] for label, times in interleaved(loops, repeats, warm_up=0).items()}


class Program(NamedTuple):
    """A compiled function on its arguments.

    Attributes:
        run: Call it.
        temporary: Bytes of temporary memory, by XLA.
    """

    run: Callable[[], Any]
    temporary: int


def program(fun: Callable[..., Any], *arguments: Any) -> Program:
    """Compile."""
    compiled = jax.jit(fun).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()
    return Program(lambda: compiled(*arguments), memory.temp_size_in_bytes)


def spread(times: np.ndarray) -> Spread:
    """Median and quartiles."""
    low, median, high = np.percentile(times, [25, 50, 75])
    return Spread(float(median), float(low), float(high))


def noise(times: Mapping[str, np.ndarray]) -> str:
    """One line on how far the control workload, timed among the others, was from always taking the same time."""
    median, low, high = (1e3 * value for value in spread(times[CONTROL]))
    return f"control workload: {median:.1f} ms, quartiles {low:.1f} to {high:.1f} ({(high - low) / median:.0%})"


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


NEEDED = "--data-dir or the environment variable FUNCNET_MNIST_DIR must name the folder that holds its files"
"""What a benchmark says that finds no MNIST."""


def write_results(folder: Path, name: str, record: Mapping[str, Any], text: str, *packages: str) -> str:
    """Write what was measured as `name`.json and `name`.md, both with date, device and versions; say where."""
    about = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(*packages)}
    lines = json.dumps({**about, **record}, indent=1) + "\n"
    page = f"{text}\n\n{about['date']}, {about['machine']}\n"
    write_whole(folder / f"{name}.json", lambda path: path.write_text(lines))
    write_whole(folder / f"{name}.md", lambda path: path.write_text(page))
    return f"Results: {folder / name}.json, .md" + ", .png" * (folder / f"{name}.png").exists()
