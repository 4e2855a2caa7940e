"""Networks as programs: ONNX and StableHLO predict what funcnet predicts, without funcnet."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ACTIVATIONS, LOSSES, WIDE, X64, assert_close, case, name_of, some
from sklearn.base import clone
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler

import funcnet as fn
from funcnet.data.standardisation import Standardisation, standardise
from funcnet.interchange import network_of, save, to_onnx, to_stablehlo

WANTED = "it is in the extra export"
SCALE = Standardisation(np.array([1e4, -3, 0, 1e-3, 7.0]), np.array([1.0, 3, 1e-2, 1e-4, 2e3]))
TARGETS = Standardisation(np.array([100.0, 1, -5]), np.array([1e3, 1e-3, 2]))


def run_onnx(path, x):
    ort = pytest.importorskip("onnxruntime", reason=f"onnxruntime is not installed: {WANTED}")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert given.shape == ["n", x.shape[1]]
    return session.run(None, {"x": np.asarray(x)})[0]


def run_stablehlo(path, x):
    return np.asarray(jax.export.deserialize(path.read_bytes()).call(jnp.asarray(x)))


WRITERS = {"onnx": (to_onnx, run_onnx), "stablehlo": (to_stablehlo, run_stablehlo)}


@pytest.fixture(params=WRITERS)
def both(request):
    """How to write a format, and how to run it."""
    if request.param == "onnx":
        pytest.importorskip("onnx", reason=f"onnx is not installed: {WANTED}")
    return WRITERS[request.param]


@pytest.mark.parametrize("activation", some(ACTIVATIONS, 4), ids=name_of)
def test_every_activation(both, activation, tmp_path):
    write, run = both
    for dtype in dict.fromkeys(("float32", WIDE)):
        net, params, x, _ = case(activation=activation, output_activation=activation, dtype=dtype)
        if activation == fn.gelu and dtype == "float64" and write is to_onnx:
            with pytest.raises(ValueError, match="gelu cannot be written in float64, for which runtimes have no erf"):
                write(net, params, tmp_path / "net")
            continue
        write(net, params, tmp_path / "net")
        x = jnp.concatenate([x, 30 * x, jnp.zeros((1, 5), dtype)])
        assert_close(run(tmp_path / "net", x), fn.apply(net, params, x))


@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
def test_every_loss(both, loss, tmp_path):
    write, run = both
    net, params, x, _ = case(loss=loss, dtype="float32")
    outputs = fn.apply(net, params, x)
    write(net, params, tmp_path / "net")
    assert_close(run(tmp_path / "net", x), loss.inverse_link(outputs))
    write(net, params, tmp_path / "net", probabilities=False)
    assert_close(run(tmp_path / "net", x), outputs)


def test_any_number_of_rows(both, tmp_path):
    write, run = both
    net, params, x, _ = case(dtype="float32")
    write(net, params, tmp_path / "net")
    for rows in (x[:1], x[:2], x, jnp.tile(x, (30, 1))):
        assert_close(run(tmp_path / "net", rows), fn.apply(net, params, rows))
    single = fn.MLP((5, 1), loss=fn.sigmoid_cross_entropy)
    params = fn.init(jax.random.key(0), single, dtype="float32")
    write(single, params, tmp_path / "net")
    assert_close(run(tmp_path / "net", x), jax.nn.sigmoid(fn.apply(single, params, x)))


def test_scales(both, tmp_path):
    write, run = both
    net, params, x, _ = case(dtype="float32", loss=fn.huber())
    raw = np.asarray(np.asarray(x) * SCALE.scale + SCALE.mean, np.float32)
    write(net, params, tmp_path / "net", features=SCALE, targets=TARGETS)
    outputs = np.asarray(fn.apply(net, params, standardise(SCALE, raw)))
    expected = outputs * TARGETS.scale + TARGETS.mean
    for column in range(3):  # each in its own units
        got = run(tmp_path / "net", raw)[:, column]
        assert got.dtype == np.float32
        assert_close(got, expected[:, column].astype(np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(both, dtype, tmp_path):
    write, run = both
    net, params, x, _ = case(dtype=dtype)
    x = x.astype("float32")
    write(net, params, tmp_path / "net")
    wide = fn.apply(net, jax.tree.map(lambda leaf: leaf.astype("float32"), params), x)
    got = run(tmp_path / "net", x)
    assert got.dtype == ("float32" if write is to_onnx else dtype)
    assert_close(got, wide if write is to_onnx else wide.astype(dtype))


def test_operands_in_bfloat16(both, tmp_path):
    write, run = both
    net, params, x, _ = case(dtype="float32", activation=fn.relu, operand_dtype="bfloat16")
    write(net, params, tmp_path / "net")
    expected, plain = fn.apply(net, params, x), fn.apply(case(activation=fn.relu)[0], params, x)
    got = run(tmp_path / "net", x)
    assert_close(got, expected)
    assert np.abs(got - plain).max() > 50 * np.abs(got - expected).max()


def test_onnx_files_describe_themselves(tmp_path):
    onnx = pytest.importorskip("onnx", reason=f"onnx is not installed: {WANTED}")
    net, params, _, _ = case(activation=fn.silu, loss=fn.label_smoothed(0.1), dtype="float32", l2=1e-3)
    to_onnx(net, params, tmp_path / "net.onnx", metadata={"classes": '["a", "b", "c"]', "network": "lost"})
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    texts = {prop.key: prop.value for prop in model.metadata_props}
    assert texts["classes"] == '["a", "b", "c"]'
    assert network_of(json.loads(texts["network"])) == net
    assert [output.name for output in model.graph.output] == ["probabilities"]
    assert [opset.version for opset in model.opset_import] == [20]
    to_onnx(net, params, tmp_path / "net.onnx", probabilities=False)
    assert onnx.load(tmp_path / "net.onnx").graph.output[0].name == "outputs"
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_stablehlo_runs_without_funcnet(tmp_path):
    net, params, x, _ = case(activation=fn.gelu, loss=fn.softmax_cross_entropy, dtype="float32")
    raw = np.asarray(np.asarray(x) * SCALE.scale + SCALE.mean, np.float32)
    to_stablehlo(net, params, tmp_path / "net.stablehlo", features=SCALE)
    np.save(tmp_path / "x.npy", raw)
    code = """if True:
        import sys
        from pathlib import Path
        import jax.export
        import numpy as np
        program = jax.export.deserialize(Path("net.stablehlo").read_bytes())
        np.save("y.npy", program.call(np.load("x.npy")))
        assert program.platforms == ("cpu", "cuda", "tpu")
        assert not jax.config.jax_enable_x64
        assert not [name for name in sys.modules if name.startswith("funcnet")]
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    expected = net.loss.inverse_link(fn.apply(net, params, standardise(SCALE, raw)))
    assert_close(np.load(tmp_path / "y.npy"), expected)


