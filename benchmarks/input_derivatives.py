"""Derivatives in the inputs from closed forms, against nested automatic differentiation and folx' forward Laplacian.

That all give the same is checked before anything is timed. What trains physics-informed networks is the last quantity:
the gradient, in the parameters, of ½ Σ laplacian². folx is left out where it is not installed (the extra `bench`).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from tables import Lines, markdown, shown
from timing import CONTROL, Program, control, in_blocks, machine, noise, program, spread, write_results

import funcnet as fn
from funcnet.checking import TOLERANCE, compare

FUNCNET, CHUNKED, FOLX = "funcnet", "funcnet, 8 examples at a time", "folx"
JACOBIAN, LAPLACIAN, GRADIENT = "input Jacobian", "Laplacian", "gradient of ½ Σ laplacian²"
ROUNDINGS = 50
"""Long sums in another order: so many tolerances may lie between."""
Form = Callable[[fn.MLP, fn.Params, jax.Array], Any]


class Aim(NamedTuple):
    """What a quantity is to reach.

    Attributes:
        faster: How many times faster than the best nested form, at least.
        folx: Its time over folx', at most.
        memory: Its temporary memory over that of the best nested form and of folx, at most.
        least: The same of the form that takes least.
    """

    faster: float
    folx: float | None = None
    memory: float | None = None
    least: float | None = None


AIMS = {LAPLACIAN: Aim(1.6, 1, 1, 0.05), GRADIENT: Aim(3)}


@dataclass(frozen=True)
class Options:
    """Jacobian and Laplacian in the inputs, and the Laplacian's gradient in the parameters."""

    quick: bool = False
    """A small network and few rounds, to see that it works."""
    repeats: int = 15
    """Timed rounds."""
    out: Path = Path("benchmarks/results")
    """Folder for table (Markdown) and numbers (JSON)."""


def one(net: fn.MLP, params: fn.Params) -> Callable[[jax.Array], jax.Array]:
    """The outputs of one example."""
    return lambda x: fn.apply(net, params, x[None])[0]


def trace_of_hessian(net: fn.MLP, params: fn.Params, x: jax.Array) -> jax.Array:
    """`jax.hessian` of each example, and its trace."""
    return jax.vmap(lambda x: jnp.trace(jax.hessian(one(net, params))(x), axis1=1, axis2=2))(x)


def _units(x: jax.Array) -> jax.Array:
    """The unit vectors of the features' space."""
    return jnp.eye(x.shape[-1], dtype=x.dtype)


def forward_over_forward(net: fn.MLP, params: fn.Params, x: jax.Array) -> jax.Array:
    """The second derivative in each direction by `jax.jvp` of `jax.jvp`, one direction after the other."""

    def second(unit: jax.Array) -> jax.Array:
        def slope(x: jax.Array) -> jax.Array:
            return jax.jvp(lambda x: fn.apply(net, params, x), (x,), (jnp.broadcast_to(unit, x.shape),))[1]

        return jax.jvp(slope, (x,), (jnp.broadcast_to(unit, x.shape),))[1]

    total = jnp.zeros((x.shape[0], net.widths[-1]), x.dtype)
    return jax.lax.scan(lambda total, unit: (total + second(unit), None), total, _units(x))[0]


def _gradient(net: fn.MLP, params: fn.Params) -> Callable[[jax.Array], jax.Array]:
    """The Jacobian of a batch by reverse mode, outputs first: k × n × d."""

    def jacobian(x: jax.Array) -> jax.Array:
        outputs, pull = jax.vjp(lambda x: fn.apply(net, params, x), x)
        k = outputs.shape[1]
        return jax.vmap(lambda row: pull(jnp.broadcast_to(row, outputs.shape))[0])(jnp.eye(k, dtype=x.dtype))

    return jacobian


def forward_over_reverse(net: fn.MLP, params: fn.Params, x: jax.Array) -> jax.Array:
    """`jax.jvp` of the gradient in all directions at once."""

    def second(unit: jax.Array) -> jax.Array:
        return jax.jvp(_gradient(net, params), (x,), (jnp.broadcast_to(unit, x.shape),))[1] @ unit

    return jnp.sum(jax.vmap(second)(_units(x)), axis=0).T


def linearized(net: fn.MLP, params: fn.Params, x: jax.Array) -> jax.Array:
    """`jax.linearize` of the gradient, then one direction after the other by `jax.lax.map`."""
    along = jax.linearize(_gradient(net, params), x)[1]
    second = jax.lax.map(lambda unit: along(jnp.broadcast_to(unit, x.shape)) @ unit, _units(x))
    return jnp.sum(second, axis=0).T


def folx_form(net: fn.MLP, params: fn.Params, x: jax.Array) -> jax.Array:
    """folx' forward Laplacian of each example."""
    operator = import_module("folx").forward_laplacian(one(net, params))
    return jax.vmap(lambda x: operator(x).laplacian)(x)


def gradient_through(form: Form) -> Form:
    """The gradient of ½ Σ laplacian² by `jax.grad` through a form."""

    def run(net: fn.MLP, params: fn.Params, x: jax.Array) -> fn.Params:
        return jax.grad(lambda params: 0.5 * jnp.sum(form(net, params, x) ** 2))(params)

    return run


def gradient_closed(net: fn.MLP, params: fn.Params, x: jax.Array, chunk_size: int | None = None) -> fn.Params:
    """The same by `funcnet.laplacian_vjp`."""
    values, pullback = fn.laplacian_vjp(net, params, x, chunk_size=chunk_size)
    return pullback(values)


