"""Cost on N devices: what one training step asks of each device of a mesh, read from its compiled program.

Products, collectives, bytes sent and memory of parameters are properties of the program, the same on any machine for
which the compiler cuts it up this way. Nothing is timed: eight devices forced out of one CPU share its cores. That each
mesh gives the step of one device is checked first.
"""

import math
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"  # before JAX
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import optax
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import machine, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare
from funcnet.training import Examples, State, device_mesh, new_state, step
from funcnet.training.placement import DATA, MODEL, Placement, parameter_axes, placed, placed_state, placement
from funcnet.training.programs import compiled

SGD = optax.sgd(1000.0)
"""At so large a rate the new parameters are the gradient but for a thousandth, and comparing them compares it."""
TASK = "classification"
NUMBER = 4
"""Bytes of a float32."""


class Case(NamedTuple):
    """A network and a batch, shared out over devices.

    Attributes:
        widths: Of the layers.
        batch: Examples in a step, on all devices together.
        dropout: The probability, if any.
        run: Whether the step is run and compared; else it is only compiled.
    """

    widths: tuple[int, ...]
    batch: int = 128
    dropout: float | None = None
    run: bool = True

    def __str__(self) -> str:
        """In words."""
        name = f"{'-'.join(map(str, self.widths))}, batch {self.batch}"
        return name if self.dropout is None else f"{name}, dropout {self.dropout}"

    @property
    def net(self) -> fn.MLP:
        """The network."""
        return fn.MLP(self.widths, activation=fn.relu, loss=fn.softmax_cross_entropy, dropout=self.dropout)

    @property
    def products(self) -> int:
        """FLOPs of the products of a step: three for each layer, but for the first one's no gradient of its input."""
        w = self.widths
        return 2 * self.batch * (3 * sum(a * b for a, b in pairwise(w)) - w[0] * w[1])


QUICK = (Case((784, 128, 10)), Case((784, 512, 512, 10)))
CASES = (
    *QUICK,
    Case((784, 1024, 1024, 10)),
    Case((784, 4096, 4096, 10), run=False),
    Case((784, 512, 512, 512, 10)),
    Case((784, 512, 512, 512, 10), 1024),
    Case((784, 512, 512, 10), dropout=0.5),
)
MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8), (4, 2), (2, 4))
QUICK_MESHES = ((1, 1), (8, 1), (1, 8), (4, 2))


ASSUMED = {"50 TFLOP/s, 300 GB/s": (50e12, 300e9), "1 TFLOP/s, 1 GB/s": (1e12, 1e9)}
"""Machines that nothing was measured on: what a device computes, and what it sends, in a second."""


@dataclass(frozen=True)
class Options:
    """What a training step costs each device, for meshes of 1 to 8 devices."""

    quick: bool = False
    """Two small networks on four meshes, to see that it works."""
    out: Path = Path("benchmarks/results")
    """Folder for what was found."""


class Instruction(NamedTuple):
    """A line of a compiled program: what it does, dtypes and sizes of what it gives, what it takes, and all else."""

    kind: str
    shapes: list[tuple[str, tuple[int, ...]]]
    operands: list[str]
    rest: str

    @property
    def bytes(self) -> int:
        """Of its results."""
        return sum(SIZES[dtype] * math.prod(shape) for dtype, shape in self.shapes)


LINE = re.compile(r"^\s*(?:ROOT )?%(\S+) = (.*?) ([a-z][\w-]*)\((.*?)\)(.*)$", re.MULTILINE)
SHAPE = re.compile(r"\b([a-z]+\d+|pred)\[([\d,]*)\]")
SIZES = {"pred": 1, "u8": 1, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8}
SENT = {
    "all-reduce": lambda size, k: 2 * size * (k - 1) / k,
    "all-gather": lambda size, k: size * (k - 1),
    "reduce-scatter": lambda size, k: size * (k - 1) / k,
    "all-to-all": lambda size, k: size * (k - 1) / k,
}
"""Bytes that each of k devices sends, by rings, when it puts in so many."""
PERMUTE = "collective-permute"


