"""What `faults.py` tries is survived, and its judge tells what would not be."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import fault_kinds as kinds
import faults
import numpy as np
import pytest
from fault_kinds import LOST, REFUSED, RIGHT, SAYS, judged

ORIGINAL = np.arange(6.0)


@pytest.mark.slow
def test_faults_are_survived():
    command = [sys.executable, Path(__file__).with_name("faults.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.stdout, done.stderr
    tallies = json.loads(done.stdout.splitlines()[-1])
    assert {tally["name"]: tally["lost"] for tally in tallies if tally["lost"]} == {}
    assert len(tallies) >= 18
    assert all(sum(tally["counts"].values()) for tally in tallies)
    assert done.returncode == 0


def refusing(kind, message):
    def read(path):
        raise kind(message.format(path))

    return read


def blown_up(path):
    np.empty(10_000_000)
    raise ValueError(f"{path} is too large")


@pytest.mark.parametrize(
    ("read", "verdict", "why"),
    [
        (lambda path: ORIGINAL.copy(), RIGHT, ""),
        (refusing(ValueError, "{} is damaged"), REFUSED, ""),
        (refusing(OSError, "[Errno 5] {}"), REFUSED, ""),
        (lambda path: ORIGINAL + 2**-50, LOST, "wrong, and nothing was said"),
        (lambda path: ORIGINAL.astype(np.float32), LOST, "wrong, and nothing was said"),
        (lambda path: ORIGINAL[None], LOST, "wrong, and nothing was said"),
        (refusing(ValueError, "it is damaged"), LOST, "ValueError does not name the file: it is damaged"),
        (refusing(ValueError, "{} is\ndamaged"), LOST, "ValueError not one line"),
        (refusing(KeyError, "{} is damaged"), LOST, "KeyError: "),
        (refusing(MemoryError, "{}"), LOST, "MemoryError: "),
        (lambda path: time.sleep(60), LOST, "TooLongError: still at it after 0.2 s"),
        (lambda path: all(True for _ in iter(int, 1)), LOST, "TooLongError: still at it after 0.2 s"),
        (blown_up, LOST, "took 80 MB; refused"),
    ],
)
def test_the_judge(tmp_path, read, verdict, why):
    found = judged(read, tmp_path / "file", ORIGINAL, seconds=0.2, memory=50e6)
    assert found[0] == verdict
    assert found[1].startswith(why)


@pytest.mark.parametrize(
    ("found", "says", "verdict"),
    [
        (ORIGINAL, lambda path: ORIGINAL, RIGHT),
        (ORIGINAL + 1, lambda path: ORIGINAL + 1, SAYS),
        (ORIGINAL, lambda path: ORIGINAL + 1, LOST),
        (ORIGINAL[:5], lambda path: ORIGINAL + 1, LOST),
        (ORIGINAL, refusing(ValueError, "no such file"), LOST),
    ],
)
def test_the_judge_of_formats_without_checksums(tmp_path, found, says, verdict):
    assert judged(lambda path: found, tmp_path / "file", ORIGINAL, says)[0] == verdict


def test_a_reader_that_believes_everything_is_found_out(tmp_path):
    """Each kind of file, read by a reader that always gives what was there before."""
    chance, tried = random.Random(0), 20
    for source in kinds.sources(tmp_path):
        original = source.read(source.written(tmp_path))
        believing = source._replace(read=lambda path, original=original: original)
        tally = kinds.damage(believing, tmp_path, chance, tried)
        assert tally.tried == tried
        assert bool(tally.lost) == (source.says is not None)
        answers = iter([original, *[None] * tried])
        wrong = source._replace(read=lambda path, answers=answers: next(answers))
        assert len(kinds.damage(wrong, tmp_path, chance, tried).lost) == tried


def test_another_result_is_another():
    state = {"leaf 0": ORIGINAL, "stopped": np.array("epochs")}
    assert kinds.same({**state}, state)
    assert not kinds.same({**state, "leaf 0": np.nextafter(ORIGINAL, 7)}, state)
    assert not kinds.same({**state, "more": ORIGINAL}, state)
    assert not kinds.same({**state, "leaf 0": -0.0 * ORIGINAL}, {**state, "leaf 0": 0.0 * ORIGINAL})


def test_damage_is_damage():
    chance, content = random.Random(0), bytes(range(256))
    found = {kinds.damaged(chance, content) for _ in range(200)}
    assert content not in found
    assert {len(each) < 256 for each in found} == {True, False}
    assert {each[128:] == content[128:] for each in found} == {True, False}


def test_what_a_full_disk_may_leave(tmp_path):
    said = f"train.py: {tmp_path}/run/config.json cannot be written: File too large\n"
    assert faults._of_a_full_disk(tmp_path, 2, said, 0) == ""
    assert "exit 0" in faults._of_a_full_disk(tmp_path, 0, said, 0)
    assert "exit 2" in faults._of_a_full_disk(tmp_path, 2, "train.py: [Errno 27] File too large", 0)
    (tmp_path / "run.checkpoints" / "3").mkdir(parents=True)
    assert "left behind" in faults._of_a_full_disk(tmp_path, 2, said, 0)


def test_a_kind_that_breaks_down_is_lost(monkeypatch, tmp_path):
    monkeypatch.setitem(faults.KINDS, "nan", refusing(RuntimeError, "no more"))
    (tally,) = faults.tried(["nan"], faults.Session(tmp_path, random.Random(0), False))
    assert tally.lost == ["RuntimeError: no more"]
