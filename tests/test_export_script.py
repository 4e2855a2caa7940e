"""scripts/export.py: what is written predicts what the run predicts, and nothing is left where it does not."""

import json
import sys

import numpy as np
import pytest
from cases import load_script

from funcnet.data import load, restore, standardise
from funcnet.interchange import network_of
from funcnet.runs import load_model, predict, read_run

FAST = ["--hidden", "8", "--epochs", "2"]
FORMATS = {"onnx": "onnxruntime", "stablehlo": None, "torch": "torch", "safetensors": None}


@pytest.fixture(scope="module")
def script():
    return load_script("export")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Runs on flowers with names, on numbers with scales, and on counts without any."""
    path = tmp_path_factory.mktemp("runs")
    train = load_script("train")
    import jax

    jax.config.update("jax_numpy_dtype_promotion", "standard")
    assert train.main(["--data", "iris", "--run-dir", str(path / "iris"), *FAST, "--dropout", "0.1"]) == 0
    assert train.main(["--data", "linnerud", "--run-dir", str(path / "linnerud"), *FAST]) == 0
    counts = ["--loss", "poisson", "--standardise", "False", "--run-dir", str(path / "counts")]
    random = np.random.default_rng(0)
    np.savez(path / "counts.npz", x=random.normal(size=(60, 3)).astype("float32"), y=random.integers(0, 9, 60))
    assert train.main(["--data", str(path / "counts.npz"), *counts, *FAST]) == 0
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    return path


def rows(name):
    return load(name)["train"].x


def by_onnx(path, model, x):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    assert network_of(json.loads(texts["network"])) == model.net
    assert tuple(json.loads(texts.get("class_names", "[]"))) == model.schema.class_names
    assert tuple(json.loads(texts.get("feature_names", "[]"))) == model.schema.feature_names
    return session.run(None, {"x": x})[0]


def by_stablehlo(path, model, x):
    import jax

    return np.asarray(jax.export.deserialize(path.read_bytes()).call(x))


def by_torch(path, model, x):
    """As a reader would who has PyTorch alone."""
    torch = pytest.importorskip("torch")
    from safetensors import safe_open
    from safetensors.torch import load_file

    nn = torch.nn
    dropout = [nn.Dropout()] if model.net.dropout else []
    module = nn.Sequential(nn.Linear(x.shape[1], 8), nn.ReLU(), *dropout, nn.Linear(8, model.net.widths[-1])).eval()
    module.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    assert texts["module"].startswith("Sequential(\n  (0): Linear(in_features=")
    assert tuple(json.loads(texts.get("class_names", "[]"))) == model.schema.class_names
    for of, scale in (("features", model.features), ("targets", model.targets)):
        assert (of in texts) == (scale is not None)
        if scale is not None:
            found = json.loads(texts[of])
            assert (found["mean"], found["scale"]) == (scale.mean.tolist(), scale.scale.tolist())
    with torch.no_grad():
        outputs = module(torch.from_numpy(x if model.features is None else standardise(model.features, x)))
    if model.classifies:
        return torch.softmax(outputs, 1).numpy()
    values = (torch.exp(outputs) if model.net.loss.name == "poisson" else outputs).numpy()
    return values if model.targets is None else restore(model.targets, values)


READERS = {
    "onnx": by_onnx,
    "stablehlo": by_stablehlo,
    "torch": by_torch,
    "safetensors": lambda path, model, x: predict(load_model(path), x).values,
}


@pytest.mark.parametrize("name", ["iris", "linnerud", "counts"])
@pytest.mark.parametrize("to", FORMATS)
def test_the_file_predicts_what_the_run_predicts(script, kept, tmp_path, capsys, to, name):
    if FORMATS[to]:
        pytest.importorskip(FORMATS[to], reason=f"{FORMATS[to]} is not installed")
    out = tmp_path / "model.file"
    assert script.main([str(kept / name), "--to", to, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[0].startswith(f"{out} ({out.stat().st_size:,} bytes): ")
    assert said[2].startswith("largest difference from funcnet on 256 random rows: ")
    assert float(said[2].split()[-1]) < 1e-3
    model = read_run(kept / name).model
    x = rows(kept / "counts.npz" if name == "counts" else name)
    got, expected = READERS[to](out, model, x), predict(model, x).values
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("iris", "stablehlo", "4 features, as they are in the data → probabilities: setosa, versicolor, virginica"),
        ("linnerud", "stablehlo", "3 features, as they are in the data → numbers: Weight, Waist, Pulse"),
        ("counts", "safetensors", "3 features, as they are in the data → numbers: 1 targets"),
    ],
)
def test_what_it_says(script, kept, tmp_path, capsys, name, to, message):
    assert script.main([str(kept / name), "--to", to, "--out", str(tmp_path / "file")]) == 0
    assert message in capsys.readouterr().out


def test_the_file_stands_beside_the_run_and_is_not_overwritten_in_silence(script, kept, capsys):
    arguments = [str(kept / "iris"), "--to", "stablehlo"]
    assert script.main(arguments) == 0
    out = kept / "iris.stablehlo"
    out.write_bytes(b"mine")
    capsys.readouterr()
    assert script.main(arguments) == 2
    assert capsys.readouterr().err == f"export.py: out {out} is there already; choose another name or add --overwrite\n"
    assert out.read_bytes() == b"mine"
    assert script.main([*arguments, "--overwrite"]) == 0
    assert len(out.read_bytes()) > 1000
    out.unlink()


def test_a_file_that_is_wrong_is_not_kept(script, kept, tmp_path, capsys, monkeypatch):
    def forgets_the_scale(net, params, path, *, features, targets):
        whole(net, params, path)

    whole = script.to_stablehlo
    monkeypatch.setattr(script, "to_stablehlo", forgets_the_scale)
    assert script.main([str(kept / "iris"), "--to", "stablehlo", "--out", str(tmp_path / "file")]) == 2
    said = capsys.readouterr()
    assert "the file was not kept: its values are up to" in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "--to", "stablehlo"], "no such run folder: nothing"),
        (["iris", "--to", "stablehlo", "--out", "no/such/file"], "no/such/file cannot be written: No such file"),
        (["iris", "--to", "safetensors", "--out", "iris/model.safetensors", "--overwrite"], "is the run's own"),
        (["iris", "--to", "stablehlo", "--out", "linnerud", "--overwrite"], "linnerud cannot be written"),
    ],
)
def test_what_does_not_fit(script, kept, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(kept)
    before = sorted(kept.rglob("*"))
    assert script.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert sorted(kept.rglob("*")) == before


def test_wrong_options(script, kept, capsys):
    for arguments in ([str(kept / "iris")], [str(kept / "iris"), "--to", "pickle"]):
        with pytest.raises(SystemExit) as stop:
            script.main(arguments)
        assert stop.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnx"), ("torch", "torch")])
def test_what_is_not_installed_is_named(script, kept, tmp_path, capsys, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)
    for name in [name for name in sys.modules if name.startswith(f"safetensors.{package}")]:
        monkeypatch.delitem(sys.modules, name)
    assert script.main([str(kept / "iris"), "--to", to, "--out", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert package in error
    assert error.endswith(f"; --to {to} needs it\n")
    assert list(tmp_path.iterdir()) == []
