"""Parameters as a safetensors file that carries the description of their network."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from funcnet.boundary import check_network
from funcnet.data.files import existing
from funcnet.interchange.assembly import held
from funcnet.interchange.description import checked_text, describe, network_of
from funcnet.network import MLP
from funcnet.types import Layer, Params

FORMAT = "funcnet 1"


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        net: The network.
        params: Its parameters.
        arrays: Further arrays by name.
        metadata: Further text by name.
    """

    net: MLP
    params: Params
    arrays: dict[str, np.ndarray]
    metadata: dict[str, str]


def save(
    path: str | Path,
    net: MLP,
    params: Params,
    *,
    arrays: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a network and its parameters: `layers.0.w`, `layers.0.b`, …; whole, or not at all.

    Args:
        path: The file.
        net: The network, of funcnet's own activations and losses.
        params: Its parameters.
        arrays: Further arrays, of names that do not start with "layers.".
        metadata: Further text, of names other than "format" and "network".

    Raises:
        TypeError: If params are not those of the network, or metadata no text.
        ValueError: If they do not fit it, or an activation or loss is the user's own.
        OSError: If the file cannot be written.
        ModuleNotFoundError: If safetensors is not installed (it is in the extra `train`).
    """
    from safetensors.numpy import save as to_bytes

    check_network(net, params)
    metadata = checked_text(metadata)
    tensors = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    for i, layer in enumerate(params):
        tensors |= {f"layers.{i}.{name}": np.ascontiguousarray(leaf) for name, leaf in layer._asdict().items()}
    text = {"format": FORMAT, "network": json.dumps(describe(net))}
    write_whole(Path(path), to_bytes(tensors, {**metadata, **text}))


def load(path: str | Path) -> Contents:
    """Read what `save` wrote. Nothing is guessed: a tensor that is missing, left over or misshapen is refused by name.

    Raises:
        ValueError: If the file is no whole safetensors file, not funcnet's, or does not fit its own description.
        OSError: If it cannot be read.
        ModuleNotFoundError: If safetensors is not installed.
    """
    from safetensors import SafetensorError, safe_open

    path = existing(path)
    with path.open("rb"):  # for Python's own words where it may not be read
        pass
    try:
        with safe_open(path, "numpy") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            tensors: dict[str, np.ndarray] = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from None
    if metadata.pop("format", None) != FORMAT or "network" not in metadata:
        raise ValueError(f"{path} was not written by funcnet: its metadata lack format {FORMAT!r} and the network")
    try:
        net = network_of(json.loads(metadata.pop("network")))
        return Contents(net, _params(net, tensors), tensors, metadata)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _params(net: MLP, tensors: dict[str, np.ndarray]) -> Params:
    """The parameters, taken out of the tensors."""
    expected = [f"layers.{i}.{name}" for i in range(net.n_layers) for name in Layer._fields]
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name.startswith("layers.") and name not in expected]
    if missing or extra:
        raise ValueError(
            f"tensors must be those of widths {net.widths}; "
            f"missing: {', '.join(missing) or 'none'}; left over: {', '.join(extra) or 'none'}"
        )
    leaves = [tensors.pop(name) for name in expected]
    kept = [held(name, leaf) for name, leaf in zip(expected, leaves, strict=True)]
    params = tuple(Layer(w, b) for w, b in zip(kept[::2], kept[1::2], strict=True))
    check_network(net, params)
    return params


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # beside it, so that renaming is one step
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
