"""The scales of a trained network's features and targets, where a network leaves funcnet with them."""

from typing import Any

import numpy as np

from funcnet.data.standardisation import Standardisation
from funcnet.network import MLP


def checked_scales(net: MLP, features: Any, targets: Any) -> tuple[Standardisation | None, Standardisation | None]:
    """Both scales, or None for each that is not told; scalers of scikit-learn as what they do.

    Raises:
        TypeError: If one is neither None, a `Standardisation`, nor a fitted StandardScaler or MinMaxScaler.
        ValueError: If it is not of as many columns as the network's inputs or outputs.
    """
    return _checked("features", features, net.widths[0]), _checked("targets", targets, net.widths[-1])


def _checked(name: str, scale: Any, size: int) -> Standardisation | None:
    if scale is None:
        return None
    if type(scale).__module__.startswith("sklearn.preprocessing"):
        scale = _of_scaler(scale, size)
    if not isinstance(scale, Standardisation):
        raise TypeError(
            f"{name} must be a Standardisation of mean and scale, or a fitted StandardScaler or MinMaxScaler of "
            f"scikit-learn; got {type(scale).__name__}"
        )
    for field, array in scale._asdict().items():
        if np.shape(array) != (size,):
            raise ValueError(f"{name}.{field} must have shape {(size,)} to match the network; got {np.shape(array)}")
    return scale


def _of_scaler(scaler: Any, size: int) -> Any:
    """What a scaler does as (x − mean) / scale; the scaler itself where it is not of a known kind, or not fitted."""
    kind = type(scaler).__name__
    if not hasattr(scaler, "scale_") or (kind == "MinMaxScaler" and scaler.clip):
        return scaler
    if kind == "StandardScaler":
        mean = scaler.mean_ if scaler.with_mean else np.zeros(size)  # which it knows even where it does not use it
        return Standardisation(mean, scaler.scale_ if scaler.with_std else np.ones(size))
    if kind == "MinMaxScaler":  # x · scale_ + min_
        return Standardisation(-scaler.min_ / scaler.scale_, 1 / scaler.scale_)
    return scaler