def instructions(program: str) -> dict[str, Instruction]:
    """The lines of a compiled program by their names, which are unique in it."""
    found = {}
    for name, result, kind, operands, rest in LINE.findall(program):
        shapes = [(dtype, tuple(map(int, filter(None, sizes.split(","))))) for dtype, sizes in SHAPE.findall(result)]
        if name in found:
            raise SystemExit(f"two instructions are called {name}; nothing can be read from this program")
        found[name] = Instruction(kind, shapes, re.findall(r"%([\w.-]+)", operands), rest)
    return found


def product_flops(program: Mapping[str, Instruction]) -> int:
    """2 · rows · columns · depth of each product of a device's program."""
    total = 0
    for line in program.values():
        if line.kind == "dot":
            ((_, left),) = program[line.operands[0]].shapes
            summed = re.search(r"lhs_contracting_dims={([\d,]*)}", line.rest)
            depth = math.prod(left[int(axis)] for axis in summed[1].split(",")) if summed else 1
            total += 2 * math.prod(line.shapes[0][1]) * depth
    return total


def group_size(rest: str) -> int:
    """How many devices share a collective, in any of the three ways that programs write it."""
    if listed := re.search(r"replica_groups={{([\d,]+)}", rest):
        return len(listed[1].split(","))
    if shape := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(shape[1])
    if mesh := re.search(r"replica_groups=mesh\[(.*?)\].*?{(.*?)}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"('\w+')=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in mesh[2].split(","))
    raise SystemExit(f"no groups of devices are known from {rest}")


def traffic(program: Mapping[str, Instruction], devices: int) -> tuple[dict[str, int], float]:
    """How many collectives of each kind there are, and the bytes sent by the device that sends most."""
    kinds, sent = Counter(), np.zeros(devices)
    for line in program.values():
        kind = line.kind.removesuffix("-start")
        size = sum(program[name].bytes for name in line.operands) if kind in (*SENT, PERMUTE) else 0
        if kind in SENT:
            kinds[kind] += 1
            sent += SENT[kind](size, group_size(line.rest))
        elif kind == PERMUTE:
            kinds[kind] += 1
            pairs = re.search(r"source_target_pairs={(.*?)}}", line.rest)
            sources = [int(source) for source in re.findall(r"{(\d+),", pairs[1])] if pairs else range(devices)
            sent[list(sources)] += size
    return dict(kinds), float(sent.max())


def first_state(case: Case) -> State:
    """The state before the step."""
    return new_state(jax.random.key(1), fn.init(jax.random.key(0), case.net, dtype="float32"), SGD)


def arguments_of(case: Case) -> tuple[State, Examples, Any, Any]:
    """State, random examples, dropout key and Σ w."""
    random, (n, inputs, classes) = np.random.default_rng(0), (case.batch, case.widths[0], case.widths[-1])
    x, y = random.normal(size=(n, inputs)).astype(np.float32), random.integers(0, classes, n, np.int32)
    key = None if case.dropout is None else jax.random.key(2)
    examples: Any = Examples(*map(jax.device_put, (x, y, np.ones(n, np.float32))))
    return first_state(case), examples, key, np.float32(n)


def on_mesh(case: Case, place: Placement) -> tuple[Any, ...]:
    """The same on the devices of a mesh, the examples along its data axis; of what is not run, only the shapes."""

    def lay(leaf: Any, sharding: Any) -> Any:
        return placed(leaf, sharding) if case.run else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state, rows, key, total = arguments_of(case) if case.run else jax.eval_shape(lambda: arguments_of(case))
    state = placed_state(state, place) if case.run else jax.tree.map(lay, state, place.state)
    return state, Examples(*(lay(array, place.on(DATA)) for array in rows)), key, lay(total, place.on())


def predicted(case: Case, data: int, model: int, parameters: int) -> float:
    """Bytes sent by the formula: the gradient with two sums of the loss, and what is between the pairs of layers."""
    w, axes = case.widths, parameter_axes(case.net, model)
    between = sum(w[i + 2] + (w[i] if i else 0) for i, layer in enumerate(axes) if layer.w == (None, MODEL))
    gradient = 2 * (parameters + 2 * NUMBER) * (data - 1) / data
    return gradient + 2 * NUMBER * case.batch / data * between * (model - 1) / model


