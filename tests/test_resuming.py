"""scripts/train.py that is killed, stopped, started twice, or shared by several processes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from cases import load_script
from safetensors.numpy import load_file

from funcnet.runs import processes

SCRIPT = Path(__file__).parent.parent / "scripts" / "train.py"
DATA = ["--data", "wine", "--hidden", "8", "--batch-size", "16", "--checkpoint-seconds", "1"]
LONG = [*DATA, "--epochs", "2000"]
SHORT = [*DATA, "--epochs", "300"]
FAST = [*DATA, "--epochs", "3"]
JOINING = """
import jax
from funcnet.runs.config import ProcessOptions
from funcnet.runs.processes import join

join(ProcessOptions(distributed=True), print)
print("process", jax.process_index(), "of", jax.process_count())
"""


@pytest.fixture(scope="module")
def train():
    return load_script("train")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nothing happens to."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    assert end(start(LONG, folder)) == (0, "")
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert end(start(SHORT, folder)) == (0, "")
    return folder


def start(options, folder, **more):
    command = [sys.executable, SCRIPT, *options, "--run-dir", folder]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)


def end(run):
    """Exit status, and what was said."""
    told = run.communicate(timeout=150)[1]
    return run.returncode, told


def go_on(options, folder):
    status, told = end(start([*options, "--resume"], folder))
    assert status == 0, told
    assert re.fullmatch(r"train\.py: going on after epoch .*\n", told)


def checkpoints(folder):
    return folder.with_name(f"{folder.name}.checkpoints")


def wait_for_checkpoint(run, folder, seconds=120):
    end = time.monotonic() + seconds
    while not list(checkpoints(folder).glob("*.sha256.json")):
        assert run.poll() is None, end(run)
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.05)


def assert_same_run(folder, expected):
    found, wanted = (load_file(each / "model.safetensors") for each in (folder, expected))
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    rows, others = ((each / "metrics.csv").read_text().splitlines() for each in (folder, expected))
    columns = [i for i, name in enumerate(rows[0].split(",")) if "seconds" not in name]
    assert len(rows) == len(others)
    for row, other in zip(rows, others, strict=True):
        assert [row.split(",")[i] for i in columns] == [other.split(",")[i] for i in columns]


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(unbroken, tmp_path):
    folder = tmp_path / "run"
    run = start(LONG, folder)
    wait_for_checkpoint(run, folder)
    run.kill()
    end(run)
    assert not folder.exists()
    go_on(LONG, folder)
    assert_same_run(folder, unbroken)
    assert not [entry for entry in checkpoints(folder).iterdir() if "tmp" in entry.name]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_checkpoint(unbroken, tmp_path, number):
    folder = tmp_path / "run"
    run = start(LONG, folder)
    wait_for_checkpoint(run, folder)
    run.send_signal(number)
    status, told = end(run)
    assert status == 128 + number
    assert "stopping after this epoch, with a checkpoint; once more stops at once" in told
    last = max(int(path.name.split(".")[0]) for path in checkpoints(folder).glob("*.sha256.json"))
    assert f"stopped after epoch {last}; with --resume the run goes on from there" in told
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.checkpoints"]
    if number == signal.SIGTERM:
        go_on(LONG, folder)
        assert_same_run(folder, unbroken)


@pytest.mark.slow
def test_two_runs_into_one_folder(tmp_path):
    folder = tmp_path / "run"
    first = start([*DATA, "--epochs", "100000"], folder)
    wait_for_checkpoint(first, folder)
    status, told = end(start(LONG, folder))
    assert status == 2
    assert f"run_dir {folder}: {checkpoints(folder)} is in use by another run, process {first.pid}" in told
    first.terminate()
    status, told = end(first)
    assert status == 128 + signal.SIGTERM
    assert "with --resume the run goes on from there" in told


@pytest.mark.slow
def test_checkpoints_are_neither_overwritten_nor_taken_for_others(train, standard_promotion, tmp_path, capsys):
    folder = tmp_path / "run"
    options = [*FAST, "--schedule", "constant", "--run-dir", str(folder)]
    assert train.main(options) == 0
    assert [path.name for path in sorted(checkpoints(folder).glob("*.json"))] == ["3.sha256.json"]
    (tmp_path / "kept").mkdir()
    for file in [*folder.iterdir()]:
        file.rename(tmp_path / "kept" / file.name)
    folder.rmdir()
    assert train.main(options) == 2
    assert f"{checkpoints(folder)} holds checkpoints of a run: add --resume" in capsys.readouterr().err
    assert train.main([*options, "--resume", "--hidden", "9"]) == 2
    assert "is of a run with another hidden: [8], not [9]" in capsys.readouterr().err
    assert train.main([*options, "--resume", "--data", "iris"]) == 2
    assert "is of a run with another data: 'wine', not 'iris'" in capsys.readouterr().err
    assert train.main([*options, "--resume", "--epochs", "5"]) == 0
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 5
    assert train.main([*options, "--overwrite", "--epochs", "2"]) == 0
    assert [path.name for path in sorted(checkpoints(folder).glob("*.json"))] == ["2.sha256.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume"], "resume needs run_dir, beside which checkpoints are kept"),
        (["--resume", "--run-dir", "run", "--sweep"], "resume is not for a sweep"),
        (["--resume", "--run-dir", "run", "--dp-noise", "1"], "resume is not for private training"),
        (["--checkpoint-seconds", "0"], "checkpoint_seconds must be"),
        (["--mesh", "rows=2"], "mesh must be such as data=4 or data=4,model=2; got 'rows=2'"),
        (["--mesh", "data=two"], "mesh must be such as data=4 or data=4,model=2; got 'data=two'"),
        (["--mesh", "data=512"], "mesh data=512,model=1 must have no more devices than there are"),
        (["--processes", "2"], "processes is for runs with distributed; got 2"),
        (["--mesh", "data=0"], "mesh must be such as data=4 or data=4,model=2; got 'data=0'"),
        (["--distributed", "--processes", "2", "--process", "2"], "process must be from 0 to 1; got 2"),
        (["--distributed", "--coordinator", "here"], "coordinator must be such as 10.0.0.1:4321, with a port"),
    ],
)
def test_options_that_do_not_go_together(train, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert train.main([*FAST, *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def shared(count, options, folder):
    """The processes of one run, on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = ["--distributed", "--coordinator", f"127.0.0.1:{free.getsockname()[1]}", "--processes", str(count)]
    return [start([*where, *options, "--process", str(i)], folder) for i in range(count)]


