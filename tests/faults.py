"""Faults that runs and readers must survive, tried at random: kills, full disks, damaged files, NaN, two at once.

`python tests/faults.py [--long] [--seed N] [--only NAME …]` prints what was tried and exits 1 if anything was lost.
Survived is what was refused in one clear line that names the file, was read exactly right, or went on bit for bit.
"""

import argparse
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fault_kinds as kinds
import jax
import jax.numpy as jnp
import numpy as np
import optax
from fault_kinds import REFUSED, SAYS, Tally, same
from rich.console import Console
from rich.table import Table

import funcnet as fn
from funcnet.interchange import load, save
from funcnet.training import prepare, run
from funcnet.training.checkpoints import DIGEST, Checkpoints, positions, read
from funcnet.training.digests import digest
from funcnet.training.progress import Progress, begin

TRAIN = Path(__file__).parent.parent / "scripts" / "train.py"
NET = fn.MLP((6, 8, 3), activation=fn.tanh, loss=fn.softmax_cross_entropy, dropout=0.2, l2=1e-3)
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(70, 6)).astype(np.float32), RANDOM.integers(0, 3, 70)
IDENTITY = {"network": "6-8-3", "data": digest(X, Y)}
OTHERS = [b"", b"[]", b"3", b"null", b"{}", b'{"a": 1}']
BATCH, EPOCHS, KILLS = 16, 40, 6
"""A run is killed so often at most, so that something is left to be done."""
STEPS = -(-len(X) // BATCH)
IRIS = ("--data", "iris", "--epochs", "2", "--run-dir")
START = "import os, resource, sys; n = int(sys.argv[1]); hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
START += "resource.setrlimit(resource.RLIMIT_FSIZE, (n if n >= 0 else hard, hard)); os.execv(sys.argv[2], sys.argv[2:])"


class Session(NamedTuple):
    """Where to write, what chance gives, and whether there is time."""

    folder: Path
    chance: random.Random
    long: bool

    def new(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))

    def times(self, short: int, long: int) -> range:
        return range(long if self.long else short)


