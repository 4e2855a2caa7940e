"""Per-example quantities from one backward sweep, against the examples' gradients written out by `jax.vmap(jax.grad)`.

That both give the same is checked before anything is timed. Written out means all examples at once, and some at a time
by `jax.lax.map(batch_size=…)`; the faster of the two is what ratios are of. Times and memory of a plain gradient stand
beside them.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, control, interleaved, machine, noise, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare

PLAIN, SHARE, NORMS, CLIPPED, GRAM = "plain gradient", 0.5, "norms", "clipped sum", "Gram matrix"
CLOSED: dict[str, Callable[..., Any]] = {
    NORMS: fn.per_example_grad_norms,
    CLIPPED: lambda net, params, x, y: fn.clipped_grad_sum(net, params, x, y, SHARE),
    "second moment": fn.grad_second_moment,
    GRAM: fn.grad_gram,
    "noise scale": fn.gradient_noise_scale,
}
ROUNDINGS = 50
"""The noise scale and the Gram matrix add up long sums in another order: so many tolerances may lie between."""
CHUNK = 16
"""Examples at a time, where not all gradients are written out at once."""


class Case(NamedTuple):
    """A network, a batch, and what is aimed at.

    Attributes:
        widths: Of the network.
        batch: Examples.
        faster: How many times faster than written out a quantity is to be.
        plain: How many times as long as a plain gradient the clipped sum may take.
    """

    widths: tuple[int, ...]
    batch: int
    faster: Mapping[str, float]
    plain: float = 1.1


CASES = (
    Case((784, 128, 10), 128, {NORMS: 100, CLIPPED: 40, GRAM: 40}, 1.4),
    Case((784, 512, 512, 10), 256, {NORMS: 40, CLIPPED: 80, GRAM: 80}),
    Case((784, 1024, 1024, 10), 512, {NORMS: 40, CLIPPED: 100, GRAM: 80}),
)
QUICK = (Case((16, 32, 10), 32, {}),)
MEMORY = 1.3
"""How many times a plain gradient's temporary memory the norms and the clipped sum may take."""


@dataclass(frozen=True)
class Options:
    """Norms, clipped sums, second moments, Gram matrices: closed form against gradients written out."""

    quick: bool = False
    """A small network and few rounds, to see that it works."""
    repeats: int = 15
    """Timed rounds."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


def problem(case: Case) -> tuple[Any, ...]:
    """A relu classifier and random data."""
    net = fn.MLP(case.widths, activation=fn.relu, loss=fn.softmax_cross_entropy)
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(0, 1, (case.batch, case.widths[0])), "float32")
    y = jnp.asarray(random.integers(0, case.widths[-1], case.batch), "int32")
    return net, fn.init(jax.random.key(0), net, dtype="float32"), x, y


def flat_rows(tree: Any) -> jax.Array:
    """Leaves with a first axis of examples, side by side."""
    leaves = jax.tree.leaves(tree)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


def one_gradient(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array) -> Any:
    """∇ℓ of one example by JAX."""
    return jax.grad(lambda p: fn.per_example_losses(net, p, x[None], y[None])[0])(params)


def squares(tree: Any) -> jax.Array:
    """‖∇ℓ‖² of one gradient."""
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.zeros((), "float32"))


def clipped(tree: Any) -> Any:
    """One gradient, clipped."""
    factor = jnp.minimum(1, SHARE / jnp.sqrt(squares(tree)))
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def of_rows(name: str, rows: Callable[[Callable[[Any], Any]], Any], n: int) -> Any:
    """A quantity from `rows(f)`, which is f of each example's gradient, stacked."""
    total = lambda tree: jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), tree)  # noqa: E731
    if name == NORMS:
        return jnp.sqrt(rows(squares))
    if name == CLIPPED:
        return total(rows(clipped))
    if name == "second moment":
        return total(rows(lambda tree: jax.tree.map(jnp.square, tree)))
    if name == GRAM:
        each = flat_rows(rows(lambda tree: tree))
        return jnp.matmul(each, each.T, precision="highest")
    each = rows(lambda tree: tree)
    mean = squares(jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each))
    m = squares(each) / n
    signal = n * mean - m
    return jnp.where(signal > 0, n * (m - mean) / signal, jnp.inf)


def written_out(name: str, chunk: int | None) -> Callable[..., Any]:
    """A quantity from the examples' gradients, all at once or `chunk` at a time."""

    def run(net: fn.MLP, params: fn.Params, x: jax.Array, y: jax.Array) -> Any:
        def rows(f: Callable[[Any], Any]) -> Any:
            def one(example: tuple[jax.Array, jax.Array]) -> Any:
                return f(one_gradient(net, params, *example))

            return jax.vmap(one)((x, y)) if chunk is None else jax.lax.map(one, (x, y), batch_size=chunk)

        return of_rows(name, rows, x.shape[0])

    return run


