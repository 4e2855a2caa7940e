"""Data by one word: the name of a bundled set, mnist, a set of OpenML, or a file."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from funcnet.data.arrays import read_npz
from funcnet.data.bundled import BUNDLED, load_bundled
from funcnet.data.columns import by_name
from funcnet.data.dataset import Dataset, Schema, Table, n_targets, schema, unencoded
from funcnet.data.files import existing
from funcnet.data.idx import MNIST_FILES, read_mnist
from funcnet.data.messages import about
from funcnet.data.npy import NpyFeatures
from funcnet.data.npy_folder import open_npy_folder, read_npy_folder
from funcnet.data.openml import PREFIX, read_openml
from funcnet.data.table import Header, read_csv
from funcnet.data.targets import TASKS, Task, encode, encode_as

TEXT_ENDS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PART_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def load(
    data: str | Path,
    *,
    folder: str | Path | None = None,
    target: str | int | None = None,
    header: Header = "auto",
    task: Task = "auto",
) -> dict[str, Dataset]:
    """The parts that a source has: "train" and perhaps "validation" and "test".

    Args:
        data: A bundled set by name, "mnist", "openml:NAME", "openml:NAME:VERSION", "openml:ID", a file: .csv, .tsv,
            .txt (plain or .gz) or .npz, or a folder of .npy files.
        folder: Where the files of MNIST are.
        target: The target column of a text file, by name or by number from 1; by default the last.
        header: Whether the first row of a text file names its columns.
        task: Whether targets are classes or numbers to predict; see `encode` for what "auto" does.

    Raises:
        ValueError: If there is no such source, an option does not go with it, or what it holds cannot be learned from.
        TypeError: If its arrays hold something else than labels and real numbers.
        OSError: If a file is missing or cannot be read or fetched.
        ModuleNotFoundError: If scikit-learn is needed and not installed (it is in the extra `train`).

    >>> from funcnet.data import load
    >>> load("digits")["train"].x.shape
    (1797, 64)
    """
    if task not in TASKS:
        raise ValueError(f"task must be {', '.join(TASKS[:-1])} or {TASKS[-1]}; got {task!r}")
    kind = kind_of(data)
    _check_options(kind, data, folder, target, header)
    if kind not in ("bundled", "mnist"):
        return _encoded(data, _tables(kind, data, folder, target, header), task)
    sets = _known(kind, data, folder)
    if task == "auto" or (task == "classification") == bool(sets["train"].class_names):
        return sets
    return _encoded(data, {part: unencoded(each) for part, each in sets.items()}, task)


class Streamed(NamedTuple):
    """A training part that is read while it is trained on.

    Attributes:
        x: Its features.
        y: Its targets, encoded.
    """

    x: NpyFeatures
    y: Int[np.ndarray, " n"] | Float[np.ndarray, "n k"]


def load_streamed(folder: str | Path, task: Task = "auto") -> tuple[dict[str, Dataset], Streamed]:
    """The parts of a folder of .npy files, a sample in the place of the training part; and the training part.

    Args:
        folder: As of `load`.
        task: As of `load`.

    Raises:
        ValueError: As of `load`, and so are the other errors.
    """
    tables, unread = open_npy_folder(folder)
    with about(f"{folder}, training part"):
        y, names = encode(unread.y, task)
    sets = {"train": Dataset(_name(folder), tables["train"].x, y[unread.sample], names, scaled=unread.x.scaled)}
    for part in list(tables)[1:]:
        sets[part] = _like(tables[part], tables["train"], sets["train"], f"{folder}, {PART_NAMES[part]} part")
    return sets, Streamed(unread.x, y)


def load_as(
    data: str | Path,
    like: Dataset,
    *,
    folder: str | Path | None = None,
    target: str | int | None = None,
    header: Header = "auto",
    part: str | None = None,
) -> Dataset:
    """Further examples that fit those of `like`, such as a validation or test part in a file of its own.

    Args:
        data: As of `load`.
        like: The training part. Its features are found by name where both have names, and must be as many where not;
            its class names tell what labels there may be.
        folder: As of `load`.
        target: As of `load`; by default the column of the same name as that of `like` or, without names, the last.
        header: As of `load`.
        part: Which part of the source; by default the only one, else "test".

    Raises:
        ValueError: If the source has no such part, or features or targets do not fit; other errors as of `load`.
    """
    wanted = schema(like)
    table = _fitting(data, wanted, folder, target, header, part)
    if table.y is None:
        raise ValueError(f"{data} has no targets; expected them beside its features")
    if n_targets(table.y) != wanted.n_targets:
        raise ValueError(f"{data} has {n_targets(table.y)} targets; expected {wanted.n_targets}")
    with about(str(data)):
        y = encode_as(table.y, like.class_names, table.rows)
    return like._replace(name=_name(data), x=table.x, y=y)


def read_features(
    data: str | Path,
    like: Schema,
    *,
    folder: str | Path | None = None,
    target: str | int | None = None,
    header: Header = "auto",
    part: str | None = None,
) -> tuple[Float[np.ndarray, "n d"], Any]:
    """Features to predict from, and targets to compare with where the source has some.

    Args:
        data: As of `load`; targets may be left out.
        like: What was trained on, from `schema`; features are found as by `load_as`.
        folder: As of `load`.
        target: As of `load_as`.
        header: As of `load`.
        part: Which part of the source; by default the only one, else "test".

    Returns:
        Features, and targets encoded as in training: -1 stands for a class that training never saw, NaN for a number
        that is none. The targets are None if there are none, or none that is known.

    Raises:
        ValueError: If the source has no such part, or features do not fit; other errors as of `load`.
    """
    table = _fitting(data, like, folder, target, header, part)
    if table.y is None or n_targets(table.y) != like.n_targets:
        return table.x, None
    y = encode_as(table.y, like.class_names, unknown=True)
    known = y >= 0 if like.class_names else np.isfinite(y)
    return table.x, y if known.any() else None


def kind_of(data: str | Path) -> str:
    """What kind of source a word stands for: bundled, mnist, openml, text, npz or folder.

    Raises:
        ValueError: If it stands for none.
        OSError: If there is no such file.
    """
    text = str(data)
    if text == "mnist" or text in BUNDLED:
        return "mnist" if text == "mnist" else "bundled"
    if text.startswith(PREFIX):
        return "openml"
    if text.lower().endswith((*TEXT_ENDS, ".npz")):
        existing(text)
        return "npz" if text.lower().endswith(".npz") else "text"
    if text and Path(text).is_dir():
        return "folder"
    files = "a file ending in .csv, .tsv, .txt (plain or .gz) or .npz, or a folder of .npy files"
    raise ValueError(f"data must be one of {', '.join(BUNDLED)}, mnist, openml:NAME, {files}; got {text!r}")


def _check_options(kind: str, data: str | Path, folder: Any, target: Any, header: str) -> None:
    if kind == "mnist" and folder is None:
        raise ValueError(
            f"data 'mnist' needs folder (train.py: --data-dir) with {', '.join(MNIST_FILES)}, plain or .gz"
        )
    if kind != "mnist" and folder is not None:
        raise ValueError(f"folder goes with data 'mnist' alone; got folder {str(folder)!r} with data {str(data)!r}")
    for name, value, default in (("target", target, None), ("header", header, "auto")):
        if kind != "text" and value != default:
            files = "goes with a .csv, .tsv or .txt file alone"
            raise ValueError(f"{name} {files}; got {name} {value!r} with data {str(data)!r}")


def _known(kind: str, data: str | Path, folder: Any) -> dict[str, Dataset]:
    """The sets whose task is known."""
    return read_mnist(folder) if kind == "mnist" else {"train": load_bundled(str(data))}


def _tables(
    kind: str, data: str | Path, folder: Any, target: Any, header: Header, like: Schema | None = None
) -> dict[str, Table]:
    if kind == "text":
        return {"train": read_csv(data, target, header, like)}
    if kind == "npz":
        return read_npz(data, alone=like is not None)
    if kind == "folder":
        return read_npy_folder(data, alone=like is not None)
    if kind == "openml":
        return {"train": read_openml(str(data))}
    return {part: unencoded(each) for part, each in _known(kind, data, folder).items()}


def _encoded(data: str | Path, tables: dict[str, Table], task: Task) -> dict[str, Dataset]:
    """Datasets of one source, all encoded as its training part."""
    train, sets = tables["train"], {}
    for part in sorted(tables, key=list(PART_NAMES).index):  # the training part first: it tells the classes
        table, where = tables[part], str(data) if len(tables) == 1 else f"{data}, {PART_NAMES[part]} part"
        if table is not train:
            sets[part] = _like(table, train, sets["train"], where)
            continue
        with about(where):
            y, names = encode(_targets(table), task, table.rows)
        sets[part] = Dataset(_name(data), table.x, y, names, train.feature_names, train.target_names, train.scaled)
    return sets


def _like(table: Table, train: Table, like: Dataset, where: str) -> Dataset:
    """A further part, encoded as the training part."""
    with about(where):
        y = _targets(table)
        _check_alike(table, train)
        return like._replace(x=table.x, y=encode_as(y, like.class_names, table.rows))


def _targets(table: Table) -> np.ndarray:
    if table.y is None:
        raise ValueError("there are no targets; expected y beside x")
    return table.y


def _check_alike(table: Table, train: Table) -> None:
    if table.x.shape[1] != train.x.shape[1]:
        raise ValueError(f"{table.x.shape[1]} features; expected {train.x.shape[1]} as in the training part")
    if table.scaled != train.scaled:
        raise ValueError("x must be uint8 in every part or in none")
    if table.y is not None and train.y is not None and n_targets(table.y) != n_targets(train.y):
        raise ValueError(f"{n_targets(table.y)} targets; expected {n_targets(train.y)} as in the training part")


def _fitting(data: str | Path, like: Schema, folder: Any, target: Any, header: Header, part: str | None) -> Table:
    """One part of a source, with features as `like` has them."""
    kind = kind_of(data)
    _check_options(kind, data, folder, target, header)
    tables = _tables(kind, data, folder, target, header, like)
    part = part or (next(iter(tables)) if len(tables) == 1 else "test")
    if part not in tables:
        raise ValueError(f"{data} has no {part} part; it has: {', '.join(tables)}")
    table = tables[part]
    if table.feature_names and like.feature_names:
        with about(str(data)):
            table = table._replace(x=table.x[:, by_name(table.feature_names, like.feature_names)])
    elif table.x.shape[1] != like.n_features:
        raise ValueError(f"{data} has {table.x.shape[1]} features; expected {like.n_features}")
    if like.scaled and not (table.x.min() >= 0 and table.x.max() <= 1):
        got = f"{table.x.min():g} to {table.x.max():g}"
        raise ValueError(f"{data}: features must be from 0 to 1 as in training; got {got}")
    return table


def _name(data: str | Path) -> str:
    return str(data) if str(data).startswith(PREFIX) or str(data) in (*BUNDLED, "mnist") else Path(data).name
