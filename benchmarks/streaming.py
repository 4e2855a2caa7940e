"""Data larger than memory: what reading it part by part costs beside having it in memory, and how much memory it takes.

First it is checked that a stream of one part ends in the very parameters of data in memory. Then epochs are timed: in
memory, streamed from a file that the system still has in its own memory, and from one that it reads from the disk. An
epoch over a large file of holes, which reads as zeros and takes no room, tells the most memory that the process had
during each part.
"""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, control, interleaved, machine, noise, spread, write_results

import funcnet as fn
from funcnet.data import open_npy
from funcnet.training import Stream, prepare, run
from funcnet.training.preparation import Prepared

FEATURES, CLASSES = 784, 10
SGD = optax.sgd(0.01)
CHECKED = 20_000
"""So many examples are trained on both ways before anything is timed."""
GB, MB = 1e9, 1e6
TENTHS = 10
FLAT = 0.05
"""The second half of an epoch may not take so much more memory than the first."""
PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Options:
    """What is run."""

    quick: bool = False
    """Small files and few repeats."""
    repeats: int = 5
    """How often each epoch is timed."""
    gigabytes: float = 20.0
    """The size of the file of holes."""
    out: Path = Path(__file__).parent / "results"
    """Where results go."""


class Files(NamedTuple):
    """Features in two dtypes, and labels."""

    floats: Path
    bytes: Path
    labels: Path


def written(folder: Path, n: int) -> Files:
    """Random examples on the disk."""
    files = Files(*(folder / f"{name}.npy" for name in Files._fields))
    random = np.random.default_rng(0)
    shape = (n, FEATURES)
    floats = np.lib.format.open_memmap(files.floats, "w+", np.float32, shape)
    pixels = np.lib.format.open_memmap(files.bytes, "w+", np.uint8, shape)
    for start in range(0, n, CHECKED):
        count = min(CHECKED, n - start)
        floats[start : start + count] = random.normal(size=(count, FEATURES))
        pixels[start : start + count] = random.integers(0, 256, (count, FEATURES))
    np.save(files.labels, random.integers(0, CLASSES, n))
    return files


