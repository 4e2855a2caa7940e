"""A trained network with all that it takes to predict from raw data: scales, and names of classes and columns."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from funcnet.data import Dataset, Schema, Standardisation, Streamed, restore, standardise
from funcnet.gradients import apply
from funcnet.interchange import load, save
from funcnet.network import MLP
from funcnet.training.epoch import EVALUATION_ROWS
from funcnet.types import Features, Params

MEASURED_ROWS = 64 * EVALUATION_ROWS


class Model(NamedTuple):
    """A trained network and the data it fits.

    Attributes:
        net: The network.
        params: Its parameters.
        schema: What data must be like to fit it.
        features: How features are scaled before they enter, fitted on the training part; None for as they are.
        targets: How the numbers to predict were scaled, likewise.
    """

    net: MLP
    params: Params
    schema: Schema
    features: Standardisation | None
    targets: Standardisation | None

    @property
    def classifies(self) -> bool:
        """Whether it predicts classes, not numbers."""
        return bool(self.schema.class_names)


class Predictions(NamedTuple):
    """What a model says of examples.

    Attributes:
        labels: The number of the class with the largest output; None for a model of numbers.
        values: Probabilities of the classes where the loss makes outputs that (else their scores), or the numbers
            predicted, in the units of the data.
    """

    labels: Int[np.ndarray, " n"] | None
    values: Float[np.ndarray, "n k"]


def predict(model: Model, x: Float[np.ndarray, "n d"]) -> Predictions:
    """Predictions from raw features, a block of rows at a time so that memory stays bounded and one shape compiles.

    Raises:
        ValueError: If the number of features is not the model's.
    """
    if x.ndim != 2 or x.shape[1] != model.schema.n_features:
        raise ValueError(f"x must have {model.schema.n_features} features to fit the model; got shape {x.shape}")
    rows = x if model.features is None else standardise(model.features, x)
    rows = rows.astype(model.params[0].w.dtype)
    outputs = [_outputs(model, rows[i : i + EVALUATION_ROWS]) for i in range(0, max(len(rows), 1), EVALUATION_ROWS)]
    values = np.concatenate(outputs)
    if model.classifies:
        return Predictions(np.argmax(values, axis=1).astype(np.int32), values)
    return Predictions(None, values if model.targets is None else restore(model.targets, values))


def measure(model: Model, dataset: Dataset | Streamed) -> dict[str, float]:
    """How good a model is on raw data: accuracy, or R² (averaged over targets) and mean absolute error in its units.

    Features are read and scaled a part at a time.

    Raises:
        ValueError: If the number of features is not the model's.
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    from sklearn.metrics import mean_absolute_error, r2_score

    x, y, right, values = dataset.x, dataset.y, 0, []
    for start in range(0, len(y), MEASURED_ROWS):
        part = slice(start, start + MEASURED_ROWS)
        found = predict(model, x[part])
        if found.labels is None:
            values.append(found.values)
        else:
            right += int(np.sum(found.labels == y[part]))
    if model.classifies:
        return {"accuracy": right / len(y)}
    values = np.concatenate(values)
    r2 = float(r2_score(y, values)) if len(values) > 1 else float("nan")
    return {"r2": r2, "mean_absolute_error": float(mean_absolute_error(y, values))}


def _outputs(model: Model, rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
    """What the outputs for one block stand for: the block is filled up, so that every one has the same shape."""
    n = len(rows)
    filled = np.concatenate([rows, np.zeros((EVALUATION_ROWS - n, rows.shape[1]), rows.dtype)])
    return np.asarray(_apply(model.net, model.params, filled))[:n]


@jax.jit
def _apply(net: MLP, params: Params, x: Features) -> Float[jax.Array, "n k"]:
    return net.loss.inverse_link(apply(net, params, x))


def save_model(path: Path, model: Model) -> None:
    """Write a model as a safetensors file: layers and scales as tensors, network and names in the metadata.

    Raises:
        ValueError: If an activation or loss is the user's own.
        OSError: If the file cannot be written.
    """
    scales = {"features": model.features, "targets": model.targets}
    arrays = {f"{of}.{k}": v for of, scale in scales.items() if scale is not None for k, v in scale._asdict().items()}
    save(path, model.net, model.params, arrays=arrays, metadata={"data": json.dumps(model.schema._asdict())})


def load_model(path: Path) -> Model:
    """Read what `save_model` wrote.

    Raises:
        ValueError: If the file is not one of a model, or does not fit its own description.
        OSError: If it cannot be read.
    """
    net, params, arrays, metadata = load(path)
    try:
        schema = _schema(json.loads(metadata["data"]))
        scales = {
            of: _scale(arrays, of, size) for of, size in (("features", net.widths[0]), ("targets", net.widths[-1]))
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe the data of its network: {error}") from None
    outputs = len(schema.class_names) or schema.n_targets
    if (schema.n_features, outputs) != (net.widths[0], net.widths[-1]):
        raise ValueError(
            f"{path} describes data of {schema.n_features} features and {outputs} outputs; its network has {net.widths}"
        )
    return Model(net, params, schema, scales["features"], scales["targets"])


def _schema(fields: Any) -> Schema:
    """What data must be like, from plain values."""
    if not isinstance(fields, dict):
        raise TypeError(f"expected a dictionary; got {type(fields).__name__}")
    named: Any = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    schema = Schema(**named)
    kinds = {"n_features": int, "n_targets": int, "scaled": bool}
    for name, value in schema._asdict().items():
        texts = not isinstance(value, tuple) or all(isinstance(text, str) for text in value)
        if type(value) is not kinds.get(name, tuple) or not texts:
            raise TypeError(f"{name} is of another kind: {value!r}")
    return schema


def _scale(arrays: dict[str, np.ndarray], of: str, size: int) -> Standardisation | None:
    if f"{of}.mean" not in arrays and f"{of}.scale" not in arrays:
        return None
    scale = Standardisation(arrays[f"{of}.mean"], arrays[f"{of}.scale"])
    for name, array in scale._asdict().items():
        if array.shape != (size,):
            raise ValueError(f"{of}.{name} must have shape {(size,)}; got {array.shape}")
    return scale