def measure(case: Case, data: int, model: int, alone: Any) -> dict[str, Any]:
    """What a step costs each device of a mesh; refuses a mesh that does not give the step of one device."""
    net = case.net
    place = placement(device_mesh(data, model), net, jax.eval_shape(lambda: first_state(case)), None)
    state, rows, key, total = on_mesh(case, place)
    program = compiled(step, net, (place.state, place.on())).lower(net, SGD, state, rows, key, TASK, total).compile()
    error = None
    if case.run:
        found, sums = program(net, state, rows, key, total)
        error = compare(jax.device_get((found.params, sums)), alone).error
        if not error <= TOLERANCE["float32"]:
            raise SystemExit(f"{case}: data={data}, model={model} is off by {error:.3g} eps of its largest")
    text = instructions(program.as_text())
    kinds, sent = traffic(text, data * model)
    leaves = jax.tree.leaves(state.params)
    parameters = NUMBER * sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    return {
        "data": data, "model": model, "flops": product_flops(text), "collectives": kinds, "sent": sent,
        "formula": predicted(case, data, model, parameters), "parameters": parameters, "error": error,
    }  # fmt: skip


def measured(case: Case, meshes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """All meshes; on one device the products are those that mathematics asks for."""
    alone = None
    if case.run:
        state, rows, key, total = arguments_of(case)
        found, sums = compiled(step, case.net)(case.net, SGD, state, rows, key, TASK, total)
        alone = jax.device_get((found.params, sums))
    points = [measure(case, *mesh, alone) for mesh in meshes]
    if points[0]["flops"] != case.products:
        raise SystemExit(f"{case}: {points[0]['flops']} FLOPs were counted on one device, not {case.products}")
    return points


def name_of(point: Mapping[str, Any]) -> str:
    """A mesh in words."""
    return ", ".join(f"{axis}={point[axis]}" for axis in (DATA, MODEL) if point[axis] > 1) or "one device"


def table_of(case: Case, points: Sequence[Mapping[str, Any]]) -> Lines:
    """The meshes of a case, for people."""
    header = ["mesh", "MFLOP of products", "of one device's", "collectives", "MB sent", "by the formula"]
    rows = []
    for point in points:
        kinds = ", ".join(f"{count} {kind}" for kind, count in point["collectives"].items())
        numbers = [f"{point[name] / 1e6:.4g}" for name in ("sent", "formula", "parameters")]
        share = f"{point['flops'] / points[0]['flops']:.1%}"
        error = "not run" if point["error"] is None else f"{point['error']:.2g}"
        rows.append([name_of(point), f"{point['flops'] / 1e6:.4g}", share, kinds, *numbers, error])
    return Lines(f"{case}: each device", [*header, "MB of parameters", "error, eps"], rows)


def rule_table(found: Mapping[Case, Sequence[Mapping[str, Any]]]) -> Lines:
    """One device's time over a mesh's: FLOPs over rate, and bytes over that of the link, one after the other."""
    rows = []
    for case, points in found.items():
        for name, (rate, link) in ASSUMED.items():
            times = [point["flops"] / rate + point["sent"] / link for point in points]
            rows.append([str(case), name, *(f"{times[0] / time:.2f}" for time in times[1:])])
    meshes = [name_of(point) for point in next(iter(found.values()))[1:]]
    return Lines("Speed-ups by the rule, on assumed machines: not measured", ["step", "each device", *meshes], rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Check, compile, read, print, write."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False)
    console.print(machine("optax"))
    cases, meshes = (QUICK, QUICK_MESHES) if options.quick else (CASES, MESHES)
    found, page = {}, []
    for case in cases:
        found[case] = measured(case, meshes)
        page.append(table_of(case, found[case]))
        console.print(shown(page[-1]))
    page.append(rule_table(found))
    off = max(abs(p["sent"] - p["formula"]) for case in cases if case.dropout is None for p in found[case])
    verdict = f"Without dropout the bytes sent are those of the formula, within {off:.0f}"
    console.print(shown(page[-1]), verdict)
    record = {"cases": [{**case._asdict(), "meshes": points} for case, points in found.items()], "assumed": ASSUMED}
    text = "\n\n".join([*map(markdown, page), verdict])
    console.print(write_results(options.out, "devices_quick" if options.quick else "devices", record, text, "optax"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