NESTED: dict[str, Form] = {
    "trace of jax.hessian": trace_of_hessian,
    "forward over forward, by directions": forward_over_forward,
    "forward over reverse, all directions": forward_over_reverse,
    "linearized reverse, by directions": linearized,
}
JACOBIANS: dict[str, Form] = {
    "jax.jacrev": lambda net, params, x: jax.vmap(jax.jacrev(one(net, params)))(x),
    "jax.jacfwd": lambda net, params, x: jax.vmap(jax.jacfwd(one(net, params)))(x),
}


def forms() -> tuple[dict[str, dict[str, Form]], list[str]]:
    """For each quantity its forms, and why others are left out."""
    others, left_out = dict(NESTED), []
    if find_spec("folx") is None:
        left_out.append(f"{FOLX} is left out: not installed")
    else:
        others[FOLX] = folx_form
    return {
        JACOBIAN: {FUNCNET: fn.input_jacobian, **JACOBIANS},
        LAPLACIAN: {FUNCNET: fn.laplacian, CHUNKED: partial(fn.laplacian, chunk_size=8), **others},
        GRADIENT: {
            FUNCNET: gradient_closed,
            CHUNKED: partial(gradient_closed, chunk_size=8),
            **{label: gradient_through(form) for label, form in others.items()},
        },
    }, left_out


def check_equal(name: str, programs: Mapping[str, Program]) -> None:
    """Refuse to time what is not the same."""
    ours = programs[FUNCNET].run()
    for label, each in programs.items():
        result = compare(each.run(), ours)
        if result.problems or not result.error <= ROUNDINGS * TOLERANCE["float32"]:
            raise SystemExit(f"{name}: {label} does not give what the closed form gives; nothing is timed\n{result}")


def measure_quantity(name: str, ways: Mapping[str, Form], arguments: tuple[Any, ...], repeats: int) -> dict[str, Any]:
    """Seconds and temporary memory of a quantity's forms."""
    programs = {label: program(form, *arguments) for label, form in ways.items()}
    check_equal(name, programs)
    times = in_blocks({label: each.run for label, each in programs.items()} | {CONTROL: control()}, repeats)
    over = {label: float(np.median(times[label] / times[FUNCNET])) for label in programs}
    nested = [label for label in programs if label not in (FUNCNET, CHUNKED, FOLX)]
    return {
        "seconds": {label: value.tolist() for label, value in times.items()},
        "over": over,
        "best": min(nested, key=over.__getitem__),
        "temporary": {label: each.temporary for label, each in programs.items()},
    }


def verdicts(name: str, row: Mapping[str, Any]) -> str:
    """What was aimed at, and whether it was reached."""
    aim, over, memory, best = AIMS[name], row["over"], row["temporary"], row["best"]
    said = [(f"times faster than {best} ≥", aim.faster, over[best], over[best] >= aim.faster)]
    if aim.folx is not None and FOLX in over:
        said.append(("of folx' time ≤", aim.folx, 1 / over[FOLX], over[FOLX] * aim.folx >= 1))
    others = {label: memory[label] for label in (best, FOLX) if label in memory}
    for wanted, label in ((aim.memory, FUNCNET), (aim.least, CHUNKED)):
        for other, size in others.items():
            if wanted is None:
                continue
            said.append(
                (f"of {other}'s memory, {label} ≤", wanted, memory[label] / size, memory[label] <= wanted * size)
            )
    return "; ".join(
        f"{words} {wanted:g}: {value:.3g}, {'not ' * (not ok)}reached" for words, wanted, value, ok in said
    )


def tables(title: str, rows: Mapping[str, Any], quick: bool) -> tuple[Lines, Lines]:
    """What was aimed at, and every form."""
    aims = [[name, verdicts(name, row)] for name, row in rows.items() if name in AIMS and not quick]
    lines = []
    for name, row in rows.items():
        for label, size in row["temporary"].items():
            median, low, high = spread(1e3 * np.array(row["seconds"][label]))
            ratio = f"{row['over'][label]:.2f}"
            lines.append([name, label, f"{median:.3g} ({low:.3g}–{high:.3g})", ratio, f"{size / 1e6:.3g}"])
    header = ["quantity", "form", "ms", "times funcnet's", "temporary, MB"]
    return Lines(f"{title}: aims", ["quantity", "aims"], aims), Lines(f"{title}: every form", header, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write tables and numbers."""
    options = tyro.cli(Options, args=argv, description=__doc__)
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    ways, left_out = forms()
    packages = () if left_out else (FOLX,)
    console.print(machine(*packages), *left_out, sep="\n")
    widths, n = ((4, 16, 16, 1), 32) if options.quick else ((16, 256, 256, 256, 1), 512)
    net = fn.MLP(widths, activation=fn.tanh, loss=fn.half_squared_error)
    x = jnp.asarray(np.random.default_rng(0).normal(0, 1, (n, widths[0])), "float32")
    arguments = net, fn.init(jax.random.key(0), net, dtype="float32"), x
    repeats = 2 if options.quick else options.repeats
    rows = {name: measure_quantity(name, each, arguments, repeats) for name, each in ways.items()}
    still = noise({CONTROL: np.concatenate([row["seconds"][CONTROL] for row in rows.values()])})
    lines = tables(f"{'-'.join(map(str, widths))}, batch {n}", rows, options.quick)
    console.print(*map(shown, lines), still, sep="\n")
    page = "\n\n".join([*left_out, *map(markdown, lines), still])
    name = "input_derivatives_quick" if options.quick else "input_derivatives"
    console.print(write_results(options.out, name, rows, page, *packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
