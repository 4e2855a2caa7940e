"""Files that are damaged, cut off or lie about their size, and what counts as lost when they are read.

`faults.py` runs them. A reader survives if it refuses in one clear line that names the file, or reads exactly what was
there; where a format has no checksum, what the file now says, by a reading of its own here, is right too.
"""

import ast
import csv
import faulthandler
import gzip
import io
import json
import os
import random
import resource
import signal
import struct
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import funcnet as fn
from funcnet.data import Dataset, Standardisation, load, open_npy, read_idx, read_mnist, schema
from funcnet.interchange import describe
from funcnet.runs.model import Model, load_model, save_model

RIGHT, REFUSED, SAYS, LOST = "read right", "refused", "read as the file says", "lost"
REFUSALS = (OSError, TypeError, ValueError)
SECONDS, MEMORY = 10.0, 500e6
GIGABYTE = 2**30
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
NOBODY = 65534


class TooLongError(BaseException):
    """The alarm; no reader takes it for an error of a file."""


class Tally:
    """How often a fault was tried, what came of it, and what was lost."""

    def __init__(self, name: str) -> None:
        self.name, self.counts, self.lost, self.note = name, Counter(), [], ""

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Tally":
        """What `vars` gave of one."""
        tally = cls(fields["name"])
        tally.counts, tally.lost, tally.note = Counter(fields["counts"]), fields["lost"], fields["note"]
        return tally

    @property
    def tried(self) -> int:
        return self.counts.total()

    def add(self, verdict: str, why: str = "") -> None:
        self.counts[verdict] += 1
        if verdict == LOST:
            self.lost.append(why)

    def check(self, wrong: str) -> None:
        """One more, in words what is wrong with it."""
        self.add(LOST if wrong else RIGHT, wrong)


def same(found: Any, expected: Any) -> bool:
    """Whether tuples, lists and dictionaries of arrays and plain values are equal, arrays to the bit."""
    if isinstance(expected, np.ndarray):
        alike = isinstance(found, np.ndarray) and (found.dtype, found.shape) == (expected.dtype, expected.shape)
        return alike and found.tobytes() == expected.tobytes()
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(same(found[k], expected[k]) for k in expected)
        )
    if isinstance(expected, tuple | list):
        return isinstance(found, tuple | list) and len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected)


