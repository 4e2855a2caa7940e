"""Data sets of OpenML, fetched over the network once and kept by scikit-learn."""

import http.client
import math
import warnings
from typing import Any

import numpy as np

from funcnet.data.dataset import Table

PREFIX = "openml:"


def read_openml(data: str) -> Table:
    """A data set by `openml:NAME`, `openml:NAME:VERSION` or `openml:ID`.

    Features must be numbers; one of two categories is 0 or 1. The target is the one that OpenML names.

    Raises:
        ValueError: If there is no such data set, or it has missing values, categories without order or no target.
        OSError: If it is not at hand and cannot be fetched.
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    bunch = _fetched(data, _request(data))
    names = tuple(map(str, bunch.feature_names))
    if not isinstance(bunch.data, np.ndarray):
        raise ValueError(f"{data} is sparse; expected a table with all its numbers")
    categories = getattr(bunch, "categories", None) or {}
    unordered = next((name for name in names if len(categories.get(name) or ()) > 2), None)
    if unordered is not None:
        raise ValueError(f"{data}: feature {unordered!r} holds categories without order; expected numbers")
    if bunch.target is None:
        raise ValueError(f"{data} names no target to predict")
    y = np.asarray(bunch.target)
    with np.errstate(over="ignore"):
        x = bunch.data.astype(np.float32)
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        i, j = (int(place) for place in bad[0])
        value = bunch.data[i, j]
        what = "a value is missing" if np.isnan(value) else f"float32 cannot hold {value}"
        raise ValueError(f"{data}: {what} in row {i}, feature {names[j]!r}")
    missing = next((i for i, row in enumerate(y.reshape(len(y), -1)) if any(map(_is_missing, row))), None)
    if missing is not None:
        raise ValueError(f"{data}: the target is missing in row {missing}")
    return Table(x, y, names, tuple(map(str, bunch.target_names)), np.arange(len(x)), scaled=False)


def _request(data: str) -> dict[str, Any]:
    """What to ask OpenML for."""
    name, _, version = data.removeprefix(PREFIX).partition(":")
    if not name or (version and not version.isdecimal()) or data.endswith(":") or (version and name.isdecimal()):
        raise ValueError(f"data must be openml:NAME, openml:NAME:VERSION or openml:ID; got {data!r}")
    if name.isdecimal():
        return {"data_id": int(name)}
    return {"name": name, "version": int(version)} if version else {"name": name}


def _fetched(data: str, request: dict[str, Any]) -> Any:
    from sklearn import datasets

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A network error occurred")  # each retry; the last is told below
            return datasets.fetch_openml(**request, as_frame=False, parser="liac-arff")
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{data} could not be fetched, which needs a network: {_line(error)}") from None
    except ValueError as error:
        raise ValueError(f"{data}: {_line(error)}") from None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