def test_stablehlo_takes_rules_of_ones_own(tmp_path):
    square = fn.Activation(
        "square", lambda z: z * z, lambda z, h: 2 * z, lambda z, h: 2 * jnp.ones_like(z), lambda z, h: jnp.zeros_like(z)
    )
    net, params, x, _ = case(activation=square)
    to_stablehlo(net, params, tmp_path / "net")
    assert_close(run_stablehlo(tmp_path / "net", x), fn.apply(net, params, x))
    for platforms in (("cpu", "abacus"), "cpu", ()):
        with pytest.raises(ValueError, match="platforms must be some of cpu, cuda, rocm, tpu; got"):
            to_stablehlo(net, params, tmp_path / "other", platforms=platforms)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_what_does_not_fit(both, tmp_path):
    write, _ = both
    net, params, _, _ = case(dtype="float32")
    for options, error, message in (
        ({"features": TARGETS}, ValueError, r"features.mean must have shape \(5,\) to match the network; got \(3,\)"),
        ({"targets": SCALE}, ValueError, r"targets.mean must have shape \(3,\)"),
        ({"features": (1, 2)}, TypeError, "features must be a Standardisation of mean and scale, .*; got tuple"),
    ):
        with pytest.raises(error, match=message):
            write(net, params, tmp_path / "net", **options)
    with pytest.raises(ValueError, match=r"params\[2\].w must have shape"):
        write(net, case(k=2)[1], tmp_path / "net")
    with pytest.raises(FileNotFoundError, match="cannot be written"):
        write(net, params, tmp_path / "no" / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "scaler", [StandardScaler(), StandardScaler(with_std=False), StandardScaler(with_mean=False), MinMaxScaler((-1, 2))]
)
def test_scalers_of_scikit_learn_count_as_what_they_do(tmp_path, scaler):
    net, params, x, _ = case(dtype="float32")
    raw = np.asarray(x, np.float64) * [1, 20, 3, 0.5, 7] + 3
    with pytest.raises(TypeError, match=f"features must be .* a fitted StandardScaler .*; got {type(scaler).__name__}"):
        to_stablehlo(net, params, tmp_path / "net", features=clone(scaler))
    to_stablehlo(net, params, tmp_path / "net", features=scaler.fit(raw))
    found = run_stablehlo(tmp_path / "net", raw.astype(np.float32))
    expected = net.loss.inverse_link(fn.apply(net, params, jnp.asarray(scaler.transform(raw), "float32")))
    assert_close(found, expected, terms=8)


