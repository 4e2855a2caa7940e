"""The cross-entropy of a layer over very many classes, a chunk of classes at a time, against forms that store logits.

Those are the closed form through `softmax_cross_entropy` and `jax.value_and_grad` of the cross-entropy as it is usually
written; the faster of the two is what times are compared with, the smaller what memory is. That all give the same is
checked before anything is timed. The same for a network: its loss `softmax_cross_entropy_chunked` against the plain
one. Last, a number of classes whose logits would not fit, in a process of its own whose memory is read at the end.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, Program, control, interleaved, machine, noise, program, seconds, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare
from funcnet.losses import CHUNK
from funcnet.precision import matmul

CHUNKS = (512, 1024, 2048, 4096)
OURS = f"chunks of {CHUNK}"
CLOSED, AUTODIFF = "closed form, logits stored", "jax.value_and_grad, logits stored"
MEMORY, TIME, PEAK = 0.08, 1.05, 4e9
"""The share of the plain form's temporary memory and time, and the bytes of the largest case, that are aimed at."""
ROUNDINGS = 50
"""Sums over all classes, in another order: so many tolerances may lie between."""


class Case(NamedTuple):
    """Examples, inputs of the layer, classes, and the largest number of classes."""

    n: int
    d: int
    k: int
    most: int
    n_most: int


FULL, QUICK = Case(4096, 256, 65_536, 1_000_000, 1024), Case(64, 16, 8192, 20_000, 32)