def in_memory(x: Path, y: Path, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Examples as arrays that `fit` takes."""
    features, labels = open_npy(x)[slice(n)], open_npy(y)[slice(n)]
    return features / np.float32(255) if features.dtype == np.uint8 else features, labels


def prepared(widths: tuple[int, ...], data: Any, batch_size: int = 128) -> Prepared:
    """A run of a network, compiled."""
    net = fn.MLP(widths, activation=fn.relu, loss=fn.softmax_cross_entropy)
    params = fn.init(jax.random.key(1), net, dtype="float32")
    return prepare(jax.random.key(0), net, SGD, data, batch_size=batch_size, params=params)


def check(widths: tuple[int, ...], x: Path, y: Path) -> None:
    """Refuse to time what does not end in the same parameters."""
    arrays = in_memory(x, y, CHECKED)
    ends = []
    for data in (arrays, Stream(*(open_npy(path)[:CHECKED] for path in (x, y)), part_size=CHECKED + 128)):
        ends.append(jax.device_get(run(prepared(widths, data), 1).state.params))
    if not all((a == b).all() for a, b in zip(*map(jax.tree.leaves, ends), strict=True)):
        raise SystemExit(f"{widths}, {x.name}: a stream does not end where data in memory does")


def forget(path: Path) -> None:
    """Have the system drop what it keeps of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def contenders(widths: tuple[int, ...], x: Path, y: Path) -> dict[str, Callable[[], Any]]:
    """Epochs: the same examples in memory, in a file that was just read, and in one that was not."""
    streamed = prepared(widths, Stream(open_npy(x), open_npy(y)))
    memory = prepared(widths, in_memory(x, y))

    def cold() -> Any:
        forget(x)
        return run(streamed, 1).state

    return {
        "in memory": lambda: run(memory, 1).state,
        "streamed": lambda: run(streamed, 1).state,
        "streamed from disk": cold,
        CONTROL: control(),
    }


def timed(
    files: Files, n: int, repeats: int, networks: Sequence[tuple[int, ...]]
) -> tuple[list[dict[str, Any]], Lines]:
    """Seconds of an epoch of each kind."""
    found, rows = [], []
    for widths in networks:
        for x in (files.floats, files.bytes):
            check(widths, x, files.labels)
            times = interleaved(contenders(widths, x, files.labels), repeats, warm_up=1)
            print(f"{widths}, {x.stem}: {noise(times)}", flush=True)
            memory = spread(times["in memory"])
            for name in list(times)[:-1]:
                own, ratios = spread(times[name]), spread(times[name] / times["in memory"])
                found.append({"widths": widths, "dtype": x.stem, "form": name, "seconds": times[name].tolist()})
                quartiles = f"{own.low:.2f} to {own.high:.2f}"
                rate = f"{n / own.median:,.0f}"
                ratio = "" if own == memory else f"{ratios.median:.2f} ({ratios.low:.2f} to {ratios.high:.2f})"
                rows.append(["-".join(map(str, widths)), x.stem, name, f"{own.median:.2f}", quartiles, rate, ratio])
    header = ["network", "file of", "epoch", "seconds", "quartiles", "examples a second", "times in memory"]
    return found, Lines(f"Epochs of {n:,} examples of {FEATURES} features, batch 128", header, rows)


def peak() -> int:
    """The most memory that the process had since the last call (by Linux), in bytes."""
    lines = (PROCESS / "status").read_text().splitlines()
    (PROCESS / "clear_refs").write_text("5")
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def holes(folder: str, gigabytes: float) -> dict[str, Any]:
    """Most memory of the process during each part of an epoch over a file of holes."""
    n = int(gigabytes * GB) // (4 * FEATURES)
    x = Path(folder) / "holes.npy"
    with x.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, FEATURES)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * FEATURES * n)
    stream = Stream(open_npy(x), np.arange(n) % CLASSES)
    ready = prepared((FEATURES, 32, CLASSES), stream, batch_size=1024)
    resident: list[int] = []
    result = run(ready, 1, on_part=lambda _: resident.append(peak()))
    tenths = [int(max(some)) for some in np.array_split(resident, TENTHS)]
    taken = {"apparent_bytes": x.stat().st_size, "bytes_on_disk": 512 * x.stat().st_blocks, "parts": ready.parts}
    return taken | {
        "examples": n,
        "seconds": float(result.history["seconds"][0]),
        "resident": resident,
        "tenths": tenths,
        "growth": max(tenths[TENTHS // 2 :]) / max(tenths[: TENTHS // 2]) - 1,
    }


def memory_table(found: dict[str, Any]) -> Lines:
    """For people."""
    rows = [
        ["file", f"{found['apparent_bytes'] / GB:.2f} GB ({found['bytes_on_disk'] / MB:.2f} MB on the disk)"],
        ["examples, parts", f"{found['examples']:,}, {found['parts']}"],
        ["epoch", f"{found['seconds']:.1f} s, {found['apparent_bytes'] / found['seconds'] / GB:.2f} GB a second"],
        ["most memory during each tenth of it, MB", ", ".join(f"{most / MB:.0f}" for most in found["tenths"])],
        ["most in its second half, over that in the first", f"{found['growth']:+.1%}"],
    ]
    return Lines(
        f"Memory while an epoch of {FEATURES}-32-{CLASSES}, batch 1,024, goes over a file of holes", ["", ""], rows
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Check, time, measure memory, print, write."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(machine("optax"))
    n, repeats, gigabytes = (60_000, 2, 4.0) if options.quick else (500_000, options.repeats, options.gigabytes)
    networks = [(FEATURES, 128, CLASSES), (FEATURES, 512, 512, CLASSES)][: 1 if options.quick else 2]
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # whose memory nothing else is in
            memory = pool.submit(holes, folder, gigabytes).result()
        console.print(shown(memory_table(memory)))
        times, lines = timed(written(Path(folder), n), n, repeats, networks)
    console.print(shown(lines))
    if memory["growth"] > FLAT:
        raise SystemExit(f"memory is not flat: {memory['growth']:+.1%}")
    record = {"epochs": times, "memory": memory}
    text = "\n\n".join(map(markdown, (lines, memory_table(memory))))
    console.print(
        write_results(options.out, "streaming_quick" if options.quick else "streaming", record, text, "optax")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
