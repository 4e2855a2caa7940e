"""scripts/train.py on a folder of .npy files, whose training part is read while it is trained on."""

import json
import signal

import numpy as np
import pytest
from cases import load_script
from test_resuming import assert_same_run, assert_shared_as_alone, checkpoints, end, go_on, start, wait_for_checkpoint

from funcnet.runs import Config, set_up
from funcnet.runs.config import DataOptions, TrainingOptions

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(3, 4))
FAST = ["--epochs", "3", "--hidden", "8", "--batch-size", "32", "--part-size", "200"]
WELL = [*FAST, "--epochs", "40", "--dropout", "0", "--learning-rate", "0.05"]


def write(folder, n=700, parts=("train", "validation", "test"), pixels=False, numbers=False):
    folder.mkdir()
    for part in parts:
        count = n if part == "train" else 100
        y = RANDOM.integers(0, 3, count)
        x = CENTRES[y] + RANDOM.normal(0, 0.3, (count, 4))
        x = np.clip(100 + 30 * x, 0, 255).astype(np.uint8) if pixels else (5 + 2 * x).astype(np.float32)
        np.save(folder / f"x_{part}.npy", x.reshape(count, 2, 2))
        np.save(folder / f"y_{part}.npy", 10.0 * x[:, :2] + 0.5 if numbers else np.array(["a", "b", "c"])[y])
    return folder


@pytest.fixture(scope="module")
def train():
    return load_script("train")


@pytest.fixture(scope="module")
def predict():
    return load_script("predict")


@pytest.mark.parametrize("kind", [pytest.param("labels", marks=pytest.mark.slow), "pixels", "numbers"])
def test_a_folder_is_trained_on_kept_and_predicted(
    train, predict, standard_promotion, tmp_path, capsys, monkeypatch, kind
):
    monkeypatch.setattr("funcnet.runs.model.MEASURED_ROWS", 150)
    data, run = write(tmp_path / "data", **({} if kind == "labels" else {kind: True})), tmp_path / "run"
    assert train.main(["--data", str(data), *WELL, "--run-dir", str(run)]) == 0
    out = capsys.readouterr().out
    metric = "R²" if kind == "numbers" else "accuracy"
    for part, count in (("train", 700), ("validation", 100), ("test", 100)):
        assert f"{part} {metric} ({count} examples)" in out
    summary = json.loads((run / "summary.json").read_text())
    name = "r2" if kind == "numbers" else "accuracy"
    assert min(summary[part][name] for part in ("train", "validation", "test")) > 0.95
    assert summary["examples"] == {"train": 700, "validation": 100, "test": 100}
    assert "700 examples" in (run / "report.html").read_text(encoding="utf-8")
    assert predict.main([str(run)]) == 0
    told = capsys.readouterr().err
    assert f"{summary['test'][name]:.4f}" in told or f"{summary['test'][name]:.2%}" in told


def test_a_folder_without_other_parts(train, standard_promotion, tmp_path, capsys):
    data, run = write(tmp_path / "data", parts=("train",)), tmp_path / "run"
    assert train.main(["--data", str(data), *FAST, "--run-dir", str(run)]) == 0
    assert "validation" not in capsys.readouterr().out
    assert (run / "report.html").exists()


def test_what_is_measured_is_all_of_it_and_the_report_sees_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("funcnet.data.npy_folder.SAMPLE", 300)
    data = write(tmp_path / "data", parts=("train",))
    config = Config(source=DataOptions(data=str(data)), training=TrainingOptions(part_size=100))
    setup = set_up(config)
    x, y = np.load(data / "x_train.npy").reshape(700, 4), np.load(data / "y_train.npy")
    assert setup.counts == {"train": 700}
    assert len(setup.parts["train"].x) == 300
    np.testing.assert_array_equal(setup.streamed.x[:], x)
    np.testing.assert_array_equal(np.array(["a", "b", "c"])[setup.streamed.y], y)
    np.testing.assert_allclose(setup.features.mean, x.astype(float).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(setup.features.scale, x.astype(float).std(axis=0), rtol=1e-12)
    stream = setup.data()
    np.testing.assert_allclose(stream.x[:], (x - x.mean(axis=0)) / x.std(axis=0), rtol=1e-4, atol=1e-5)
    assert stream.part_size == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimizer", "lbfgs"], "optimizer lbfgs is not for a folder of .npy files, which is read part by part"),
        (["--dp-noise", "1"], "dp_noise 1.0 is not for a folder of .npy files"),
        (["--sweep", "seed=0,1"], "sweep ('seed=0,1',) is not for a folder of .npy files"),
        (["--target", "y"], "target y is not for a folder of .npy files"),
        (
            ["--test-share", "0.1"],
            "test_share 0.1 is not for a folder of .npy files, which is read part by part; its parts",
        ),
        (["--part-size", "0"], "part_size must be at least 1; got 0"),
    ],
)
def test_options_that_do_not_go_with_a_folder(train, tmp_path, capsys, options, message):
    data = write(tmp_path / "data", n=100)
    assert train.main(["--data", str(data), "--plot", str(tmp_path / "p.png"), *options]) == 2
    assert message in capsys.readouterr().err


def test_a_part_size_is_for_folders(train, tmp_path, capsys):
    assert train.main(["--data", "iris", "--part-size", "10", "--plot", str(tmp_path / "p.png")]) == 2
    assert "part_size is for a folder of .npy files; got 10" in capsys.readouterr().err


def test_changed_data_is_not_gone_on_with(train, standard_promotion, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("funcnet.training.digests.AT_ONCE", 100)
    data, run = write(tmp_path / "data"), tmp_path / "run"
    options = ["--data", str(data), *FAST, "--schedule", "constant", "--run-dir", str(run)]
    assert train.main(options) == 0
    assert train.main([*options, "--resume", "--overwrite", "--epochs", "4"]) == 0
    assert train.main([*options, "--resume", "--overwrite", "--epochs", "4", "--part-size", "100"]) == 2
    assert "is of a run with another part_size: 200, not 100" in capsys.readouterr().err
    x = np.load(data / "x_train.npy")
    x[613, 1, 1] += 1
    np.save(data / "x_train.npy", x)
    assert train.main([*options, "--resume", "--overwrite", "--epochs", "5"]) == 2
    assert "is of a run on other train data; go on with the same" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_stream_as_one(tmp_path):
    assert_shared_as_alone(["--data", str(write(tmp_path / "data")), *FAST], tmp_path)


@pytest.mark.slow
def test_a_run_goes_on_within_an_epoch(tmp_path):
    data = write(tmp_path / "data", n=400_000)
    options = ["--data", str(data), *FAST, "--part-size", "20000", "--checkpoint-seconds", "0.2"]
    assert end(start(options, tmp_path / "unbroken")) == (0, "")
    for how in (signal.SIGKILL, signal.SIGTERM):
        folder = tmp_path / how.name
        run = start(options, folder)
        wait_for_checkpoint(run, folder)
        run.send_signal(how)
        status, told = end(run)
        assert status == (-how if how == signal.SIGKILL else 128 + how)
        last = max(int(path.name.split(".")[0]) for path in checkpoints(folder).glob("*.sha256.json"))
        if how == signal.SIGTERM:
            epoch, part = divmod(last, 20)
            where = f"epoch {epoch}, part {part} of the next;" if part else f"epoch {epoch};"
            assert f"stopped after {where} with --resume the run goes on from there" in told
        go_on(options, folder)
        assert_same_run(folder, tmp_path / "unbroken")
