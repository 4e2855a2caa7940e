"""Per-example quantities from one backward sweep, against the examples' gradients written out by `jax.vmap(jax.grad)`.

That all give the same is checked before anything is timed. Written out means all examples at once, and some at a time
by `jax.lax.map(batch_size=…)`; the faster of the two is what ratios are of. Times and memory of a plain gradient stand
beside them, and so do Opacus and BackPACK where they are installed (the extra `bench`).
"""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro
from per_example_forms import CLIPPED, CLOSED, GRAM, NORMS, PLAIN, WRITTEN_OUT, Case, problem, written_out
from per_example_memory import BATCHES, LIMIT, Sizes, largest_batch, published_lines, room, torch_sizes, xla_sizes
from per_example_peers import BUILDERS, DISTRIBUTIONS, PACKAGES, Setting, available, quiet, setting_of, tree_of
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, control, in_blocks, machine, noise, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare

FUNCNET = "funcnet"
ROUNDINGS = 50
"""The noise scale and the Gram matrix add up long sums in another order: so many tolerances may lie between."""

CASES = (
    Case((784, 128, 10), 128, {NORMS: 100, CLIPPED: 40, GRAM: 40}, 1.4),
    Case((784, 512, 512, 10), 256, {NORMS: 40, CLIPPED: 80, GRAM: 80}),
    Case((784, 1024, 1024, 10), 512, {NORMS: 40, CLIPPED: 100, GRAM: 80}),
)
QUICK = (Case((16, 32, 10), 32, {}),)
QUICK_LIMIT = 4e4
"""Bytes for the largest batch of a quick run."""
MEMORY = 1.3
"""How many times a plain gradient's temporary memory the norms and the clipped sum may take."""


@dataclass(frozen=True)
class Options:
    """Norms, clipped sums, second moments, Gram matrices: closed form against gradients written out."""

    quick: bool = False
    """A small network and few rounds, to see that it works."""
    repeats: int = 7
    """Timed rounds."""
    largest: bool = True
    """Whether to find the largest batches, which takes most of the time: ten minutes with PyTorch's forms."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


class Form(NamedTuple):
    """One way to a quantity.

    Attributes:
        run: Call it.
        read: Its result as funcnet gives it.
        sizes: What it takes for some number of examples.
    """

    run: Callable[[], Any]
    read: Callable[[Any], Any]
    sizes: Callable[[int], Sizes]


def compiled(fun: Callable[..., Any], arguments: tuple[Any, ...]) -> Form:
    """A function in JAX."""
    program = jax.jit(fun).lower(*arguments).compile()
    return Form(lambda: program(*arguments), lambda result: result, partial(xla_sizes, fun, arguments[0].widths))


def forms_of(
    arguments: tuple[Any, ...], builders: Mapping[str, Callable[[Setting], Any]]
) -> dict[str, dict[str, Form]]:
    """For each quantity its forms, the closed one first."""
    net, *given = arguments
    forms = {PLAIN: {FUNCNET: compiled(fn.value_and_grad, arguments)._replace(read=lambda result: result[1])}}
    for name, closed in CLOSED.items():
        ways = {FUNCNET: closed} | {label: written_out(name, chunk) for label, chunk in WRITTEN_OUT.items()}
        forms[name] = {label: compiled(fun, arguments) for label, fun in ways.items()}
    for label, build in builders.items():
        for name, run in build(setting_of(*given)).items():
            forms[name][label] = Form(run, tree_of, partial(torch_sizes, build, name, net.widths))
    return forms


def check_equal(name: str, forms: Mapping[str, Form]) -> None:
    """Refuse to time what is not the same."""
    ours = forms[FUNCNET].read(forms[FUNCNET].run())
    for label, form in forms.items():
        result = compare(form.read(form.run()), ours)
        if result.problems or not result.error <= ROUNDINGS * TOLERANCE["float32"]:
            raise SystemExit(f"{name}: {label} does not give what the closed form gives; nothing is timed\n{result}")


class Effort(NamedTuple):
    """How much is done.

    Attributes:
        repeats: Timed rounds.
        limit: Bytes for the largest batch.
        unmeasured: Forms whose largest batch is left out.
    """

    repeats: int
    limit: float
    unmeasured: Collection[str]


def measure_quantity(forms: Mapping[str, Form], plain: Form, batch: int, effort: Effort) -> dict[str, Any]:
    """Seconds, temporary memory and largest batch of a quantity's forms; a plain gradient runs in the same rounds."""
    runs = {label: form.run for label, form in forms.items()}
    jax_runs = {label: run for label, run in runs.items() if label not in BUILDERS}
    times = in_blocks(jax_runs | {PLAIN: plain.run, CONTROL: control()}, effort.repeats)
    over_closed = {label: float(np.median(times[label] / times[FUNCNET])) for label in jax_runs}
    torch_runs = {label: run for label, run in runs.items() if label in BUILDERS}
    if torch_runs:  # in rounds of their own: PyTorch's threads stay awake for a while, and slow down what comes next
        beside = in_blocks({FUNCNET: runs[FUNCNET], **torch_runs}, effort.repeats)
        over_closed |= {label: float(np.median(beside[label] / beside[FUNCNET])) for label in torch_runs}
        times |= {label: beside[label] for label in torch_runs}
    found = {label: form for label, form in forms.items() if label not in effort.unmeasured}
    return {
        "seconds": {label: value.tolist() for label, value in times.items()},
        "over_closed": over_closed,
        "over_plain": float(np.median(times[FUNCNET] / times[PLAIN])),
        "best": min(WRITTEN_OUT, key=lambda label: over_closed.get(label, np.inf)),
        "temporary": {label: form.sizes(batch).temporary for label, form in forms.items()},
        "plain_temporary": plain.sizes(batch).temporary,
        "largest": {label: largest_batch(form.sizes, effort.limit) for label, form in found.items()},
    }


