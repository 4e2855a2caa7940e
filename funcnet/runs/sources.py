"""From options to the parts of the data."""

import numpy as np

from funcnet.data import (
    Dataset,
    Standardisation,
    Streamed,
    chunks_of,
    fit_standardisation,
    kind_of,
    load,
    load_as,
    load_streamed,
    moments,
    split,
    standardisation_of_moments,
)
from funcnet.numbers import check_count
from funcnet.runs.config import Config
from funcnet.training.digests import shared_out
from funcnet.training.optimizers import FULL_BATCH

SHARES = {"validation": 0.15, "test": 0.2}
"""What is cut off for these parts where nothing else is said."""


def parts_of(config: Config) -> tuple[dict[str, Dataset], Streamed | None]:
    """The parts of the data that the options name, and the training part if it is streamed.

    Raises:
        ValueError: If an option does not go with the data.
        OSError: If it cannot be read.
    """
    source, streamed = config.source, None
    reading = {"target": source.target, "header": source.header}
    counts = source.task == "auto" and config.network.loss == "poisson"  # whole numbers, yet no classes
    task = "regression" if counts else source.task
    size = config.training.part_size
    if size is not None:
        check_count("part_size", size)
    if kind_of(source.data) == "folder":
        _check_streamed(config)
        sets, streamed = load_streamed(source.data, task)
    elif size is not None:
        raise ValueError(f"part_size is for a folder of .npy files; got {size}")
    else:
        sets = load(source.data, folder=source.data_dir, task=task, **reading)
    shares = {"validation": source.validation_share, "test": source.test_share}
    for part, path in (("validation", source.validation_data), ("test", source.test_data)):
        if path is not None:
            if part in sets:
                raise ValueError(f"{part}_data cannot be given: {source.data} has a {part} part of its own")
            own = reading if not str(path).endswith(".npz") and not path.is_dir() else {}
            sets[part] = load_as(path, sets["train"], **own)
    for part, share in shares.items():
        if part in sets and share is not None:
            raise ValueError(f"{part}_share is not for data with a {part} part of its own; got {share}")
    if streamed is not None:
        return {part: sets[part] for part in ("train", *shares) if part in sets}, streamed
    sets = split(
        sets, config.training.seed, *(SHARES[part] if share is None else share for part, share in shares.items())
    )
    return sets, None


def standardisation_of(part: Dataset | Streamed) -> Standardisation:
    """Mean and scale of the features; of several processes each reads its share of those that are streamed."""
    if isinstance(part, Dataset):
        return fit_standardisation(part.x)
    x, chunks = part.x, chunks_of(part.x)
    found = shared_out(len(chunks), lambda i: np.stack(moments(x[chunks[i]])), np.zeros((2, x.shape[1])))
    counts = np.array([chunk.stop - chunk.start for chunk in chunks])
    return standardisation_of_moments(counts, found[:, 0], found[:, 1])


def _check_streamed(config: Config) -> None:
    """Refuse options that do not go with data that is read while it is trained on."""
    source, optimizer = config.source, config.optimization.optimizer
    refused = {
        "target": source.target,
        "header": None if source.header == "auto" else source.header,
        "data_dir": source.data_dir,
        "validation_share": source.validation_share or None,
        "test_share": source.test_share or None,
        "sweep": config.training.sweep,
        "dp_noise": config.privacy.dp_noise,
        "optimizer": optimizer if optimizer in FULL_BATCH else None,
    }
    for name, value in refused.items():
        if value is not None:
            where = "; its parts are files of their own" if name.endswith("_share") else ""
            raise ValueError(f"{name} {value} is not for a folder of .npy files, which is read part by part{where}")
