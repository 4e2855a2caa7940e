"""Networks in files: the same bits come back, and nothing is guessed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, X64, case
from safetensors.numpy import load_file, save_file

import funcnet as fn
from funcnet.interchange import describe, load, network_of, save

NET = fn.MLP(
    (5, 7, 6, 3),
    activation=(fn.gelu, fn.tanh),
    loss=fn.label_smoothed(0.3),
    l2=1e-4,
    dropout=0.25,
    operand_dtype="bfloat16",
)


def test_descriptions_come_back():
    for net in (NET, fn.MLP((2, 1), output_activation=fn.sigmoid, loss=fn.half_squared_error)):
        text = json.dumps(describe(net))
        assert network_of(json.loads(text)) == net
    for name in fn.losses.LOSSES:
        loss = fn.losses.by_name(name)
        assert network_of(describe(fn.MLP((4, 3), loss=loss))).loss == loss


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_come_back_bit_for_bit(dtype, tmp_path):
    _, params, _, _ = case(dtype=dtype)
    path = tmp_path / "model.safetensors"
    save(path, NET, params, arrays={"features.mean": np.arange(5.0)}, metadata={"note": "a test"})
    found = load(path)
    assert found.net == NET
    assert jax.tree.structure(found.params) == jax.tree.structure(params)
    for got, expected in zip(jax.tree.leaves(found.params), jax.tree.leaves(params), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(expected))
    assert list(found.arrays) == ["features.mean"]
    np.testing.assert_array_equal(found.arrays["features.mean"], np.arange(5.0))
    assert found.metadata == {"note": "a test"}
    assert list(tmp_path.iterdir()) == [path]


def test_own_rules_are_not_written(tmp_path):
    mine = fn.Activation("mine", fn.tanh.value, fn.tanh.slope, fn.tanh.curvature, fn.tanh.third)
    disguised = fn.Activation("tanh", fn.relu.value, fn.relu.slope, fn.relu.curvature, fn.relu.third)
    for activation in (mine, disguised):
        net = fn.MLP((2, 2), output_activation=activation, loss=fn.half_squared_error)
        with pytest.raises(ValueError, match="only funcnet's own activations can be written to a file; got"):
            save(tmp_path / "x", net, fn.init(jax.random.key(0), net))
    loss = fn.Loss(
        "mine", *(getattr(fn.poisson, name) for name in ("value", "gradient", "hessian_action", "hessian_factor"))
    )
    with pytest.raises(ValueError, match="only funcnet's own losses can be written to a file; got 'mine'"):
        describe(fn.MLP((2, 2), loss=loss))
    assert list(tmp_path.iterdir()) == []


def test_wrong_descriptions():
    good = describe(NET)
    for change, message in (
        ({"widths": [3]}, "widths must be at least 2 numbers"),
        ({"activation": "swosh"}, "activation must be one of identity, relu"),
        ({"loss": "huber(-1)"}, r"loss 'huber\(-1\)': delta must be"),
        ({"loss": "poisson(1)"}, r"loss poisson takes no such constants; got 'poisson\(1\)'"),
        ({"depth": 3}, "missing: none; unknown: depth"),
    ):
        with pytest.raises(ValueError, match=message):
            network_of(good | change)
    with pytest.raises(ValueError, match="missing: loss; unknown: none"):
        network_of({name: value for name, value in good.items() if name != "loss"})
    with pytest.raises(TypeError, match="the description of a network must be a dictionary; got list"):
        network_of([good])  # pyright: ignore[reportArgumentType] (on purpose)


@pytest.fixture
def written(tmp_path):
    _, params, _, _ = case()
    path = tmp_path / "model.safetensors"
    save(path, NET, params)
    tensors = load_file(path)
    metadata = {"format": "funcnet 1", "network": json.dumps(describe(NET))}
    return path, tensors, metadata


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: t.pop("layers.1.b"), "missing: layers.1.b; left over: none"),
        (lambda t, m: t.clear(), "missing: layers.0.w, layers.0.b, layers.1.w, layers.1.b, .*; left over: none"),
        (lambda t, m: t.update({"layers.3.w": t["layers.2.w"]}), "missing: none; left over: layers.3.w"),
        (lambda t, m: t.update({"layers.0.scale": t["layers.0.b"]}), "missing: none; left over: layers.0.scale"),
        (lambda t, m: t.update({"layers.0.W": t.pop("layers.0.w")}), "missing: layers.0.w; left over: layers.0.W"),
        (lambda t, m: t.update({"layers.1.b": t["layers.1.b"][:, None]}), r"params\[1\].b must have shape \(6,\); got"),
        (lambda t, m: t.update({k: v.astype("int32") for k, v in t.items()}), r"got int32 in params\[0\].w"),
        (
            lambda t, m: t.update({"layers.0.w": t["layers.0.w"].T.copy()}),
            r"params\[0\].w must have shape \(5, 7\); got",
        ),
        (lambda t, m: t.update({"layers.2.b": t["layers.2.b"].astype("int32")}), r"got int32 in params\[2\].b"),
        (lambda t, m: t.update({"layers.2.b": t["layers.2.b"].astype("float16")}), r"got float16 in params\[2\].b"),
        (lambda t, m: m.pop("network"), "was not written by funcnet"),
        (lambda t, m: m.update(format="other"), "was not written by funcnet"),
        (lambda t, m: m.update(network="{"), "Expecting property name"),
        (lambda t, m: m.update(network="[]"), "must be a dictionary"),
    ],
)
def test_files_that_do_not_fit_their_description(written, change, message):
    path, tensors, metadata = written
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_damaged_and_missing_files(written, tmp_path):
    path, _, _ = written
    content = path.read_bytes()
    for cut in (0, 5, 100, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="is no whole safetensors file"):
            load(path)
    with pytest.raises(FileNotFoundError, match=r"no\.safetensors"):
        load(tmp_path / "no.safetensors")


def test_what_cannot_be_written_leaves_what_was_there(written, monkeypatch):
    path, _, _ = written
    before = path.read_bytes()
    _, params, _, _ = case(k=2)
    with pytest.raises(ValueError, match=r"params\[2\].w must have shape \(6, 3\); got \(6, 2\)"):
        save(path, NET, params)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    _, params, _, _ = case()
    with pytest.raises(OSError, match="disk full"):
        save(path, NET, jax.tree.map(jnp.zeros_like, params))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


if not X64:

    def test_float64_is_not_rounded_in_silence(tmp_path):
        path = tmp_path / "model.safetensors"
        _, params, _, _ = case()
        save(path, NET, params)
        save_file(
            {name: tensor.astype("float64") for name, tensor in load_file(path).items()},
            path,
            {"format": "funcnet 1", "network": json.dumps(describe(NET))},
        )
        with pytest.raises(ValueError, match=r"layers\.0\.w is float64, which JAX holds only with jax_enable_x64"):
            load(path)
