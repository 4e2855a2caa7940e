"""The scales of a trained network's features and targets, where a network leaves funcnet with them."""

from typing import Any

from funcnet.data.standardisation import Standardisation
from funcnet.network import MLP


def check_scales(net: MLP, features: Any, targets: Any) -> None:
    """Refuse scales that are not the network's.

    Raises:
        TypeError: If one is neither None nor a `Standardisation`.
        ValueError: If it is not of as many columns as the network's inputs or outputs.
    """
    for name, scale, size in (("features", features, net.widths[0]), ("targets", targets, net.widths[-1])):
        if scale is None:
            continue
        if not isinstance(scale, Standardisation):
            raise TypeError(f"{name} must be a Standardisation of mean and scale; got {type(scale).__name__}")
        for field, array in scale._asdict().items():
            if array.shape != (size,):
                raise ValueError(f"{name}.{field} must have shape {(size,)} to match the network; got {array.shape}")