@dataclass(frozen=True)
class Options:
    """The cross-entropy of very many classes: chunk by chunk against logits stored."""

    quick: bool = False
    """Few examples and classes and few rounds, to see that it works."""
    repeats: int = 7
    """Timed rounds."""
    largest: bool = False
    """Run the largest case alone and print its numbers: what the process of its own does."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


def columns(d: int, k: int) -> jax.Array:
    """Numbers that look random, made in place: those of the largest case are a gigabyte."""
    i, j = (jax.lax.broadcasted_iota(jnp.float32, (d, k), axis) for axis in (0, 1))
    return 0.2 * jnp.sin(1.7 * i + 0.37 * j + 3 * i * jnp.sin(j))


def problem(n: int, d: int, k: int) -> tuple[jax.Array, ...]:
    """Inputs, columns, bias and labels."""
    random = np.random.default_rng(0)
    h = jnp.asarray(random.normal(0, 1, (n, d)), "float32")
    b = jnp.asarray(random.normal(0, 0.1, k), "float32")
    return h, jax.jit(columns, static_argnums=(0, 1))(d, k), b, jnp.asarray(random.integers(0, k, n), "int32")


def in_chunks(chunk: int) -> Callable[..., Any]:
    """What is measured."""
    return lambda h, w, b, y: fn.linear_cross_entropy_value_and_grad(h, w, b, y, chunk_size=chunk)


def stored(h: jax.Array, w: jax.Array, b: jax.Array, y: jax.Array) -> Any:
    """The closed form with logits stored."""
    z = matmul(h, w) + b[None]
    g = fn.softmax_cross_entropy.gradient(z, y) / len(y)
    return jnp.mean(fn.softmax_cross_entropy.value(z, y)), (matmul(g, w.T), matmul(h.T, g), jnp.sum(g, axis=0))


def usual(h: jax.Array, w: jax.Array, b: jax.Array, y: jax.Array) -> jax.Array:
    """The cross-entropy as it is usually written."""
    z = matmul(h, w) + b[None]
    return jnp.mean(jax.nn.logsumexp(z, axis=1) - jnp.take_along_axis(z, y[:, None], axis=1)[:, 0])


def layer_programs(case: Case) -> dict[str, Program]:
    """The layer in every form."""
    arguments = problem(case.n, case.d, case.k)
    forms = {f"chunks of {chunk}": in_chunks(chunk) for chunk in CHUNKS if chunk <= case.k}
    forms |= {CLOSED: stored, AUTODIFF: jax.value_and_grad(usual, argnums=(0, 1, 2))}
    return {name: program(fun, *arguments) for name, fun in forms.items()}


def network_programs(case: Case) -> dict[str, Program]:
    """A network with one hidden layer in every form."""
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(0, 1, (case.n, case.d)), "float32")
    y = jnp.asarray(random.integers(0, case.k, case.n), "int32")
    shape = fn.MLP((case.d, case.d, case.k), activation=fn.gelu, loss=fn.softmax_cross_entropy)
    params, programs = fn.init(jax.random.key(0), shape, dtype="float32"), {}
    for name, loss in ((OURS, fn.softmax_cross_entropy_chunked()), (CLOSED, fn.softmax_cross_entropy)):
        net = replace(shape, loss=loss)
        programs[name] = program(fn.value_and_grad, net, params, x, y)

    def network(params: fn.Params) -> jax.Array:
        first, last = params
        return usual(fn.gelu.value(matmul(x, first.w) + first.b[None]), last.w, last.b, y)

    return programs | {AUTODIFF: program(jax.value_and_grad(network), params)}


def check_equal(programs: Mapping[str, Program]) -> None:
    """Refuse to time what is not the same."""
    expected = programs[CLOSED].run()
    for name, other in programs.items():
        result = compare(other.run(), expected)
        if result.problems or not result.error <= ROUNDINGS * TOLERANCE["float32"]:
            raise SystemExit(f"{name} is not what the {CLOSED} gives; nothing is timed\n{result}")


def measure(programs: Mapping[str, Program], repeats: int) -> dict[str, Any]:
    """Seconds of every form round by round, and what the default is in units of the best plain form."""
    check_equal(programs)  # which also warms them up
    times = interleaved({CONTROL: control()} | {name: p.run for name, p in programs.items()}, repeats, warm_up=0)
    best = min((CLOSED, AUTODIFF), key=lambda name: np.median(times[name]))
    temporary = {name: p.temporary for name, p in programs.items()}
    return {
        "seconds": {name: times[name].tolist() for name in programs},
        "temporary": temporary,
        "best": best,
        "over_best": {name: float(np.median(times[name] / times[best])) for name in programs},
        "share": {name: temporary[name] / min(temporary[CLOSED], temporary[AUTODIFF]) for name in programs},
        "noise": noise(times),
    }


def verdict(aim: float, value: float) -> str:
    """What was aimed at, and whether it was reached."""
    return f"≤ {aim:g}: {value:.3g}, {'not ' * (not value <= aim)}reached"


def table_of(title: str, measured: Mapping[str, Any], aims: bool) -> Lines:
    """A row for each form; the default chunk size is the one with aims."""
    lines = []
    for name, taken in measured["seconds"].items():
        time, share = measured["over_best"][name], measured["share"][name]
        told = f"time {verdict(TIME, time)}; memory {verdict(MEMORY, share)}" if aims and name == OURS else ""
        shown_time = "{median:.3g} ({low:.3g}–{high:.3g})".format_map(spread(np.array(taken))._asdict())
        memory = f"{measured['temporary'][name] / 1e6:.4g}"
        lines.append([name, shown_time, f"{time:.3f}", memory, f"{share:.3f}", told])
    header = ["form", "seconds", "in the best with logits stored", "temporary, MB", "in the least of those", "aims"]
    return Lines(title, header, lines)


def largest(case: Case) -> dict[str, Any]:
    """The largest case: seconds, memory by XLA and by the system, and how far two laws of the gradient are off.

    The rows of G = diag(c) (P − Y) sum to 0, so db and each row of dV do; and the loss of a few examples is compared
    with that of NumPy in float64.
    """
    h, w, b, y = problem(case.n_most, case.d, case.most)
    compiled = jax.jit(in_chunks(CHUNK)).lower(h, w, b, y).compile()
    memory: Any = compiled.memory_analysis()
    taken = [seconds(lambda: compiled(h, w, b, y))]
    peak = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    _, (_, d_w, d_b) = compiled(h, w, b, y)
    sums = [float(jnp.max(jnp.abs(jnp.sum(d, axis=-1)) / jnp.sum(jnp.abs(d), axis=-1))) for d in (d_w, d_b)]
    few = slice(0, 2)
    z = np.asarray(h[few], np.float64) @ np.asarray(w) + np.asarray(b)
    truth = np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(2), np.asarray(y[few])])
    value = float(fn.linear_cross_entropy(h[few], w, b, y[few]))
    return {
        "seconds": taken,
        "xla": memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "peak": 1024 * int(peak[0]),
        "sums": sums,
        "value": [value, float(truth)],
    }


def largest_alone(quick: bool) -> tuple[dict[str, Any], str]:
    """Run it in a process of its own, judge it, and say it in one line."""
    case = QUICK if quick else FULL
    command = [sys.executable, __file__, "--largest", *(["--quick"] if quick else [])]
    done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    value, truth = done["value"]
    if not (max(done["sums"]) < 1e-4 and abs(value - truth) < 1e-4 * truth):
        raise SystemExit(f"the gradient of {case.most} classes is wrong: {done}")
    return done, (
        f"{case.most:,} classes, n = {case.n_most}, d = {case.d}, chunks of {CHUNK}: {min(done['seconds']):.3g} s; "
        f"arguments, results and temporary memory by XLA {done['xla'] / 1e9:.3g} GB, of it temporary "
        f"{done['temporary'] / 1e6:.3g} MB (the logits would be {4e-9 * case.most * case.n_most:.3g} GB); "
        f"peak memory of the process in GB {verdict(PEAK / 1e9, done['peak'] / 1e9)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure layer and network, print their tables, run the largest case, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    case, repeats = (QUICK, 2) if options.quick else (FULL, options.repeats)
    if options.largest:
        print(json.dumps(largest(case)))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine())
    record, page = {}, []
    where = f"{case.k:,} classes, n = {case.n}, d = {case.d}, float32"
    for name, programs in (("layer", layer_programs), ("network", network_programs)):
        record[name] = measured = measure(programs(case), repeats)
        lines = table_of(f"{name}: {where}", measured, not options.quick)
        console.print(shown(lines), measured["noise"], sep="\n")
        page += [markdown(lines), measured["noise"]]
    record["largest"], line = largest_alone(options.quick)
    console.print(line)
    name = "many_classes_quick" if options.quick else "many_classes"
    console.print(write_results(options.out, name, record, "\n\n".join([*page, line])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