def started(*words: Any, at_most: int = -1, keep: Path | None = None, learn: bool = True) -> subprocess.Popen:
    """A Python program on one processor kind, whose files have at most so many bytes; `keep` has what was compiled."""
    settings = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(TRAIN.parent.parent), *sys.path])}
    if keep is not None:
        seconds = "0" if learn else "1e9"
        settings |= {"JAX_COMPILATION_CACHE_DIR": str(keep), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": seconds}
        settings["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    command = [sys.executable, "-c", START, str(at_most), sys.executable, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=os.environ | settings, text=True, **pipes)


def prepared_run(optimizer: optax.GradientTransformation | None = None, **options: Any) -> Any:
    return prepare(jax.random.key(0), NET, optimizer or optax.sgd(0.3, 0.9), (X, Y), batch_size=BATCH, **options)


@functools.cache
def validated() -> Any:
    return prepared_run(validation=(X[:20], Y[:20]))


def left(result: fn.training.Result) -> dict[str, Any]:
    """All that a run leaves but the time it took."""
    leaves = jax.tree.leaves(result.state._replace(key=jax.random.key_data(result.state.key)))
    history = {name: result.history[name] for name in result.history if "seconds" not in name}
    numbers = {f"leaf {i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    return {**numbers, **history, "epoch": np.array(result.epoch), "stopped": np.array(result.stopped)}


def train_worker(folder: Path) -> None:
    """A run that goes on from what is in the folder, to be killed; it tells when it starts to train."""
    prepared = validated()
    importlib.import_module("orbax.checkpoint")
    print(time.time(), flush=True)
    result = run(prepared, EPOCHS, checkpoints=Checkpoints(folder / "run", IDENTITY, 0.0, tell=noting([])), resume=True)
    np.savez(folder / "result.npz", **left(result))


def result_of(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "result.npz") as archive:
        return dict(archive)


def unfinished(folder: Path) -> list[str]:
    """What is in a folder of checkpoints that is no whole checkpoint."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    whole = {name for name in names if name.isdecimal() and name + DIGEST in names and not differing(folder / name)}
    return sorted(names - whole - {name + DIGEST for name in whole} - {"in-use"})


def differing(path: Path) -> bool:
    """Whether a checkpoint is not what its digest says."""
    files = (file for file in path.rglob("*") if file.is_file())
    found = {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    try:
        return found != json.loads(path.with_name(path.name + DIGEST).read_text())
    except ValueError:
        return True


def killed(session: Session) -> Iterator[Tally]:
    """Kill a run again and again and let it go on: at its end it is what it would be had it never been killed."""
    tally, keep, whole, began = Tally("killed, then gone on"), session.new(), session.new(), time.time()
    out, _ = started(__file__, "--worker", "train", whole, keep=keep).communicate(timeout=300)
    start, pace = float(out) - began, (time.time() - float(out)) / EPOCHS
    expected, folder, kills, writing, at = result_of(whole), session.new(), 0, 0, []
    wanted = len(session.times(4, 50))
    while len(at) < wanted or kills:
        checkpoints = folder / "run"
        before, to_go, alive = state_of(checkpoints), EPOCHS - newest(checkpoints), 300.0
        process = started(__file__, "--worker", "train", folder, keep=keep, learn=False)
        if len(at) < wanted and kills < KILLS and to_go > 2:
            trains = session.chance.random() < 0.8 and bool(process.stdout and process.stdout.readline())
            alive = session.chance.uniform(0, 1 + 0.7 * pace * to_go if trains else start)
        try:
            _, errors = process.communicate(timeout=alive)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills, writing = kills + 1, writing + (state_of(checkpoints) != before and bool(unfinished(checkpoints)))
            at.append(newest(checkpoints))
            continue
        wrong = "" if process.returncode == 0 else f"ended with {process.returncode}: {errors.strip()[-300:]}"
        wrong = wrong or ("" if same(result_of(folder), expected) else "another result than the unbroken run's")
        for _ in range(kills or bool(wrong)):
            tally.check(wrong)
        folder, kills = session.new(), 0
    tally.note = (
        f"{len(at)} kills, {writing} in writing a checkpoint, after epochs {', '.join(map(str, at))} of {EPOCHS}"
    )
    yield tally


def newest(folder: Path) -> int:
    """The epoch of the newest checkpoint, whole or not."""
    return max(positions(folder), default=0)


def state_of(folder: Path) -> dict[str, int]:
    """What is in a folder, and since when."""
    return {entry.name: entry.stat().st_mtime_ns for entry in folder.iterdir()} if folder.is_dir() else {}


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noting(told: list[str]) -> Callable[[str], None]:
    """What adds to the messages that a run tells, but for where it goes on."""
    return lambda text: None if text.startswith("going on after") else told.append(text)


def disk_worker(folder: Path, *sizes: str) -> None:
    """Checkpoints and models on a disk that is full after so many bytes; prints what is wrong, a line for each."""
    prepared, whole = validated(), folder / "whole"
    kept = Checkpoints(whole, IDENTITY, 0.0)
    run(prepared, 2, checkpoints=kept)
    expected = left(run(prepared, 4))
    save(folder / "model", NET, prepared.state.params)
    for size in map(int, sizes):
        here = folder / str(size)
        shutil.copytree(whole, here)
        told: list[str] = []
        kept = Checkpoints(here, IDENTITY, 0.0, tell=noting(told))
        with full_disk(size):
            run(prepared, 4, checkpoints=kept, resume=True)
        unclear = [text for text in told if kinds.unclear(text, here) or "cannot be written" not in text]
        earlier = read(kept, begin(prepared.state))
        checks = {
            "unclear": unclear,
            "left": unfinished(here),
            "lost": earlier is None or earlier.epoch < 4 - len(told),
        }
        again = run(prepared, 4, checkpoints=kept, resume=True)
        checks["other"] = not same(left(again), expected)
        print(json.dumps({"of": f"checkpoints, {size} bytes", "wrong": {k: str(v) for k, v in checks.items() if v}}))
        print(
            json.dumps({"of": f"model, {size} bytes", "wrong": _saving(folder / "model", size, prepared.state.params)})
        )


def _saving(path: Path, size: int, params: fn.Params) -> dict[str, str]:
    """What is wrong with a model that is saved on a disk that is full."""
    before, names = path.read_bytes(), sorted(path.parent.iterdir())
    try:
        with full_disk(size):
            save(path, NET, jax.tree.map(lambda leaf: leaf + 1, params))
    except OSError as error:
        checks = {"unclear": kinds.unclear(str(error), path), "changed": path.read_bytes() != before}
    else:
        checks = {"unread": not jnp.allclose(load(path).params[0].w, params[0].w + 1)}
        path.write_bytes(before)
    checks["left"] = sorted(path.parent.iterdir()) != names
    return {name: str(value) for name, value in checks.items() if value}


def disk_full(session: Session) -> Iterator[Tally]:
    """A disk that is full after so many bytes of a file, at several sizes."""
    checkpoints, models = Tally("disk full: a checkpoint"), Tally("disk full: a model saved")
    sizes = sorted({0, 100, *(int(10 ** session.chance.uniform(1, 4)) for _ in session.times(4, 20))})
    worker = started(__file__, "--worker", "disk", session.new(), *sizes)
    out, errors = worker.communicate(timeout=600)
    for line in map(json.loads, out.splitlines()):
        (models if line["of"].startswith("model") else checkpoints).check(
            f"{line['of']}: {line['wrong']}" * bool(line["wrong"])
        )
    if worker.returncode or checkpoints.counts.total() < len(sizes):
        checkpoints.check(f"the worker ended with {worker.returncode}: {errors[-500:]}")
    yield checkpoints
    yield models
    scripts, noisy = Tally("disk full: train.py"), 0
    sizes = [0, 500, 1500, 20_000, 50_000] if session.long else [0, session.chance.choice([500, 1500, 20_000])]
    for size in sizes:
        folder = session.new()
        process = started(TRAIN, *IRIS, folder / "run", at_most=size, keep=session.folder / "compiled", learn=False)
        _, errors = process.communicate(timeout=300)
        noisy += "Traceback" in errors
        scripts.check(_of_a_full_disk(folder, process.returncode, errors, size))
    scripts.note = f"{noisy} with tracebacks of Orbax's threads before the clear line" if noisy else ""
    yield scripts


def _of_a_full_disk(folder: Path, status: int, errors: str, size: int) -> str:
    """What is wrong with how train.py ended."""
    last = (errors.strip().splitlines() or [""])[-1]
    there = sorted(entry.name for entry in folder.iterdir())
    checkpoints = folder / "run.checkpoints"
    if there not in ([], ["run.checkpoints"]) or (there and not positions(checkpoints)) or unfinished(checkpoints):
        return f"{size} bytes: left behind {there}, {unfinished(checkpoints)}"
    if status != 2 or not last.startswith("train.py: ") or str(folder) not in last or "None" in last:
        return f"{size} bytes: exit {status}, {last[:300]!r}"
    return ""


def unreadable(session: Session) -> Iterator[Tally]:
    """Nothing, folders, empty files and files that may not be read."""
    tally = Tally("files that cannot be read")
    for source in kinds.sources(session.new()):
        folder = session.new()
        folder.chmod(0o755)
        kinds.unreadable(source, folder, tally)
    yield tally


def no_folder(session: Session) -> Iterator[Tally]:
    """A --run-dir that cannot be written is refused in one line, before training."""
    tally, folder = Tally("impossible --run-dir"), session.new()
    (folder / "file").write_text("mine")
    (folder / "mine").mkdir()
    (folder / "mine" / "file").write_text("mine")
    (folder / "taken.checkpoints").write_text("mine")
    (folder / "locked.checkpoints" / "in-use").mkdir(parents=True)
    paths = [
        folder / name for name in ("file", "file/run", "file/a/b", "mine", "taken", "locked", "r" * 240, "r" * 300)
    ]
    paths += [path / "run" for path in map(Path, ("/proc", "/sys", "/dev/null")) if path.exists()]
    before = sorted(folder.rglob("*"))
    for path in paths:
        status, out, errors = _called(*IRIS, path)
        wrong = kinds.unclear(errors.strip(), path) if status == 2 else f"exit {status}"
        wrong = wrong or (
            "was at work before" if out else "left something" if sorted(folder.rglob("*")) != before else ""
        )
        tally.check(f"{path}: {wrong}: {errors.strip()[-300:]}" if wrong else "")
    yield tally


def _called(*words: Any) -> tuple[int, str, str]:
    """Status, output and errors of train.py, in this process."""
    spec = importlib.util.spec_from_file_location("train_script", TRAIN)
    module = sys.modules["train_script"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        status = module.main([*map(str, words)])
    return status, out.getvalue(), errors.getvalue()


def damaged(session: Session) -> Iterator[Tally]:
    """Files of every kind with bytes flipped, lost, put in or cut off."""
    for source in kinds.sources(session.new()):
        yield kinds.damage(source, session.new(), session.chance, len(session.times(43, 720)))
    yield damaged_checkpoints(session)


def plain(progress: Progress) -> tuple[Any, ...]:
    """What can be compared of a run's progress."""
    states = [state._replace(key=jax.random.key_data(state.key)) for state in (progress.state, progress.best)]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(states)], progress[2:]


def damaged_checkpoints(session: Session) -> Tally:
    """One file of the newest checkpoint damaged: it is passed over in words for the one before, or is as it was."""
    tally, whole, prepared = Tally("damaged checkpoint"), session.new(), validated()
    start, here = begin(prepared.state), session.new() / "checkpoints"

    def look(path: Path) -> tuple[Any, ...]:
        told: list[str] = []
        progress = read(Checkpoints(path, IDENTITY, tell=noting(told)), start)
        unclear = [text for text in told if "is passed over" not in text or kinds.unclear(text, path)]
        if unclear or progress is None:
            raise RuntimeError(f"told {told}")
        return plain(progress), len(told)

    kept = Checkpoints(whole, IDENTITY, 0.0, tell=noting([]))
    run(prepared, 2, checkpoints=kept)
    before = look(whole)[0], 1
    run(prepared, 3, checkpoints=kept, resume=True)
    original = look(whole)
    for _ in session.times(12, 100):
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(whole, here)
        files = sorted(file for file in here.glob("3/**/*") if file.is_file())
        file = session.chance.choice([here / f"3{DIGEST}", *files])
        content = kinds.damaged(session.chance, file.read_bytes(), lambda chance, _: chance.choice(OTHERS))
        file.write_bytes(content)
        verdict, why = kinds.judged(look, here, original, lambda path: before if differing(path / "3") else original)
        tally.add(REFUSED if verdict == SAYS else verdict, f"{file.relative_to(here)}: {why}; now {content[:30]!r}")
    return tally


class Poison(NamedTuple):
    """How many updates there were, after which one comes NaN, and in which layer; 0 for never."""

    count: jax.Array
    at: jax.Array
    layer: jax.Array


def poisoned() -> optax.GradientTransformation:
    """Updates as they are but for one, whose layer is NaN."""

    def update(updates: Any, state: Poison, params: Any = None) -> tuple[Any, Poison]:
        count = state.count + 1

        def spoilt(number: int, leaf: jax.Array) -> jax.Array:
            return jnp.where((count == state.at) & (state.layer == number), jnp.full_like(leaf, jnp.nan), leaf)

        layers = [jax.tree.map(lambda leaf, i=i: spoilt(i, leaf), layer) for i, layer in enumerate(updates, 1)]
        return tuple(layers), state._replace(count=count)

    return optax.GradientTransformation(lambda _: Poison(*(jnp.zeros((), jnp.int32) for _ in Poison._fields)), update)


def nan(session: Session) -> Iterator[Tally]:
    """An update that is NaN at a random step: the run stops, says where, and keeps the best finite parameters."""
    tally = Tally("NaN at a random step")
    prepared = prepared_run(optax.chain(optax.sgd(0.3, 0.9), poisoned()))
    n_epochs = 6
    losses = run(prepared, n_epochs).history["train_loss"]
    for _ in session.times(4, 20):
        at, layer = session.chance.randint(1, n_epochs * STEPS), session.chance.randint(1, NET.n_layers)
        epoch, step = (at - 1) // STEPS + 1, min((at - 1) % STEPS + 2, STEPS)
        kept = int(np.argmin([np.inf, *losses[: epoch - 1]])) if epoch > 1 else 0
        *others, poison = prepared.state.opt_state
        poison = poison._replace(at=jnp.int32(at), layer=jnp.int32(layer))
        state = prepared.state._replace(opt_state=(*others, poison))
        result = run(prepared._replace(state=state), n_epochs)
        expected = run(prepared, kept).state.params if kept else prepared.state.params
        found = (result.stopped, result.epoch, result.failure and result.failure[:3])
        wrong = "" if found == ("non-finite", kept, (epoch, step, layer)) else f"said {found}, {result.failure}"
        if not same(
            [np.asarray(p) for p in jax.tree.leaves(result.state.params)],
            list(map(np.asarray, jax.tree.leaves(expected))),
        ):
            wrong += "; other parameters than those of the best epoch"
        tally.check(f"update {at} (epoch {epoch}), layer {layer}: {wrong}" if wrong else "")
    yield tally


def changed_data(session: Session) -> Iterator[Tally]:
    """One number of the data changed by the least step: a checkpoint of the data before is refused."""
    tally, prepared = Tally("data changed before going on"), validated()
    kept = Checkpoints(session.new(), IDENTITY, 0.0, tell=noting([]))
    run(prepared, 1, checkpoints=kept)
    for number in session.times(10, 50):
        x, y = X.copy(), Y.copy()
        spot = session.chance.randrange(len(X))
        if number % 3 == 0:
            y[spot] = (y[spot] + 1) % 3
        elif number % 3 == 1:
            x[spot] = np.nextafter(x[spot], np.float32(np.inf))
        same_data = digest(x, y) if number % 3 == 2 else ""
        other = kept._replace(identity={**IDENTITY, "data": same_data or digest(x, y)})
        try:
            run(prepared, 1, checkpoints=other, resume=True)
            tally.check("" if same_data else f"gone on with other data, row {spot}")
        except ValueError as error:
            wrong = kinds.unclear(str(error), kept.folder / "1") or "another data" not in str(error) or same_data
            tally.check(f"{error}" if wrong else "")
    yield tally


def two_at_once(session: Session) -> Iterator[Tally]:
    """Two runs into one folder: one does its work, the other is refused in a line that names the folder."""
    tally, keep = Tally("two runs into one folder"), session.folder / "compiled"
    for _ in session.times(1, 5):
        folder = session.new() / "run"
        both = [started(TRAIN, *IRIS, folder, keep=keep) for _ in range(2)]
        ends = [(process.communicate(timeout=300)[1], process.returncode) for process in both]
        (said, status), (_, first) = sorted(ends, key=lambda end: -end[1])
        wrong = f"exits {first} and {status}" if (first, status) != (0, 2) else kinds.unclear(said.strip(), folder)
        there = sorted(entry.name for entry in folder.parent.iterdir())
        if there != ["run", "run.checkpoints"] or not (folder / "model.safetensors").is_file():
            wrong += f"; there are {there}"
        tally.check(f"{wrong}: {said.strip()[-300:]}" if wrong else "")
    yield tally


KINDS: dict[str, Callable[[Session], Iterator[Tally]]] = {
    "killed": killed,
    "two": two_at_once,
    "disk": disk_full,
    "unreadable": unreadable,
    "folder": no_folder,
    "damaged": damaged,
    "sizes": lambda session: iter([kinds.lies(session.new())]),
    "nan": nan,
    "data": changed_data,
}
WORKERS = {"train": train_worker, "disk": disk_worker}


def table(tallies: list[Tally]) -> Table:
    """What was tried and what came of it."""
    shown = Table("fault", title="Faults")
    for column in ("tried", "survived", "lost", SAYS):
        shown.add_column(column, justify="right")
    for tally in tallies:
        numbers = (tally.tried, tally.tried - len(tally.lost), len(tally.lost), tally.counts[SAYS])
        shown.add_row(tally.name, *map(str, numbers))
    return shown


def tried(names: list[str], session: Session) -> Iterator[Tally]:
    """Each kind in turn; an error of a kind itself is a loss too."""
    for name in names:
        began = time.monotonic()
        try:
            yield from KINDS[name](session)
        except Exception as error:  # whatever a kind of fault brings about is counted, and the others are still tried
            tally = Tally(name)
            tally.check(f"{type(error).__name__}: {error}")
            yield tally
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def main() -> int:
    """Try the faults; of two processes one kills runs, which takes longest, and the other does the rest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="many more of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="these kinds alone")
    parser.add_argument("--json", action="store_true", help="print tallies as JSON, and no table")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, folder, *words = options.worker
        WORKERS[name](Path(folder), *words)
        return 0
    beside = ["killed"] if "killed" in options.only and len(options.only) > 1 else []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        Path(folder).chmod(0o755)
        words = ["--long"] * options.long + ["--seed", options.seed, "--json", "--only", *beside]
        other = started(__file__, *words) if beside else None
        session = Session(Path(folder), random.Random(options.seed), options.long)
        tallies = list(tried([name for name in options.only if name not in beside], session))
    if other is not None:
        out, errors = other.communicate()
        print(errors, end="", file=sys.stderr)
        tallies = [Tally.of(each) for each in json.loads(out.splitlines()[-1])] + tallies
    if options.json:
        print(json.dumps([vars(tally) for tally in tallies]))
    else:
        report(tallies)
    return int(any(tally.lost for tally in tallies))


def report(tallies: list[Tally]) -> None:
    """The table, what there is to note, and all that was lost."""
    console = Console()
    console.print(table(tallies))
    for tally in tallies:
        if tally.note:
            console.print(f"{tally.name}: {tally.note}", markup=False, highlight=False)
        for why in tally.lost:
            console.print(f"LOST {tally.name}: {why}", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