def assert_shared_as_alone(options, folder):
    """2 and 4 processes have the losses of one."""
    assert end(start(options, folder / "alone")) == (0, "")
    for count in (2, 4):
        for run in shared(count, options, folder / str(count)):
            status, told = end(run)
            assert status == 0, told
        np.testing.assert_allclose(losses(folder / str(count)), losses(folder / "alone"), rtol=2e-6)


def losses(folder):
    rows = np.genfromtxt(folder / "metrics.csv", delimiter=",", names=True)
    return np.stack([rows["train_loss"], rows["validation_loss"]])


@pytest.mark.slow
def test_several_processes_have_the_losses_of_one(tmp_path):
    assert_shared_as_alone([*DATA, "--epochs", "4"], tmp_path)


def test_processes_that_do_not_come_are_waited_for_aloud_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(processes, "START_SECONDS", 0.2)
    monkeypatch.setattr(processes, "SILENT_SECONDS", 0.02)
    told, found = [], {"coordinator": "10.0.0.1:4321", "processes": 3, "process": 0}
    with pytest.raises(processes.EndedError, match=r"within 0\.2 s not all 3 processes have come at 10\.0\.0\.1:4321"):
        processes._wait(Future(), found, told.append)
    assert told == ["waiting until all 3 processes have come at 10.0.0.1:4321, 0.2 s at most"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_others_can_be_stopped(tmp_path, number):
    run = shared(1, [*FAST, "--processes", "2"], tmp_path / "run")[0]
    assert "waiting until all 2 processes have come" in run.stderr.readline()
    run.send_signal(number)
    status, told = end(run)
    assert status == 128 + number
    assert told == ("" if number == signal.SIGTERM else "train.py: interrupted; nothing was kept\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_processes_with_other_options_do_not_wait_for_each_other(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = ["--distributed", "--coordinator", f"127.0.0.1:{free.getsockname()[1]}", "--processes", "2"]
    runs = [start([*FAST, *where, "--process", str(i), *["--seed", str(i)]], tmp_path / f"run{i}") for i in range(2)]
    for run in runs:
        status, told = end(run)
        assert status == 2
        assert "all processes must have the same options; they have others as seed, run_dir" in told
    assert list(tmp_path.iterdir()) == []


def told_by(cluster, port, process):
    """What a cluster has in the environment of each of two processes."""
    if cluster == "slurm":
        job = {"JOB_ID": port - (65535 - 2**12 + 1), "STEP_NODELIST": "127.0.0.1", "NTASKS": 2, "PROCID": process}
        return {f"SLURM_{name}": str(value) for name, value in {**job, "LOCALID": process}.items()}
    if cluster == "open mpi":
        uri = f"{(port - (65535 - 2**12 + 1)) * 2**12}.0;tcp://127.0.0.1:34911"
        world = {"SIZE": 2, "RANK": process, "LOCAL_RANK": process}
        return {"OMPI_MCA_orte_hnp_uri": uri} | {f"OMPI_COMM_WORLD_{name}": str(n) for name, n in world.items()}
    number = "JOB_COMPLETION_INDEX" if cluster == "kubernetes" else "JAX_PROCESS_ID"
    return {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", number: str(process)}


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "open mpi", "kubernetes", "jax"])
def test_clusters_tell_the_processes_of_each_other(cluster):
    """Their environment, as they would set it; no cluster is there to do so."""
    port, runs = int(np.random.default_rng().integers(62_000, 65_000)), []
    for process in range(2):
        settings = {"env": os.environ | told_by(cluster, port, process), "stderr": subprocess.PIPE}
        runs.append(subprocess.Popen([sys.executable, "-c", JOINING], **settings, stdout=subprocess.PIPE, text=True))
    for process, run in enumerate(runs):
        out, told = run.communicate(timeout=150)
        assert run.returncode == 0, told
        assert out.endswith(f"process {process} of 2\n")


@pytest.mark.slow
@pytest.mark.parametrize(("dying", "how"), [(0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_one_process_dying_ends_the_others_and_one_alone_goes_on(alone, tmp_path, dying, how):
    """Or hanging: one that is stopped says nothing either."""
    folder = tmp_path / "run"
    runs = shared(2, SHORT, folder)
    wait_for_checkpoint(runs[0], folder)
    runs[dying].send_signal(how)
    began = time.monotonic()
    status, told = end(runs[1 - dying])
    assert status != 0
    assert time.monotonic() - began < 30
    assert "another process of the run has ended" in told or (dying, how) != (1, signal.SIGKILL)  # or JAX's own words
    runs[dying].kill()
    end(runs[dying])
    go_on(SHORT, folder)
    np.testing.assert_allclose(losses(folder), losses(alone), rtol=1e-4)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all(tmp_path):
    folder = tmp_path / "run"
    runs = shared(2, LONG, folder)
    wait_for_checkpoint(runs[0], folder)
    runs[1].send_signal(signal.SIGTERM)
    (status, told), (other, _) = map(end, runs)
    assert status == other == 128 + signal.SIGTERM
    assert "with --resume the run goes on from there" in told
    assert os.listdir(tmp_path) == ["run.checkpoints"]