def test_other_scalers_are_refused(tmp_path):
    net, params, x, _ = case(dtype="float32")
    for scaler in (MinMaxScaler(clip=True), RobustScaler()):
        with pytest.raises(TypeError, match=f"got {type(scaler).__name__}"):
            to_stablehlo(net, params, tmp_path / "net", features=scaler.fit(np.asarray(x)))


def test_metadata_that_is_no_text(tmp_path):
    pytest.importorskip("onnx", reason=f"onnx is not installed: {WANTED}")
    net, params, _, _ = case(dtype="float32")
    for write in (to_onnx, lambda net, params, path, metadata: save(path, net, params, metadata=metadata)):
        with pytest.raises(
            TypeError, match=r"metadata\['classes'\] must be text, such as json.dumps gives of a list; got list"
        ):
            write(net, params, tmp_path / "net", metadata={"classes": ["a", "b"]})
    assert list(tmp_path.iterdir()) == []


def test_onnx_has_no_rules_of_ones_own(tmp_path):
    pytest.importorskip("onnx", reason=f"onnx is not installed: {WANTED}")
    disguised = fn.Activation("tanh", fn.relu.value, fn.relu.slope, fn.relu.curvature, fn.relu.third)
    with pytest.raises(ValueError, match="only funcnet's own activations can be written to a file; got 'tanh'"):
        to_onnx(*case(activation=disguised)[:2], tmp_path / "net")
    loss = fn.Loss(
        "mine", *(getattr(fn.poisson, name) for name in ("value", "gradient", "hessian_action", "hessian_factor"))
    )
    with pytest.raises(ValueError, match="only funcnet's own losses can be written to a file; got 'mine'"):
        to_onnx(*case(loss=loss)[:2], tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_onnx_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match="onnx"):
        to_onnx(*case()[:2], tmp_path / "net")


if X64:

    def test_stablehlo_in_float64(tmp_path):
        net, params, x, _ = case(loss=fn.softmax_cross_entropy)
        raw = np.asarray(x) * SCALE.scale + SCALE.mean
        to_stablehlo(net, params, tmp_path / "net", features=SCALE)
        expected = net.loss.inverse_link(fn.apply(net, params, standardise(SCALE, raw, np.float64)))
        assert_close(run_stablehlo(tmp_path / "net", raw), expected)
