"""A derivation as a Python module of its own, as a function, and its proof."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.checking import GradientReport, check_gradient
from funcnet.derive.assignments import free_name, sizes_in, statements
from funcnet.derive.code import Names
from funcnet.derive.cost import cheapest, cost
from funcnet.derive.elementwise import add
from funcnet.derive.expression import Expression, symbols_of, walk, zeros
from funcnet.derive.simplify import simplified


def arguments(derivation: Any) -> tuple[Expression, ...]:
    """The symbols of the loss, in the order in which they occur."""
    return tuple(symbols_of(derivation.expression).values())


def source(derivation: Any, displayed: bool = False) -> str:
    """A standalone module: `loss`, and `value_and_grad` with the closed-form backward pass.

    Args:
        derivation: The derivation.
        displayed: Whether to compute the gradients by the formulas as they are shown, not by equal ones that cost less.
    """
    symbols = arguments(derivation)
    names = ", ".join(s.data for s in symbols)
    taken = {s.data for s in symbols} | {name for name, _ in derivation.forward} | {"loss", "value_and_grad"}
    value, prefix = free_name("value", taken), "d_"
    while any(name.startswith(prefix) for name in taken):
        prefix += "_"
    of_loss = statements([(value, derivation.expression)], Names(sizes_in(symbols), {}, prefix))
    body = _body(derivation, Names(sizes_in(symbols), {}, prefix), value, displayed)
    vectors = _vectors(symbols)
    used = "\n".join([*vectors, *body, *of_loss])
    results = ", ".join(f'"{s.data}": {prefix}{s.data}' for s in derivation.gradient)
    shapes = "; ".join(f"{s.data} {_shape_words(s)}" for s in symbols)
    parts = [
        '"""' + str(derivation).rstrip() + '\n"""',
        "",
        *(line for word, line in _IMPORTS if word in used),
        "\n",
        f"def loss({names}):",
        f'    """The scalar itself. Shapes: {shapes}; vectors may have one dimension."""',
        *(f"    {line}" for line in [*vectors, *of_loss]),
        f"    return {value}\n\n",
        f"def value_and_grad({names}):",
        '    """The scalar and its gradients, in closed form; vectors as columns or rows."""',
        *(f"    {line}" for line in [*vectors, *body]),
        f"    return {value}, {{{results}}}",
    ]
    return "\n".join(parts) + "\n"


def _body(derivation: Any, names: Names, value: str, displayed: bool) -> list[str]:
    """The statements of both passes."""
    terms = _terms(derivation)
    wanted = [*derivation.backward, *((s.data, e) for s, e in derivation.gradient.items())]
    forms = [(n, e if displayed else cheapest((e, simplified(terms[n], cost)))) for n, e in wanted]
    backward = [(names.gradient + n, e) for n, e in forms]
    lines = statements([*derivation.forward, (value, derivation.loss), *backward], names)
    for n, e in forms:
        if not any(node.op in ("symbol", "gradient") for node in walk(e)):  # constant
            own = names.gradient + n
            lines.append(f"{own} = jnp.broadcast_to(jnp.asarray({own}, {n}.dtype), {n}.shape)")
    at = next(i for i, line in enumerate(lines) if line.startswith(f"{value} ="))
    return ["# forward", *lines[: at + 1], "# backward", *lines[at + 1 :]]


def _vectors(symbols: tuple[Expression, ...]) -> list[str]:
    """Statements that bring vectors into the shape the formulas have them in, and numbers into arrays."""
    kinds = (
        ("()", [s.data for s in symbols if s.is_scalar], "numbers"),
        ("(-1, 1)", [s.data for s in symbols if s.shape[1] == 1 and not s.is_scalar], "columns"),
        ("(1, -1)", [s.data for s in symbols if s.shape[0] == 1 and not s.is_scalar], "rows"),
    )
    return [
        f"{', '.join(names)} = {', '.join(f'jnp.reshape({name}, {shape})' for name in names)}  # {kind}"
        for shape, names, kind in kinds
        if names
    ]


def _terms(derivation: Any) -> dict[str, Expression]:
    """The gradients as sums of what each stage found: longer to read, at times faster to compute."""
    found: dict[str, list[Expression]] = {}
    for stage in derivation.stages:
        for name, term in stage.found:
            found.setdefault(name, []).append(term)
    shapes = {s.data: s.shape for s in derivation.gradient}
    return {name: add(*terms) for name, terms in found.items()} | {
        name: zeros(shape) for name, shape in shapes.items() if name not in found
    }


_IMPORTS = (("jax.nn.", "import jax"), ("jnp.", "import jax.numpy as jnp"), ("fn.", "import funcnet as fn"))


def _shape_words(s: Expression) -> str:
    return "()" if s.is_scalar else f"({s.shape[0]}, {s.shape[1]})"


def namespace(text: str) -> dict[str, Any]:
    """A module, run: text of our own making, whose names `symbol` has checked."""
    space: dict[str, Any] = {}
    exec(compile(text, "<derived>", "exec"), space)
    return space


def function(derivation: Any) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """The value and the gradients as a function of arrays, by position or by name.

    Vectors may have one dimension; their gradients then have one as well.
    """
    run, symbols = namespace(source(derivation))["value_and_grad"], arguments(derivation)

    def value_and_grad(*args: Any, **named: Any) -> tuple[Any, dict[str, Any]]:
        given = _bound(symbols, args, named)
        value, gradients = run(**{s.data: _as_matrix(s, given[s.data]) for s in symbols})
        return value, {name: _like(given[name], gradient) for name, gradient in gradients.items()}

    return value_and_grad


def _like(argument: Any, gradient: Any) -> Any:
    """The gradient in the shape and dtype of what it is of; parts of it may have been left to broadcasting."""
    like = jnp.asarray(argument)
    if jnp.ndim(gradient) == 0:
        return jnp.full(like.shape, gradient, like.dtype)
    shape = like.shape if like.ndim == 2 else gradient.shape
    return jnp.broadcast_to(gradient, shape).reshape(like.shape).astype(like.dtype)


def _bound(symbols: tuple[Expression, ...], args: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
    names = [s.data for s in symbols]
    if len(args) > len(names):
        raise TypeError(f"there are {len(names)} arguments ({', '.join(names)}); got {len(args)}")
    given = dict(zip(names, args, strict=False))
    for name, value in named.items():
        if name not in names or name in given:
            what = "given twice" if name in given else f"not one of {', '.join(names)}"
            raise TypeError(f"{name} is {what}")
        given[name] = value
    missing = [name for name in names if name not in given]
    if missing:
        raise TypeError(f"{', '.join(missing)} must be given")
    known: dict[str, tuple[int, str]] = {}
    for s in symbols:
        shape = jnp.shape(given[s.data])
        wanted = () if s.is_scalar else s.shape
        if s.is_scalar and jnp.size(given[s.data]) == 1:
            shape = ()
        if len(shape) == 1 and not s.is_scalar and 1 in s.shape:
            shape = (shape[0], 1) if s.shape[1] == 1 else (1, shape[0])
        if len(shape) != len(wanted):
            raise ValueError(f"{s.data} must have shape {_shape_words(s)}; got {jnp.shape(given[s.data])}")
        for size, got in zip(wanted, shape, strict=True):
            before, by = known.setdefault(size, (got, s.data)) if isinstance(size, str) else (size, s.data)
            if before != got:
                said = f", where {size} is {before} by {by}" if isinstance(size, str) else ""
                raise ValueError(f"{s.data} must have shape {_shape_words(s)}{said}; got {jnp.shape(given[s.data])}")
    return given


def _as_matrix(s: Expression, value: Any) -> Any:
    array = jnp.asarray(value)
    if s.is_scalar:
        return array.reshape(())
    if array.ndim == 1:
        return array[:, None] if s.shape[1] == 1 else array[None, :]
    return array


def draw(derivation: Any, key: Any, sizes: Mapping[str, int] | None = None, attempt: int = 0) -> dict[str, np.ndarray]:
    """Random arguments of random sizes; later attempts keep to where logarithms, roots and inverses exist."""
    words = np.asarray(jax.random.key_data(key)).ravel()
    random = np.random.default_rng([*map(int, words), attempt])
    symbols = arguments(derivation)
    named = sorted({size for s in symbols for size in s.shape if isinstance(size, str)})
    chosen = {name: int(random.integers(2, 6)) for name in named} | dict(sizes or {})
    drawn = {}
    for s in symbols:
        shape = tuple(size if isinstance(size, int) else chosen[size] for size in s.shape)
        value = random.normal(0, 1, shape) if attempt < 2 else random.uniform(0.2, 1.2, shape)
        if s.shape[0] == s.shape[1] and not s.is_scalar:
            value = value / np.sqrt(len(value)) + (2.5 * np.eye(len(value)) if attempt else 0)
        if "symmetric" in s.traits:
            value = (value + value.T) / 2
        if "sums_to_one" in s.traits:
            value = _shares(random, shape if s.shape[1] != 1 else shape[::-1]).reshape(shape)
        drawn[s.data] = value.reshape(()) if s.is_scalar else value
    return drawn


def _shares(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows that add up to 1 in every precision: sixty-fourths."""
    rows, columns = shape
    return random.multinomial(64, np.full(columns, 1 / columns), rows) / 64


