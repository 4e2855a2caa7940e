"""Where the arrays of a run lie: examples along the devices' data axis, wide layers along their model axis.

Nothing is told to the devices but this: the programs are those of one device, cut up by the compiler.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.tree_util import GetAttrKey, SequenceKey
from jaxtyping import Int, Shaped

from funcnet.network import MLP
from funcnet.numbers import check_count
from funcnet.training.epoch import State
from funcnet.training.objective import Examples
from funcnet.training.order import block_starts
from funcnet.types import AnyArray, KeyArray, Layer

DATA, MODEL = "data", "model"


class Placement(NamedTuple):
    """The devices of a run and what lies where.

    Attributes:
        mesh: The devices, by axes "data" and "model".
        state: Where each array of the state lies.
        blocks: The blocks that the training examples are kept in, whole ones on each device; None where each device has
            all examples, or as many as any other.
    """

    mesh: Mesh
    state: Any
    blocks: int | None

    def on(self, *axes: str | None) -> NamedSharding:
        """The place of an array whose axes lie along these axes of the devices."""
        return NamedSharding(self.mesh, PartitionSpec(*axes))


def device_mesh(data: int = 1, model: int = 1) -> Mesh:
    """The first data · model devices as a mesh with axes "data" and "model", for `fit`.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If one is below 1, or there are not so many devices.

    >>> from funcnet.training import device_mesh
    >>> dict(device_mesh(data=1, model=1).shape)
    {'data': 1, 'model': 1}
    """
    sizes = check_count("data", data), check_count("model", model)
    wanted, devices = sizes[0] * sizes[1], jax.devices()
    if wanted > len(devices):
        more = "; JAX_NUM_CPU_DEVICES in the environment makes more of a CPU" if devices[0].platform == "cpu" else ""
        raise ValueError(
            f"mesh data={data},model={model} must have no more devices than there are, {len(devices)}; "
            f"got {wanted}{more}"
        )
    return _plain(np.array(devices[:wanted]).reshape(sizes))


def _plain(devices: np.ndarray) -> Mesh:
    """A mesh on which the compiler decides what lies where, as far as it is not told."""
    return Mesh(devices, (DATA, MODEL), axis_types=(AxisType.Auto, AxisType.Auto))


def check_mesh(mesh: Any, net: MLP, batch_size: int | None) -> Mesh:
    """The mesh with both axes.

    Raises:
        TypeError: If it is no mesh.
        ValueError: If its axes are others, the batch cannot be shared out evenly, or no layer be split.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh such as funcnet.training.device_mesh(data=4); got {mesh!r}")
    if not set(mesh.axis_names) <= {DATA, MODEL}:
        raise ValueError(f'mesh must have axes "data" and "model" alone; got {", ".join(map(str, mesh.axis_names))}')
    devices = mesh.devices
    if mesh.axis_names == (MODEL, DATA):
        devices = devices.T
    mesh = _plain(devices.reshape(mesh.shape.get(DATA, 1), mesh.shape.get(MODEL, 1)))
    if batch_size is not None and batch_size % mesh.shape[DATA]:
        raise ValueError(
            f"batch_size must be a multiple of the {mesh.shape[DATA]} devices along the mesh's data axis, at most as "
            f"large as the data; got {batch_size}"
        )
    model = mesh.shape[MODEL]
    if model > 1 and not any(MODEL in axes.w for axes in parameter_axes(net, model)):
        raise ValueError(
            f"mesh must have a model axis that divides a width which layers can be split by, of {net.widths[1:-1:2]}; "
            f"got {model}"
        )
    return mesh


def parameter_axes(net: MLP, model: int) -> tuple[Any, ...]:
    """Along which axes of the devices the parameters of each layer lie, as layers of tuples.

    Layers are split in pairs: the first by its outputs, the second by its inputs, so that what is between them stays
    where it is, and a pair needs one sum over devices in each sweep. A pair whose width in the middle is no multiple of
    the devices is left whole, and so is a last layer without a partner.
    """
    form: Any = Layer
    axes = [form((None, None), (None,))] * net.n_layers
    for i in range(0, net.n_layers - 1, 2):
        if model > 1 and net.widths[i + 1] % model == 0:
            axes[i], axes[i + 1] = form((None, MODEL), (MODEL,)), form((MODEL, None), (None,))
    return tuple(axes)


