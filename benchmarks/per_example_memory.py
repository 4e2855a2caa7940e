"""Memory of the forms of `per_example.py`: what a form takes for n examples, and for how many a given memory suffices.

XLA says at compile time what a program will take, so nothing is run. PyTorch's forms are run, and the peak is that of
its own allocator, event by event: arrays alone, as XLA counts them, without what the process takes for itself.
"""

import gc
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import jax
from per_example_forms import CLIPPED, CLOSED, NORMS, PLAIN, classifier, written_out
from per_example_peers import GHOST, HOOKS, TORCH, Built, Setting, constant_setting, load
from tables import Lines

import funcnet as fn

LIMIT = 4e9
"""Bytes that the largest batch may take."""
BATCHES = tuple(sorted(m * 2**k for m in (2, 3) for k in range(4, 21)))
"""Batches that are tried: powers of two from 32 on, and halfway between."""
PUBLISHED = {TORCH: 62.5, HOOKS: 3663.0, GHOST: 63.13}
"""MB of 2²⁰ bytes (62.5 of them hold the gradient) in the first backward pass of 5120-2560-1280 at batch 32.

PyTorch blog, "Clipping in Opacus", 2024.
"""
WITHIN = 1.05
"""How many times a plain gradient's memory the clipped sum may take in that network."""


class Sizes(NamedTuple):
    """Bytes.

    Attributes:
        arguments: Parameters, features and labels.
        result: What comes back.
        temporary: The most there is beside both at any time.
    """

    arguments: int
    result: int
    temporary: int

    def total(self) -> int:
        """All of it."""
        return sum(self)


@cache
def xla_sizes(fun: Callable[..., Any], widths: tuple[int, ...], n: int) -> Sizes:
    """Of a function of a network, its parameters and n examples: compiled, not run."""
    net = classifier(widths)
    params = jax.eval_shape(lambda: fn.init(jax.random.key(0), net, dtype="float32"))
    x, y = jax.ShapeDtypeStruct((n, widths[0]), "float32"), jax.ShapeDtypeStruct((n,), "int32")
    memory: Any = jax.jit(fun).lower(net, params, x, y).compile().memory_analysis()
    return Sizes(memory.argument_size_in_bytes, memory.output_size_in_bytes, memory.temp_size_in_bytes)


@cache
def torch_sizes(build: Callable[[Setting], Built], name: str, widths: tuple[int, ...], n: int) -> Sizes:
    """Of a quantity by PyTorch for n examples: run once, on a model of its own."""
    load()
    profiler = import_module("torch.profiler")
    setting = constant_setting(widths, n)
    run = build(setting)[name]
    gc.collect()  # hooks make cycles: what an earlier model held must not be freed among the events
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        result = run()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    arguments = sum(array.nbytes for array in (*setting.matrices, setting.x, setting.y))
    own = sum(part.nbytes for part in (result if isinstance(result, list) else [result]))
    return Sizes(arguments, own, peak - own)


def largest_batch(sizes: Callable[[int], Sizes], limit: float) -> int | None:
    """The largest of `BATCHES` whose examples fit; None where not even the smallest fits.

    Parameters take a fixed share, so memory grows by less than the batch does: each step goes as far as it may if it
    grew as much, and only the last one can exceed the limit.
    """
    total, n = sizes(BATCHES[0]).total(), BATCHES[0]
    while total <= limit and (reach := BATCHES[bisect_right(BATCHES, n * limit / total) - 1]) > n:
        total, n = sizes(reach).total(), reach
    where = BATCHES.index(n)
    if total > limit:  # the smallest, or it grows faster
        return next((m for m in reversed(BATCHES[:where]) if sizes(m).total() <= limit), None)
    for m in BATCHES[where + 1 :]:
        if sizes(m).total() > limit:
            break
        n = m
    return n


def room(limit: float) -> str | None:
    """Why PyTorch's forms cannot be run up to the limit here, if so: the last step may take half as much again."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)
    if free >= 2 * limit:
        return None
    return (
        f"The largest batches of PyTorch's forms are left out: {free / 1e9:.1f} GB are free, {2 * limit / 1e9:g} needed"
    )


def published_lines(builders: Mapping[str, Callable[[Setting], Built]], quick: bool) -> Lines:
    """Memory of a clipped sum in the network of `PUBLISHED`, over that of a plain gradient by the same package."""
    widths, n = ((64, 32, 16), 8) if quick else ((5120, 2560, 1280), 32)
    plain, clipped = xla_sizes(fn.value_and_grad, widths, n), xla_sizes(CLOSED[CLIPPED], widths, n)
    explicit = xla_sizes(written_out(CLIPPED, None), widths, n)
    rows = [
        row_of(f"{PLAIN}, funcnet", plain, plain, ""),
        row_of("funcnet", clipped, plain, "" if quick else verdict(clipped, plain)),
        row_of("written out, all at once", explicit, plain, ""),
    ]
    if TORCH in builders:
        plain = torch_sizes(builders[TORCH], PLAIN, widths, n)
    of_torch = {
        f"{PLAIN}, {TORCH}": (TORCH, PLAIN, TORCH),
        HOOKS: (HOOKS, CLIPPED, HOOKS),
        GHOST: (GHOST, CLIPPED, None),
        f"{GHOST}: first pass, norms": (GHOST, NORMS, GHOST),  # it leaves a gradient, too
    }
    for title, (label, name, published) in of_torch.items():
        if label in builders:
            said = f"published: {PUBLISHED[published] * 2**20 / 1e6:,.4g} MB" if published and not quick else ""
            rows.append(row_of(title, torch_sizes(builders[label], name, widths, n), plain, said))
    header = ["clipped sum", "temporary, MB", "with the gradient, MB", "over plain: temporary / with gradient", "aims"]
    return Lines(f"{'-'.join(map(str, widths))}, batch {n}", header, rows)


def row_of(label: str, sizes: Sizes, plain: Sizes, said: str) -> list[str]:
    """One form's memory, and that over a plain gradient's."""
    temporary, both = sizes.temporary, sizes.temporary + sizes.result
    ratios = f"{temporary / plain.temporary:.3g} / {both / (plain.temporary + plain.result):.4g}"
    return [label, f"{temporary / 1e6:,.4g}", f"{both / 1e6:,.4g}", ratios, said]


def verdict(clipped: Sizes, plain: Sizes) -> str:
    """Whether the aim is reached: in what was published, gradients are counted; without them it is stricter."""
    with_gradient = (clipped.temporary + clipped.result) / (plain.temporary + plain.result)
    ratios = {"temporary": clipped.temporary / plain.temporary, "with the gradient": with_gradient}
    return "; ".join(
        f"{name} ≤ {WITHIN:g}: {ratio:.4g}, {'not ' * (ratio > WITHIN)}reached" for name, ratio in ratios.items()
    )
