"""Data larger than memory: read a part of an epoch at a time, the next one while the last one is trained on."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.boundary import check_features, check_targets, check_weights
from funcnet.network import MLP
from funcnet.numbers import check_count
from funcnet.training.checks import check_finite, check_target_values
from funcnet.training.metrics import variation
from funcnet.training.objective import Examples
from funcnet.training.order import Part, block_starts, new_order, new_parts
from funcnet.training.pixels import aligned
from funcnet.training.placement import DATA, Placement, placed, placed_blocks, placed_key, placed_order
from funcnet.types import KeyArray, Rows

T = TypeVar("T")
U = TypeVar("U")
NUMBERS = 2**25
"""So many features are in memory at once where nothing else is said, and as many of the part that comes next."""
TARGETS = 2**20
"""So many are checked at once."""


class Stream(NamedTuple):
    """Data that is read while it is trained on, for `fit` and `prepare`.

    An epoch is a sequence of parts. For each, one window of consecutive rows of each block is read (see
    `funcnet.training.order`) and shuffled, while the part before is trained on. Targets and weights are read and
    checked once before that; features are checked whenever they are read.

    Attributes:
        x: Features; whole numbers from 0 to 255 (uint8) stand for k/255.
        y: Targets.
        weights: A positive weight for each example; by default 1.
        part_size: About how many examples are read at once; by default 2²⁵ features' worth.

    >>> import jax, optax
    >>> import numpy as np
    >>> import funcnet as fn
    >>> x = np.linspace(-1, 1, 1000, dtype="float32")[:, None]  # or funcnet.data.open_npy("x.npy")
    >>> data = fn.training.Stream(x, np.sin(3 * x), part_size=200)
    >>> net = fn.MLP((1, 16, 1), activation=fn.tanh, loss=fn.half_squared_error)
    >>> state, history = fn.fit(jax.random.key(0), net, optax.sgd(0.1, 0.9), data, epochs=20, batch_size=8)
    >>> bool(history["train_r2"][-1] > 0.99)
    True
    """

    x: Rows
    y: Rows
    weights: Rows | None = None
    part_size: int | None = None


class Source(NamedTuple):
    """A checked stream.

    Attributes:
        stream: The stream.
        n: How many examples there are.
        part_size: About how many are read at once.
        dtype: What the network computes in.
        name: What messages call the data.
        variation: Σ w (y − ȳ)² of the targets; None for labels.
    """

    stream: Stream
    n: int
    part_size: int
    dtype: Any
    name: str
    variation: np.ndarray | None

    def features(self, start: int, stop: int) -> np.ndarray:
        """Some rows as the network takes them, or as bytes; refused where they are not finite.

        Raises:
            ValueError: If a number is not finite, or there are fewer rows than there were.
        """
        rows = np.asarray(self.stream.x[start:stop])
        if len(rows) != stop - start:
            raise ValueError(f"{self.name}: x must have rows up to {stop}; got {start + len(rows)}")
        rows = rows.reshape(len(rows), -1)
        if rows.dtype == np.uint8:
            return rows if self.dtype == np.float32 else rows.astype(self.dtype) / np.asarray(255, self.dtype)
        with np.errstate(over="ignore"):  # what is too large is refused like what is not finite
            rows = rows.astype(self.dtype, copy=False)
        try:
            check_finite("x", rows, range(start, stop))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return rows

    def targets(self, start: int, stop: int) -> np.ndarray:
        """The targets of some rows."""
        y = np.asarray(self.stream.y[start:stop])
        return y if y.ndim == 1 else y.astype(self.dtype)

    def weights(self, start: int, stop: int) -> np.ndarray:
        """The weights of some rows."""
        w = self.stream.weights
        return np.ones(stop - start, self.dtype) if w is None else np.asarray(w[start:stop], self.dtype)

    def load(self, part: Part, place: Placement | None) -> Examples:
        """The examples of a part on the devices; each process reads those of its own devices."""
        edges = block_starts(part.n, len(part.starts))
        sizes = np.diff(edges)

        def on_devices(read: Callable[[int, int], np.ndarray]) -> jax.Array:
            def take(block: int) -> np.ndarray:
                return read(int(part.starts[block]), int(part.starts[block] + sizes[block]))

            some = read(0, 1)
            if place is not None and len(sizes) % place.mesh.shape[DATA] == 0:
                return placed_blocks(take, sizes, some.shape[1:], some.dtype, place)
            rows = aligned((part.n, *some.shape[1:]), some.dtype)
            for block, start in enumerate(edges[:-1]):
                rows[start : start + sizes[block]] = take(block)
            return jax.device_put(rows, may_alias=True) if place is None else placed(rows, place.on())

        y, weights = on_devices(self.targets), on_devices(self.weights)
        return Examples(on_devices(self.features), y, weights)  # last: JAX gives memory back when it is called next


class Loaded(NamedTuple):
    """A part of an epoch to train on.

    Attributes:
        key: The key that the part's program is handed.
        rows: Its order.
        data: Its examples.
        after: The key that the state has when the part is done: that of its epoch, or of the next behind its last part.
        steps_before: The steps of the epoch before it.
    """

    key: KeyArray
    rows: Any
    data: Examples
    after: KeyArray
    steps_before: int


def check_stream(net: MLP, stream: Stream, dtype: Any, name: str = "data", learning: bool = True) -> Source:
    """Check what a stream tells without its features; targets and weights are read once.

    Raises:
        TypeError: If an array is of the wrong kind.
        ValueError: If there are no examples, sizes do not fit, targets are out of range or all of one class, or weights
            are not positive; the message names the argument and the place.
    """
    x, y, weights, part_size = stream
    for each, rows in (("x", x), ("y", y), ("weights", weights)):
        if not isinstance(rows, Rows) and not (rows is None and each == "weights"):
            raise TypeError(f"{name}: {each} must be an array, or read by slices like one; got {type(rows).__name__}")
    try:
        check_features(net, jax.ShapeDtypeStruct(x.shape, dtype if x.dtype == np.uint8 else x.dtype))
        n, features = x.shape[0], math.prod(x.shape[1:])
        if n == 0:
            raise ValueError(f"x must have at least one example; got shape {x.shape}")
        check_targets(net, n, jax.ShapeDtypeStruct(y.shape, y.dtype))
        if weights is not None:
            check_weights(n, jax.ShapeDtypeStruct(weights.shape, weights.dtype))
        size = max(NUMBERS // features, 1) if part_size is None else check_count("part_size", part_size)
        source = Source(stream, n, size, dtype, name, None)
        return source._replace(variation=_check_targets(net, source, learning))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None


def _check_targets(net: MLP, source: Source, learning: bool) -> np.ndarray | None:
    """Look at all targets and weights, some at a time; Σ w (y − ȳ)² as sums of parts are merged (Chan et al., 1979)."""
    stream, first, several = source.stream, None, False
    weight, mean, varied = 0.0, np.zeros(()), np.zeros(())
    at_once = max(TARGETS // math.prod(stream.y.shape[1:]), 1)
    for start in range(0, source.n, at_once):
        numbers = range(start, min(start + at_once, source.n))
        y, w = np.asarray(stream.y[start : numbers.stop]), source.weights(start, numbers.stop)
        for name, rows in (("y", y), ("weights", w)):
            if len(rows) != len(numbers):
                raise ValueError(f"{name} must have rows up to {numbers.stop}; got {start + len(rows)}")
        check_finite("weights", w, numbers)
        if w.min() <= 0:
            raise ValueError(f"weights of a stream must be positive; got {w.min():g} at example {start + w.argmin()}")
        check_target_values(net, y, numbers)
        if y.ndim == 1:
            first = y[0] if first is None else first
            several = several or bool((y != first).any())
            continue
        more, centre = float(w.sum(dtype=float)), np.average(y.astype(float), axis=0, weights=w)
        apart, weight = centre - mean, weight + more
        varied = varied + np.asarray(variation(y, w)) + np.square(apart) * more * (weight - more) / weight
        mean = mean + apart * more / weight
    if first is None:
        return varied
    if learning and not several:
        raise ValueError(f"y must hold at least 2 classes to learn from; got only class {first}")
    return None


Coming = tuple[KeyArray, Part, KeyArray, int]
"""A part to be loaded with its key, the key of the state behind it, and the steps of the epoch before it."""


def parts_to_come(source: Source, batch_size: int, key: KeyArray, first: int) -> Iterator[Coming]:
    """The parts of an epoch from one on, then those of the next epochs, without end.

    Args:
        source: The examples.
        batch_size: Examples in each step.
        key: The key of the epoch.
        first: The part to begin with, from 0.
    """
    key = _local(key)
    while True:
        parts, following = new_parts(key, source.n, batch_size, source.part_size), jax.random.split(key)[0]
        for i, part in list(enumerate(parts))[first:]:
            own = key if i == 0 else jax.random.fold_in(key, i)
            yield own, part, following if i == len(parts) - 1 else key, i * (parts[0].n // batch_size)
        key, first = following, 0


def load_part(source: Source, batch_size: int, place: Placement | None, coming: Coming) -> Loaded:
    """A part in its order, on the devices."""
    key, part, after, steps_before = coming
    rows, data = new_order(key, part.n, batch_size, len(part.starts)), source.load(part, place)
    if place is None:
        return Loaded(key, rows, data, after, steps_before)
    return Loaded(
        placed_key(key, place), placed_order(rows, part.n, place), data, placed_key(after, place), steps_before
    )


def _local(key: KeyArray) -> KeyArray:
    """A key on this process's own device."""
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jnp.asarray(np.asarray(key))
    return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(key))), impl=jax.random.key_impl(key))


def pieces_of(source: Source, place: Placement | None) -> list[Part]:
    """All examples in their order, in pieces that fit into memory, in as many blocks as the data axis has devices."""
    count, size = 1 if place is None else place.mesh.shape[DATA], source.part_size
    pieces = [(start, min(size, source.n - start)) for start in range(0, source.n, size)]
    return [Part(n, start + block_starts(n, count)[:-1]) for start, n in pieces]


def ahead(load: Callable[[T], U], wanted: Iterable[T]) -> Iterator[U]:
    """What is wanted, each loaded by a thread while the one before is used."""
    coming: deque[Future[U]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for one in wanted:
            coming.append(pool.submit(load, one))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