def address_space() -> int:
    """How much of it this process has, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def limits(seconds: float, memory: float) -> Iterator[list[int]]:
    """An alarm, no address space beyond twice the memory and a gigabyte, and afterwards the most memory taken."""

    def ring(*_: Any) -> None:
        raise TooLongError(f"still at it after {seconds:g} s")

    peak: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + int(2 * memory) + GIGABYTE, hard))
    faulthandler.dump_traceback_later(6 * seconds, exit=True)  # for what hears no alarm
    tracemalloc.start()
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield peak
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


def unclear(message: str, path: Path) -> str:
    """What a refusal lacks; nothing if it is one line that names the file."""
    if len(message.splitlines()) != 1:
        return "not one line"
    return "" if str(path) in message else "does not name the file"


def judged(
    read: Callable[[Path], Any],
    path: Path,
    original: Any,
    says: Callable[[Path], Any] | None = None,
    seconds: float = SECONDS,
    memory: float = MEMORY,
) -> tuple[str, str]:
    """The verdict on a reader of a damaged file, and why it is lost.

    Args:
        read: The reader.
        path: What it is handed.
        original: What it would give without damage; None where nothing but a refusal is right.
        says: What the file says now, where the format has no checksum.
        seconds: The time it has.
        memory: The bytes it may take.
    """
    verdict, why = REFUSED, ""
    try:
        with limits(seconds, memory) as peak:
            found = read(path)
    except REFUSALS as error:
        why = unclear(str(error), path)
        verdict, why = (LOST, f"{type(error).__name__} {why}: {error!s:.300}") if why else (verdict, "")
    except (Exception, TooLongError) as error:
        verdict, why = LOST, f"{type(error).__name__}: {error!s:.300}"
    else:
        verdict, why = _of_what_was_read(found, path, original, says)
    if peak[0] > memory:
        return LOST, f"took {peak[0] / 1e6:.0f} MB; {verdict} {why}"
    return verdict, why


def _of_what_was_read(found: Any, path: Path, original: Any, says: Callable | None) -> tuple[str, str]:
    if says is None:
        return (RIGHT, "") if original is not None and same(found, original) else (LOST, "wrong, and nothing was said")
    try:
        expected = says(path)
    except Exception as error:
        return LOST, f"read what is not there: {type(error).__name__}: {error}"
    if not same(found, expected):
        return LOST, "not what the file says, and nothing was said"
    return (RIGHT if same(found, original) else SAYS), ""


class Source(NamedTuple):
    """Files of one kind by name, what the reader is handed of their folder, the reader, and a reading of its own."""

    name: str
    files: dict[str, bytes]
    at: str
    read: Callable[[Path], Any]
    says: Callable[[Path], Any] | None = None
    more: Callable[[random.Random, bytes], bytes] | None = None

    def written(self, folder: Path) -> Path:
        """Write the files; what the reader is to be handed."""
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        return folder / self.at


def seen(dataset: Dataset) -> tuple[Any, ...]:
    """What one sees of a dataset: labels are the names of their classes."""
    y = [dataset.class_names[i] for i in dataset.y] if dataset.class_names else dataset.y
    return dataset.x, y, dataset.feature_names, dataset.target_names, dataset.scaled


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_says(folder: Path) -> tuple[Any, ...]:
    """Images and labels, by `struct` alone."""
    arrays = []
    for name, rank in ((IMAGES, 3), (LABELS, 1)):
        content = (folder / name).read_bytes()
        magic, *shape = struct.unpack_from(f">i{rank}i", content)
        values = struct.unpack_from(f"{np.prod(shape)}B", content, 4 + 4 * rank)
        assert (magic, len(content)) == (0x800 + rank, 4 + 4 * rank + len(values))
        arrays.append(np.array(values, np.uint8).reshape(shape))
    images, labels = arrays
    x = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return x, [str(label) for label in labels], (), ("class",), True


def read_npy(path: Path) -> np.ndarray:
    """All of a .npy file, numbers or text."""
    return open_npy(path, "biufSU")[:]


def npy_parts(content: bytes) -> tuple[bytes, dict[str, Any], bytes]:
    """Magic and version of a .npy file, its header and its data, by `struct` and `ast` alone."""
    size = {b"\x93NUMPY\1\0": "<H", b"\x93NUMPY\2\0": "<I"}[content[:8]]
    start = 8 + struct.calcsize(size)
    (length,) = struct.unpack_from(size, content, 8)
    return content[:8], ast.literal_eval(content[start : start + length].decode("latin1")), content[start + length :]


def npy_says(path: Path) -> np.ndarray:
    """The array of a file, whose size is its header's."""
    _, header, content = npy_parts(path.read_bytes())
    assert header.keys() == {"descr", "fortran_order", "shape"}
    assert header["fortran_order"] is False
    assert all(type(size) is int and size >= 0 for size in header["shape"]), "sizes of another kind"
    dtype = np.dtype(header["descr"])
    assert dtype.kind in "biufSU"
    return np.frombuffer(content, dtype).reshape(header["shape"])


def npy_garbled(chance: random.Random, content: bytes) -> bytes:
    """A .npy file with one value or name of its header replaced by one of any kind."""
    _, header, values = npy_parts(content)
    key = chance.choice(list(header))
    numbers = [None, True, -1, 0, 3, 1.5, 2**62, 10**30, 1j, b"x", ..., "-" * chance.choice([9, 3000, 9000]) + "1"]
    others = ["", "x", "|O", ">f4", "<f8", "<c8", "<U0", "<M8[s]", "f4,i4", [], (), {}, [()], ("<f4",), (("<f4", 2),)]
    value = chance.choice(numbers if chance.random() < 0.5 else others)
    if chance.random() < 0.2:
        header[str(value)] = header.pop(key)
    elif chance.random() < 0.3:
        header["shape"] = (*header["shape"][: chance.randrange(3)], value)
    else:
        header[key] = value
    text = ", ".join(
        f"{name!r}: {value if str(value).startswith('-') else repr(value)}" for name, value in header.items()
    )
    return npy_of(f"{{{text}}}", values)