def placement(mesh: Mesh, net: MLP, state: State, blocks: int | None) -> Placement:
    """Where the arrays of a run lie; what an optimizer keeps for each parameter lies where that does."""
    place = Placement(mesh, None, None if blocks is None or blocks % mesh.shape[DATA] else blocks)
    axes: Any = parameter_axes(net, mesh.shape[MODEL])

    def beside(path: tuple[Any, ...], leaf: jax.Array) -> NamedSharding:
        """An array kept under the name of a parameter: as large, or a stack of such."""
        if len(path) > 1 and isinstance(path[-2], SequenceKey) and isinstance(path[-1], GetAttrKey):
            number, name = path[-2].idx, path[-1].name
            if number < net.n_layers and name in Layer._fields:
                own, shape = getattr(axes[number], name), getattr(state.params[number], name).shape
                more = leaf.ndim - len(shape)
                if more >= 0 and leaf.shape[more:] == shape:
                    return place.on(*[None] * more, *own)
        return place.on()

    shardings: Any = jax.tree_util.tree_map_with_path(beside, (state.params, state.opt_state))
    form: Any = State
    return place._replace(state=form(*shardings, place.on(), place.on()))


def placed(array: Shaped[AnyArray, "..."], sharding: NamedSharding) -> jax.Array:
    """An array on its devices; of several processes each hands over what its own devices hold."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def placed_in_blocks(array: Shaped[np.ndarray, "n ..."], place: Placement, blocks: int) -> jax.Array:
    """Rows in blocks along the data axis, those with one row less filled up with a row of zeros."""
    starts = block_starts(len(array), blocks)
    return placed_blocks(
        lambda block: array[starts[block] : starts[block + 1]], np.diff(starts), array.shape[1:], array.dtype, place
    )


def placed_blocks(
    take: Callable[[int], np.ndarray],
    sizes: Int[np.ndarray, " blocks"],
    shape: tuple[int, ...],
    dtype: Any,
    place: Placement,
) -> jax.Array:
    """Blocks along the data axis, filled up with zeros; each process takes those of its own devices alone.

    Args:
        take: Gives the rows of a block.
        sizes: The number of rows of each block.
        shape: The shape of a row.
        dtype: The dtype of the rows.
        place: The devices.
    """
    longest = int(sizes.max())

    def part(index: Any) -> np.ndarray:
        numbers = range(len(sizes))[index[0]]
        rows = np.zeros((len(numbers), longest, *shape), dtype)
        for row, block in zip(rows, numbers, strict=True):
            row[: sizes[block]] = take(block)
        return rows

    return jax.make_array_from_callback((len(sizes), longest, *shape), place.on(DATA), part)


def placed_train(data: Examples, place: Placement, full_batch: bool) -> Examples:
    """The examples to learn from: in blocks, or all on each device; for steps on all, shared out row by row."""
    if place.blocks is not None:
        return Examples(*(placed_in_blocks(np.asarray(array), place, place.blocks) for array in data))
    if not full_batch:
        return Examples(*(placed(array, place.on()) for array in data))
    extra = -len(data.x) % place.mesh.shape[DATA]  # rows of weight 0
    filled = (np.pad(np.asarray(a), [(0, extra)] + [(0, 0)] * (a.ndim - 1)) for a in data)
    return Examples(*(placed(array, place.on(DATA)) for array in filled))


def placed_to_evaluate(data: Examples, place: Placement) -> Examples:
    """Examples in as many blocks as there are devices along the data axis."""
    count = place.mesh.shape[DATA]
    return Examples(*(placed_in_blocks(np.asarray(array), place, count) for array in data))


def placed_order(rows: Int[np.ndarray, "steps batch"], n: int, place: Placement) -> jax.Array:
    """An order as `new_order` draws it, by numbers within the blocks where the examples are in such."""
    if place.blocks is None:
        return placed(rows, place.on(None, DATA))
    rows = rows.reshape(len(rows), place.blocks, -1)
    starts = block_starts(n, place.blocks)[:-1, None]
    return placed(np.where(rows < 0, -1, rows - starts).astype(np.int32), place.on(None, DATA))


def placed_state(state: State, place: Placement) -> State:
    """The state on its devices."""
    return jax.tree.map(_moved, state, place.state)


def placed_key(key: KeyArray, place: Placement) -> KeyArray:
    """A key on all devices."""
    return _moved(key, place.on())


def _moved(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return placed(leaf, sharding)
    data = placed(jax.random.key_data(leaf), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
