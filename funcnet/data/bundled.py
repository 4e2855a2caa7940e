"""The data sets that scikit-learn carries, so that they need no network."""

from typing import Any

import numpy as np

from funcnet.data.dataset import Dataset

BUNDLED = ("digits", "iris", "wine", "breast_cancer", "diabetes", "linnerud")
INK = 16  # of a full pixel in the file of digits


def load_bundled(name: str) -> Dataset:
    """A bundled data set by name: diabetes has a number to predict, linnerud three at once, the others classes.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    if name not in BUNDLED:
        raise ValueError(f"data must be one of {', '.join(BUNDLED)}; got {name!r}")
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch: Any = getattr(datasets, f"load_{name}")(**options)
    features = tuple(map(str, bunch.feature_names))
    if name in ("diabetes", "linnerud"):
        targets = tuple(map(str, bunch.target_names)) if name == "linnerud" else ("progression",)
        y = bunch.target.astype(np.float32).reshape(len(bunch.data), -1)
        return Dataset(name, bunch.data.astype(np.float32), y, (), features, targets)
    scaled = name == "digits"
    x = (bunch.data / INK if scaled else bunch.data).astype(np.float32)
    classes = tuple(map(str, bunch.target_names))
    return Dataset(name, x, bunch.target.astype(np.int32), classes, features, ("class",), scaled)