def csv_says(path: Path) -> tuple[Any, ...]:
    """The cells of a table whose last column is text."""
    lines = [line for line in io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="") if line.strip()]
    rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True) if row]
    names = () if any(map(_is_number, rows[0])) else tuple(rows.pop(0))
    x = np.array([[float(cell) for cell in row[:-1]] for row in rows]).astype(np.float32)
    return x, [row[-1] for row in rows], names[:-1], names[-1:], False


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


def model_seen(model: Model) -> tuple[Any, ...]:
    tensors = {
        f"layers.{i}.{k}": np.asarray(v) for i, layer in enumerate(model.params) for k, v in layer._asdict().items()
    }
    for of, scale in (("features", model.features), ("targets", model.targets)):
        tensors |= {} if scale is None else {f"{of}.{k}": v for k, v in scale._asdict().items()}
    return describe(model.net), tensors, model.schema._asdict()


def model_says(path: Path) -> tuple[Any, ...]:
    """Tensors and metadata of a safetensors file, by `json` and `numpy` alone."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__")
    dtypes = {"F32": "<f4", "I32": "<i4", "U32": "<u4"}
    tensors = {
        name: np.frombuffer(content[start:][slice(*of["data_offsets"])], dtypes[of["dtype"]]).reshape(of["shape"])
        for name, of in header.items()
    }
    data = json.loads(metadata["data"])
    kinds = {"n_features": int, "n_targets": int, "scaled": bool}
    assert all(type(data[name]) is kinds.get(name, list) for name in data), "a field of another kind"
    assert all(type(name) is str for names in data.values() if type(names) is list for name in names), (
        "a name of another kind"
    )
    return json.loads(metadata["network"]), tensors, data


def garbled(chance: random.Random, content: bytes) -> bytes:
    """A safetensors file with one value of its header, or of the texts in that, replaced by one of any kind."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    inner = {name: json.loads(header["__metadata__"][name]) for name in ("network", "data")}
    node: Any = chance.choice([header, *inner.values()])
    while True:
        key = chance.choice(range(len(node)) if isinstance(node, list) else list(node))
        if not isinstance(node[key], dict | list) or not node[key] or chance.random() < 0.3:
            break
        node = node[key]
    node[key] = chance.choice([None, True, -1, 0, 3, 1.5, 2**31, 2**62, 1e300, float("nan"), "", "x", [], {}, [None]])
    if isinstance(header.get("__metadata__"), dict):
        header["__metadata__"] |= {
            name: json.dumps(value) for name, value in inner.items() if node is not header["__metadata__"]
        }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[start:]