class Program(NamedTuple):
    """A compiled function on its arguments.

    Attributes:
        run: Call it.
        temporary: Bytes of temporary memory, by XLA.
    """

    run: Callable[[], Any]
    temporary: int


def program(fun: Callable[..., Any], arguments: tuple[Any, ...]) -> Program:
    """Compile."""
    compiled = jax.jit(fun).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()
    return Program(lambda: compiled(*arguments), memory.temp_size_in_bytes)


def check_equal(name: str, ours: Program, others: Mapping[str, Program]) -> None:
    """Refuse to time what is not the same."""
    for label, other in others.items():
        result = compare(ours.run(), other.run())
        if result.problems or not result.error <= ROUNDINGS * TOLERANCE["float32"]:
            raise SystemExit(f"{name}: the closed form is not what {label} gives; nothing is timed\n{result}")


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """Seconds and memory of every quantity in every form, and of a plain gradient."""
    arguments = problem(case)
    plain = program(fn.value_and_grad, arguments)
    rows, quiet = [], []
    for name, closed in CLOSED.items():
        ours = program(closed, arguments)
        explicit = {"all at once": None, f"{CHUNK} at a time": CHUNK}
        others = {label: program(written_out(name, chunk), arguments) for label, chunk in explicit.items()}
        check_equal(name, ours, others)
        runs = {PLAIN: plain.run, name: ours.run, CONTROL: control()} | {k: v.run for k, v in others.items()}
        times = interleaved(runs, repeats)
        quiet.append(times[CONTROL])
        best = min(others, key=lambda label: np.median(times[label]))
        rows.append({
            "quantity": name, "seconds": {key: value.tolist() for key, value in times.items() if key != CONTROL},
            "best": best, "faster": float(np.median(times[best] / times[name])),
            "over_plain": float(np.median(times[name] / times[PLAIN])),
            "temporary": {name: ours.temporary, PLAIN: plain.temporary} | {k: v.temporary for k, v in others.items()},
        })  # fmt: skip
    network = "-".join(map(str, case.widths))
    return {"network": network, "batch": case.batch, "rows": rows, "noise": noise({CONTROL: np.concatenate(quiet)})}


def verdicts(case: Case, row: Mapping[str, Any]) -> str:
    """What was aimed at, and whether it was reached."""
    name, memory = row["quantity"], row["temporary"]
    aims = [("faster ≥", case.faster[name], row["faster"], True)] if name in case.faster else []
    if case.faster and name in (NORMS, CLIPPED):
        aims.append(("memory ≤", MEMORY, memory[name] / memory[PLAIN], False))
    if case.faster and name == CLIPPED:
        aims.append(("time ≤", case.plain, row["over_plain"], False))
    reached = [(value >= aim) if least else (value <= aim) for _, aim, value, least in aims]
    return "; ".join(
        f"{a[0]} {a[1]:g}: {a[2]:.3g}, {'not ' * (not ok)}reached" for a, ok in zip(aims, reached, strict=True)
    )


def table_of(case: Case, measured: Mapping[str, Any]) -> Lines:
    """A row for each quantity."""
    lines = []
    for row in measured["rows"]:
        name, best, memory = row["quantity"], row["best"], row["temporary"]
        taken = [
            "{median:.3g} ({low:.3g}–{high:.3g})".format_map(spread(1e3 * np.array(row["seconds"][key]))._asdict())
            for key in (name, best)
        ]
        used = " / ".join(f"{memory[key] / 1e6:.3g}" for key in (name, best, PLAIN))
        lines.append(
            [
                name,
                taken[0],
                f"{taken[1]}, {best}",
                f"{row['faster']:.0f}",
                f"{row['over_plain']:.2f}",
                used,
                verdicts(case, row),
            ]
        )
    columns = ["quantity", "closed form, ms", "written out, ms", "times faster", "in plain gradients"]
    columns += ["temporary, MB: closed / written out / plain", "aims"]
    return Lines(f"{measured['network']}, batch {measured['batch']}", columns, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each network, print its table, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    console.print(machine())
    record, page, said = {}, [], ""
    name = "per_example_quick" if options.quick else "per_example"
    for case in QUICK if options.quick else CASES:
        measured = measure(case, 2 if options.quick else options.repeats)
        record[measured["network"]] = measured
        lines = table_of(case, measured)
        console.print(shown(lines), measured["noise"], sep="\n")
        page += [markdown(lines), measured["noise"]]
        said = write_results(options.out, name, record, "\n\n".join(page))
    console.print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