def measure(case: Case, builders: Mapping[str, Any], effort: Effort) -> dict[str, Any]:
    """Every quantity in every form, and a plain gradient."""
    forms = forms_of(problem(case), builders)
    for name, each in forms.items():
        check_equal(name, each)
    plain = forms[PLAIN][FUNCNET]
    rows = {name: measure_quantity(each, plain, case.batch, effort) for name, each in forms.items()}
    still = np.concatenate([row["seconds"][CONTROL] for row in rows.values()])
    about = {"network": "-".join(map(str, case.widths)), "batch": case.batch, "limit": effort.limit}
    return about | {"rows": rows, "noise": noise({CONTROL: still})}


def verdicts(case: Case, name: str, row: Mapping[str, Any]) -> str:
    """What was aimed at, and whether it was reached."""
    faster, memory = row["over_closed"][row["best"]], row["temporary"][FUNCNET] / row["plain_temporary"]
    aims = [("faster ≥", case.faster[name], faster, True)] if name in case.faster else []
    if case.faster and name in (NORMS, CLIPPED):
        aims.append(("memory ≤", MEMORY, memory, False))
    if case.faster and name == CLIPPED:
        aims.append(("time ≤", case.plain, row["over_plain"], False))
    reached = [(value >= aim) if least else (value <= aim) for _, aim, value, least in aims]
    return "; ".join(
        f"{a[0]} {a[1]:g}: {a[2]:.3g}, {'not ' * (not ok)}reached" for a, ok in zip(aims, reached, strict=True)
    )


def taken(row: Mapping[str, Any], label: str) -> str:
    """Milliseconds of a form, with quartiles."""
    times = spread(1e3 * np.array(row["seconds"][label]))
    return f"{times.median:.3g} ({times.low:.3g}–{times.high:.3g})"


def table_of(case: Case, measured: Mapping[str, Any]) -> Lines:
    """A row for each quantity."""
    lines = []
    for name, row in measured["rows"].items():
        if name == PLAIN:
            continue
        best, memory = row["best"], row["temporary"]
        used = " / ".join(f"{size / 1e6:.3g}" for size in (memory[FUNCNET], memory[best], row["plain_temporary"]))
        ratios = [f"{row['over_closed'][best]:.0f}", f"{row['over_plain']:.2f}"]
        line = [name, taken(row, FUNCNET), f"{taken(row, best)}, {best}", *ratios, used, verdicts(case, name, row)]
        lines.append(line)
    columns = ["quantity", "closed form, ms", "written out, ms", "times faster", "in plain gradients"]
    columns += ["temporary, MB: closed / written out / plain", "aims"]
    return Lines(f"{measured['network']}, batch {measured['batch']}", columns, lines)


def forms_table(measured: Mapping[str, Any]) -> Lines:
    """A row for each form of each quantity."""
    lines = []
    for name, row in measured["rows"].items():
        for label, size in row["temporary"].items():
            largest = "–" if label not in row["largest"] else str(row["largest"][label] or f"below {BATCHES[0]}")
            ratio = f"{row['over_closed'][label]:.2f}"
            lines.append([name, label, taken(row, label), ratio, f"{size / 1e6:.3g}", largest])
    columns = ["quantity", "form", "ms", "times funcnet's", "temporary, MB"]
    columns += [f"largest batch in {measured['limit'] / 1e9:g} GB"]
    return Lines(f"{measured['network']}, batch {measured['batch']}: every form", columns, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each network, print its tables, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    quiet()
    builders, left_out = available()
    packages = sorted({DISTRIBUTIONS[package] for label in builders for package in PACKAGES[label]})
    limit = QUICK_LIMIT if options.quick else LIMIT
    unmeasured = () if options.largest else (FUNCNET, *WRITTEN_OUT, *BUILDERS)
    if builders and options.largest and (no_room := room(limit)):
        left_out.append(no_room)
        unmeasured = BUILDERS
    effort = Effort(2 if options.quick else options.repeats, limit, unmeasured)
    console.print(machine(*packages), *left_out, sep="\n")
    record: dict[str, Any] = {}
    page = [*left_out]
    for case in QUICK if options.quick else CASES:
        measured = measure(case, builders, effort)
        record[measured["network"]] = measured
        tables = (table_of(case, measured), forms_table(measured))
        console.print(*map(shown, tables), measured["noise"], sep="\n")
        page += [*map(markdown, tables), measured["noise"]]
    published = published_lines(builders, options.quick)
    console.print(shown(published))
    record[published.title] = [dict(zip(published.header, row, strict=True)) for row in published.rows]
    name = "per_example_quick" if options.quick else "per_example"
    console.print(write_results(options.out, name, record, "\n\n".join([*page, markdown(published)]), *packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