def check(derivation: Any, key: Any, *, sizes: Mapping[str, int] | None = None, raises: bool = True) -> GradientReport:
    """Prove the gradients by `funcnet.check_gradient`, at a random point of random sizes.

    Both are proven: the formulas as they are shown, and those that the module computes by where they cost less.

    Args:
        derivation: The derivation.
        key: A random key.
        sizes: Sizes to take in the place of random ones.
        raises: Whether to raise `funcnet.GradientMismatch` on a wrong gradient.

    Raises:
        ValueError: If no point was found where the loss and its gradients are finite.
    """
    if not hasattr(key, "dtype"):
        raise TypeError(f"key must be a random key such as jax.random.key(0); got {key!r}")
    names = [s.data for s in arguments(derivation)]
    at = tuple(names.index(s.data) for s in derivation.gradient)

    def gradients_of(space: Mapping[str, Any]) -> Callable[..., tuple[Any, ...]]:
        def gradients(*args: Any) -> tuple[Any, ...]:
            found = space["value_and_grad"](*args)[1]
            return tuple(jnp.broadcast_to(found[names[i]], jnp.shape(args[i])) for i in at)

        return gradients

    texts = dict.fromkeys((source(derivation), source(derivation, displayed=True)))
    spaces = [namespace(text) for text in texts]
    for attempt in range(6):
        drawn = draw(derivation, key, sizes, attempt)
        args = [jnp.asarray(drawn[name]) for name in names]
        values = [spaces[-1]["loss"](*args), *gradients_of(spaces[-1])(*args)]
        if all(bool(jnp.all(jnp.isfinite(v))) for v in values):
            reports = [
                check_gradient(space["loss"], gradients_of(space), *args, argnums=at, raises=raises) for space in spaces
            ]
            return next((report for report in reports if not report.passed), reports[-1])
    raise ValueError("no point was found where the loss and its gradients are finite")