def model_of(x: np.ndarray, y: np.ndarray) -> Model:
    """A network that has learned nothing."""
    data = Dataset("d", x, y.astype(np.int32), ("a", "b", "c"), tuple("pqrstu"), ("kind",))
    net = fn.MLP((6, 5, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy, l2=0.001, dropout=0.25)
    params = fn.init(jax.random.key(0), net, dtype="float32")
    return Model(net, params, schema(data), Standardisation(x.mean(0), x.std(0)), None)


def sources(folder: Path) -> list[Source]:
    """A small one of each kind."""
    chance = np.random.default_rng(0)
    stream = io.BytesIO()
    images, labels = chance.integers(0, 256, (40, 5, 4), np.uint8), np.arange(40).astype(np.uint8) % 10
    x, y = chance.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
    pair = {IMAGES: idx(images), LABELS: idx(labels)}
    archives = [io.BytesIO(), io.BytesIO()]
    np.save(stream, x)
    np.savez(archives[0], x=x, y=y)
    np.savez_compressed(archives[1], x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    rows = [
        f"{', '.join(f'{value:.3f}' for value in row[:4])},{['setosa', 'virginica', 'versicolor'][k]}"
        for row, k in zip(x, y, strict=True)
    ]
    text = "\n".join(["length,width,height,weight,species", *rows, ""]).encode()
    save_model(folder / "model", model_of(x, y))

    def parts(path: Path) -> dict[str, Any]:
        return {part: seen(dataset) for part, dataset in load(path).items()}

    def mnist(path: Path) -> Any:
        return seen(read_mnist(path)["train"])

    return [
        Source("gzipped IDX", {f"{name}.gz": gzip.compress(content) for name, content in pair.items()}, "", mnist),
        Source("plain IDX", pair, "", mnist, idx_says),
        Source(".npy", {"a.npy": stream.getvalue()}, "a.npy", read_npy, npy_says, npy_garbled),
        Source(".npz, stored", {"a.npz": archives[0].getvalue()}, "a.npz", parts),
        Source(".npz, deflated", {"a.npz": archives[1].getvalue()}, "a.npz", parts),
        Source(".csv", {"a.csv": text}, "a.csv", lambda path: parts(path)["train"], csv_says),
        Source(".csv.gz", {"a.csv.gz": gzip.compress(text)}, "a.csv.gz", parts),
        Source(
            "safetensors",
            {"model.safetensors": (folder / "model").read_bytes()},
            "model.safetensors",
            lambda path: model_seen(load_model(path)),
            model_says,
            garbled,
        ),
    ]


def damaged(chance: random.Random, content: bytes, more: Callable | None = None) -> bytes:
    """Bytes flipped, lost, put in or cut off; half of the damage lies near one of the ends, where headers are."""
    n, result = len(content), content
    while result == content:
        place = chance.randrange(n)
        if chance.random() < 0.5:
            place = chance.choice(
                [min(place, chance.randrange(128)), max(place, n - 1 - chance.randrange(min(n, 128)))]
            )
        size = chance.choice([1, 1, 2, 4, 16, 100])
        piece = content[place : place + size]
        noise = chance.choice(
            [chance.randbytes(size), b"\0" * size, bytes(chance.choices(b'0123456789,;"\n\r\t -.eE\xff', k=size))]
        )
        kind = chance.choice(["flip", "flip", "flip", "noise", "cut", "lose", "insert", "double", "more"])
        flipped = bytes([content[place] ^ 1 << chance.randrange(8)]) + piece[1:]
        put = {"flip": flipped, "noise": noise[: len(piece)], "lose": b"", "insert": noise + piece, "double": 2 * piece}
        if kind == "more" and more is not None:
            result = more(chance, content)
        elif kind == "cut":
            result = content[:place]
        else:
            result = content[:place] + put.get(kind, flipped) + content[place + size :]
    return result


def damage(source: Source, folder: Path, chance: random.Random, times: int) -> Tally:
    """A source with one of its files damaged, many times."""
    tally, path = Tally(f"damaged {source.name}"), source.written(folder)
    original = source.read(path)
    for _ in range(times):
        name = chance.choice(list(source.files))
        content = damaged(chance, source.files[name], source.more)
        (folder / name).write_bytes(content)
        verdict, why = judged(source.read, path, original, source.says)
        tally.add(verdict, f"{name}: {why} ({difference(source.files[name], content)})")
        (folder / name).write_bytes(source.files[name])
    return tally


def difference(before: bytes, after: bytes) -> str:
    """Where two contents part, and how."""
    pairs = enumerate(zip(before, after, strict=False))
    place = next((i for i, (old, new) in pairs if old != new), min(len(before), len(after)))
    return (
        f"at {place}: {before[place : place + 16]!r} became {after[place : place + 16]!r}, {len(before)}→{len(after)}"
    )


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; this does not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def unreadable(source: Source, folder: Path, tally: Tally) -> None:
    """Nothing, a folder, a pipe, an empty file or one that may not be read in the place of each file of a source."""

    def read(path: Path) -> Any:
        with as_nobody():
            return source.read(path)

    for name, content in source.files.items():
        path, file = source.written(folder), folder / name
        source.read(path)  # so that all is imported that nobody could not
        for way in ("empty", "not to be read", "missing", "a pipe", "a folder"):
            if way == "empty":
                file.write_bytes(b"")
            elif way == "not to be read":
                file.chmod(0)
            elif way == "a pipe":  # whose reading would wait for ever
                os.mkfifo(file)
            else:
                file.unlink()
                if way == "a folder":
                    file.mkdir()
            verdict, why = judged(read, path, None)
            tally.add(verdict, f"{source.name}, {name} {way}: {why}")
        file.rmdir()
        file.write_bytes(content)


def npy_of(header: str, content: bytes) -> bytes:
    """A .npy file of any header."""
    text = header.encode() + b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def npy(shape: Any, content: bytes = bytes(16), dtype: str = "<f4") -> bytes:
    """An array of .npy whose header says what it likes."""
    return npy_of(f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}", content)


def zipped(x: bytes, y: bytes, zeros: int = 0, claimed: int | None = None) -> bytes:
    """An archive of x, with zeros behind it, and y; its directory may claim another size for x."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            member.write(x)
            for _ in range(zeros >> 24):
                member.write(bytes(2**24))
        archive.writestr("y.npy", y)
        if claimed is not None:
            archive.getinfo("x.npy").file_size = claimed
    return stream.getvalue()


def liars() -> dict[str, tuple[str, bytes, Callable[[Path], Any]]]:
    """Files that declare more than they hold, or hold far more than they declare: name, content, reader."""
    most, huge, y = 2**31 - 1, {}, npy("(2,)", struct.pack("<2q", 0, 1), "<i8")
    for shape in ((most,), (most,) * 3, (most,) * 255, (1,) * 200, (-(2**31),)):
        header = struct.pack(f">BBBB{len(shape)}i", 0, 0, 8, len(shape), *shape)
        text = f"{shape[:4]}, rank {len(shape)}"
        huge |= {f"IDX of {text}": ("a", header + b"\1", read_idx)}
        huge |= {f"gzipped IDX of {text}": ("a.gz", gzip.compress(header + b"\1"), read_idx)}
    bomb = gzip.compress(idx(np.zeros(4, np.uint8))) + 64 * gzip.compress(bytes(2**24), 1)
    huge["gzipped IDX with 1 GB behind"] = ("a.gz", bomb, read_idx)
    line = gzip.compress(b"a,b\n") + 64 * gzip.compress(b"1" * 2**24, 1)
    huge[".csv.gz with a line of 1 GB"] = ("a.csv.gz", line, load)
    for shape in (
        "(2147483648,)",
        "(1099511627776, 4)",
        f"({2**62}, {2**62})",
        f"({10**30},)",
        "(-1, 2)",
        "(-2, -2)",
        "(4, True)",
    ):
        huge[f".npz of {shape}"] = ("a.npz", zipped(npy(shape), y), load)
        huge[f".npy of {shape}"] = ("a.npy", npy(shape), read_npy)
    for shape in ((0, 2**62), (2**62, 0), (0, 10**30), (10**30, 0)):
        huge[f".npy of {shape}"] = ("a.npy", npy(shape, b""), read_npy)
    huge[".npy of rank 200"] = ("a.npy", npy((1,) * 200, bytes(4)), read_npy)
    huge[".npy of 16 GB texts"] = ("a.npy", npy("(2, 2)", dtype="<U2000000000"), read_npy)
    huge[".npy of 2^50 empty texts"] = ("a.npy", npy(f"({2**50},)", b"", "<U0"), read_npy)
    huge[".npy with a header of 4 GB"] = ("a.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff" + npy("(4,)")[10:], read_npy)
    huge[".npy with a header of 60 kB"] = ("a.npy", npy("(4, " + " " * 60_000 + ")"), read_npy)
    huge[".npy that ends 8 GB early"] = ("a.npy", npy(f"({2**31},)", bytes(2**20)), read_npy)
    huge[".npz of 16 GB texts"] = ("a.npz", zipped(npy("(2, 2)", dtype="<U2000000000"), y), load)
    claimed = 2**31 * 4 + len(npy("(2147483648,)", b""))
    huge[".npz, its directory claims 8 GB"] = ("a.npz", zipped(npy("(2147483648,)"), y, claimed=claimed), load)
    huge[".npz with 1 GB behind"] = ("a.npz", zipped(npy("(2, 2)"), y, GIGABYTE), load)
    names = {"shape": [2**31, 2**31], "dtype": "F32", "data_offsets": [0, 2**62]}
    for text in (json.dumps({"layers.0.w": names}).encode(), b"{}"):
        for length in (len(text), 2**40, 2**63):
            content = length.to_bytes(8, "little") + text
            huge[f"safetensors of {length} bytes, {text[:20]!r}"] = ("a.safetensors", content, load_model)
    return huge


def lies(folder: Path) -> Tally:
    """Each must be refused, without room being made for what it claims."""
    tally = Tally("declared sizes and bombs")
    for name, (file, content, read) in liars().items():
        (folder / file).write_bytes(content)
        verdict, why = judged(read, folder / file, None)
        tally.add(verdict, f"{name}: {why}")
    return tally
