"""Weights in other frameworks: the same bits come back, their own forward is `apply`, and what is no MLP is refused."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import ACTIVATIONS, DTYPES, LOSSES, WIDE, X64, assert_close, case, name_of

import funcnet as fn
from funcnet.interchange import (
    from_equinox,
    from_flax,
    from_nnx,
    from_torch,
    to_equinox,
    to_flax,
    to_nnx,
    to_torch,
)

LOSS = fn.half_squared_error


def there(net, params, framework):
    """A network in another framework."""
    return {"torch": to_torch, "equinox": to_equinox, "flax": to_nnx}[framework](net, params)


def back(module, framework, loss=LOSS):
    return {"torch": from_torch, "equinox": from_equinox, "flax": from_nnx}[framework](module, loss=loss)


def forward(module, framework, x):
    """What the framework itself computes."""
    if framework == "torch":
        import torch

        with torch.no_grad():
            return module.eval()(torch.from_numpy(np.array(x))).numpy()
    return jax.vmap(module)(x) if framework == "equinox" else module(x)


def same_bits(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, jax.Array)
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(params=["torch", "equinox", "flax"])
def framework(request):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed: it is in the extra bench")
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_come_back(framework, dtype):
    net, params, _, _ = case(activation=(fn.gelu, fn.tanh), dtype=dtype, output_activation=fn.sigmoid)
    special = params[0].b.at[:4].set(jnp.asarray([-0.0, jnp.inf, jnp.nan, 1e-7], dtype))
    params = (params[0]._replace(b=special), *params[1:])
    found, got = back(there(net, params, framework), framework)
    assert found == net
    same_bits(got, params)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
def test_its_own_forward_is_apply(framework, activation):
    for hidden in (activation, (activation, fn.tanh)):
        net, params, x, _ = case(activation=hidden, output_activation=activation)
        x = 3 * x
        module = there(net, params, framework)
        assert_close(np.asarray(forward(module, framework, x)), fn.apply(net, params, x))
        found, _ = back(module, framework)
        assert found.activations == net.activations


def test_networks_without_hidden_layers_and_with_equal_widths(framework):
    for widths in ((5, 3), (5, 4, 4, 3), (5, 1)):
        net = fn.MLP(widths, activation=fn.relu, output_activation=fn.tanh, loss=LOSS)
        params = fn.init(jax.random.key(0), net, dtype=WIDE)
        _, _, x, _ = case()
        module = there(net, params, framework)
        assert_close(np.asarray(forward(module, framework, x)), fn.apply(net, params, x))
        found, got = back(module, framework)
        assert found == net
        same_bits(got, params)


def test_activations_of_ones_own_have_no_counterpart(framework):
    mine = fn.Activation("mine", fn.tanh.value, fn.tanh.slope, fn.tanh.curvature, fn.tanh.third)
    disguised = fn.Activation("tanh", fn.relu.value, fn.relu.slope, fn.relu.curvature, fn.relu.third)
    for activation in (mine, disguised):
        net, params, _, _ = case(activation=activation)
        with pytest.raises(ValueError, match=f"activation '{activation.name}' has no counterpart in .*; it has .*relu"):
            there(net, params, framework)


def test_parameters_that_do_not_fit(framework):
    net, _, _, _ = case()
    _, params, _, _ = case(k=2)
    with pytest.raises(ValueError, match=r"params\[2\].w must have shape \(6, 3\); got \(6, 2\)"):
        there(net, params, framework)


def test_what_is_not_installed_is_named(framework, monkeypatch):
    net, params, _, _ = case()
    module = there(net, params, framework)
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(ModuleNotFoundError, match=framework):
        there(net, params, framework)
    with pytest.raises(ModuleNotFoundError, match=framework):
        back(module, framework)


def test_a_loss_is_asked_for(framework):
    module = there(*case()[:2], framework)
    with pytest.raises(TypeError, match=r"loss must be a funcnet\.Loss such as"):
        back(module, framework, loss=None)


# PyTorch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: it is in the extra bench")


def test_torch_state_dictionaries(torch):
    net, params, _, _ = case(activation=fn.silu, loss=fn.softmax_cross_entropy)
    state = to_torch(net, params).state_dict()
    assert list(state) == ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"]
    assert state["0.weight"].shape == (7, 5)
    arrays = {key: value.numpy() for key, value in state.items()}
    shuffled = dict(sorted(arrays.items(), reverse=True))
    for form in (state, arrays, shuffled, {f"module.{key}": value for key, value in state.items()}):
        found, got = from_torch(form, loss=net.loss, activation=net.activation)
        assert found == net
        same_bits(got, params)
    many = {f"fc{i}.weight": np.full((2, 2), i, WIDE) for i in (10, 9, 2)}
    _, got = from_torch(many, loss=LOSS, activation=fn.relu, output_activation=fn.tanh)
    assert [float(layer.w[0, 0]) for layer in got] == [2, 9, 10]
    assert all(not layer.b.any() for layer in got)
    named = {"inner.weight": np.ones((4, 3), WIDE), "head.weight": np.ones((3, 4), WIDE)}
    with pytest.raises(ValueError, match="order of layers inner, head cannot be told from their names: give order="):
        from_torch(named, loss=LOSS, activation=fn.relu)
    assert from_torch(named, loss=LOSS, activation=fn.relu, order=("inner", "head"))[0].widths == (3, 4, 3)
    with pytest.raises(ValueError, match="order must hold each of inner, head once; got inner"):
        from_torch(named, loss=LOSS, activation=fn.relu, order=("inner",))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("2.weight"), ValueError, "2.weight is missing"),
        (lambda s: s.update({"2.running_mean": s["2.bias"]}), ValueError, "nothing else; got '2.running_mean'"),
        (
            lambda s: s.update({"2.weight": s["2.weight"][:, :3]}),
            ValueError,
            "2 takes 3 inputs, but 0 before it gives 7",
        ),
        (lambda s: s.update({"2.bias": s["2.bias"][:3]}), ValueError, r"2 must have 6 biases.* got shape \(3,\)"),
        (
            lambda s: s.update({"2.weight": s["2.weight"][None]}),
            ValueError,
            r"2 must have a matrix .* \(7, 6, 1\)|2 must",
        ),
        (lambda s: s.update({"2.bias": s["2.bias"].half()}), TypeError, r"share one .*float16 in params\[1\].b"),
        (lambda s: s.update({"2.weight": s["2.weight"].int()}), ValueError, "2 must have a matrix of floating-point"),
        (lambda s: s.clear(), ValueError, "must have at least one affine map"),
    ],
)
def test_torch_state_dictionaries_that_are_no_mlp(torch, change, error, message):
    state = dict(to_torch(*case()[:2]).state_dict())
    change(state)
    with pytest.raises(error, match=message):
        from_torch(state, loss=LOSS, activation=fn.relu)


def test_torch_sequentials_of_others(torch):
    nn = torch.nn
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 4, bias=False), nn.Identity(), nn.GELU(approximate="tanh"), nn.Dropout(0.25)),
        nn.Linear(4, 4),
        nn.GELU(approximate="tanh"),
        nn.Dropout(0.25),
        nn.Linear(4, 3),
        nn.Softmax(dim=1),
    )
    net, params = from_torch(module, loss=fn.softmax_cross_entropy)
    expected = fn.MLP((6, 4, 4, 3), activation=fn.gelu_tanh, loss=fn.softmax_cross_entropy, dropout=0.25)
    assert net == expected
    np.testing.assert_array_equal(params[0].b, np.zeros(4))
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype("float32")
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(x)).numpy()
    assert_close(net.loss.inverse_link(fn.apply(net, params, x)), theirs)
    assert [type(each).__name__ for each in to_torch(net, params)][:3] == ["Linear", "GELU", "Dropout"]
    assert from_torch(to_torch(net, params), loss=net.loss)[0] == net
    shared, tied = nn.Tanh(), nn.Linear(4, 4)
    net, params = from_torch(nn.Sequential(tied, shared, tied, shared), loss=LOSS)
    assert net == fn.MLP((4, 4, 4), activation=fn.tanh, output_activation=fn.tanh, loss=LOSS)
    same_bits(params[0], params[1])
    yes_or_no = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    assert from_torch(yes_or_no, loss=fn.sigmoid_cross_entropy)[0].output_activation == fn.identity
    assert from_torch(yes_or_no, loss=LOSS)[0].output_activation == fn.sigmoid


def test_torch_has_its_own_memory(torch):
    net, params, _, _ = case()
    kept = jax.tree.map(np.array, params)
    module = to_torch(net, params)
    _, read = from_torch(module, loss=LOSS)
    with torch.no_grad():
        for leaf in module.parameters():
            leaf.add_(1)
    same_bits(params, kept)
    same_bits(read, kept)


def test_making_a_torch_module_draws_nothing(torch):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    to_torch(*case()[:2])
    assert torch.equal(torch.get_rng_state(), before)


def bad_modules(nn):
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    return [
        (Residual(nn.Linear(2, 2)), TypeError, r"must be an nn\.Sequential .*; got Residual"),
        (nn.Sequential(Residual(nn.Linear(2, 2))), ValueError, "module 0, Residual.* is nothing that funcnet"),
        (nn.Linear(2, 2), TypeError, r"must be an nn\.Sequential .*; got Linear"),
        (nn.Sequential(), ValueError, "at least one affine map; got none"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), ValueError, "module 0, ReLU.*, stands before the first affine map"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh()), ValueError, "module 2, Tanh.*, must stand right behind"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), ValueError, "module 1, LayerNorm.* is nothing that funcnet"),
        (nn.Sequential(nn.Conv1d(2, 2, 1)), ValueError, "module 0, Conv1d.* is nothing that funcnet's networks have"),
        (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.2)), ValueError, "LeakyReLU.*; it has leaky_relu of slope 0.01"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1)), ValueError, "Softmax.*; the last may be dropped with the"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(3, 2)), ValueError, "takes 3 inputs, but module 0, .* gives 2"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Tanh(), nn.Linear(2, 2)),
            ValueError,
            "module 2, Tanh.*, must stand right behind an affine map",
        ),
        (
            nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Dropout(0.5), nn.Linear(2, 2), nn.Dropout(0.2)),
            ValueError,
            "dropout must be behind every hidden layer with one share .*; got shares 0.5, 0.2",
        ),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), ValueError, "is nothing that funcnet"),
    ]


def test_torch_modules_that_are_no_mlp(torch):
    for module, error, message in bad_modules(torch.nn):
        with pytest.raises(error, match=message) as caught:
            from_torch(module, loss=LOSS)
        assert "\n" not in str(caught.value)
    with pytest.raises(TypeError, match="activation must be given with a state dictionary"):
        from_torch(to_torch(*case()[:2]).state_dict(), loss=LOSS)
    with pytest.raises(TypeError, match=r"are read off an nn\.Sequential: leave them out"):
        from_torch(to_torch(*case()[:2]), loss=LOSS, activation=fn.relu)


if not X64:

    def test_torch_float64_is_not_rounded_in_silence(torch):
        module = to_torch(*case()[:2]).double()
        with pytest.raises(ValueError, match=r"the weights of module 0, .* is float64, which JAX holds only with"):
            from_torch(module, loss=LOSS)


# Flax


@pytest.mark.quick
@pytest.mark.parametrize("dtype", DTYPES)
def test_flax_dictionaries(dtype):
    net, params, _, _ = case(activation=fn.silu, dtype=dtype)
    variables = to_flax(net, params)
    nested = {"params": {"MLP_0": variables["params"]}}
    for form in (variables, variables["params"], nested, jax.tree.map(np.asarray, variables)):
        found, got = from_flax(form, loss=LOSS, activation=fn.silu)
        assert found == net
        same_bits(got, params)


def test_flax_runs_the_dictionary():
    nn = pytest.importorskip("flax.linen", reason="flax is not installed: it is in the extra bench")
    net, params, x, _ = case(activation=fn.tanh)
    dense = partial(nn.Dense, param_dtype=jnp.dtype(WIDE))
    module = nn.Sequential([dense(7), nn.tanh, dense(6), nn.tanh, dense(3)])
    variables = module.init(jax.random.key(0), x)
    ours = {"params": {f"layers_{2 * i}": group for i, group in enumerate(to_flax(net, params)["params"].values())}}
    assert jax.tree.structure(variables) == jax.tree.structure(ours)
    assert_close(module.apply(ours, x), fn.apply(net, params, x))
    same_bits(from_flax(ours, loss=LOSS, activation=fn.tanh)[1], params)


def test_flax_many_layers_are_ordered_by_number():
    tree = {f"Dense_{i}": {"kernel": jnp.full((2, 2), i, WIDE)} for i in (0, 1, 10, 2)}
    net, params = from_flax({"params": tree}, loss=LOSS, activation=fn.relu)
    assert [float(layer.w[0, 0]) for layer in params] == [0, 1, 2, 10]
    assert net.n_layers == 4
    named = {"params": {"a": tree["Dense_1"], "b": tree["Dense_2"]}}
    with pytest.raises(ValueError, match=r"order of layers a, b cannot be told .*: give order="):
        from_flax(named, loss=LOSS, activation=fn.relu)
    _, params = from_flax(named, loss=LOSS, activation=fn.relu, order=("b", "a"))
    assert [float(layer.w[0, 0]) for layer in params] == [2, 1]


@pytest.mark.parametrize(
    ("variables", "error", "message"),
    [
        ([], TypeError, "variables must be a dictionary of parameters; got list"),
        ({"params": {}, "batch_stats": {}}, ValueError, "must hold params alone; got batch_stats too"),
        ({"params": {"Dense_0": {"bias": np.ones(2)}}}, ValueError, "Dense_0 must hold a kernel and a bias; got bias"),
        ({"params": {"L": {"scale": np.ones(2), "bias": np.ones(2)}}}, ValueError, "L must hold .*; got scale, bias"),
        ({"params": {"x": np.ones(2)}}, ValueError, "nothing else; got x"),
        ({"params": {}}, ValueError, "at least one affine map"),
        ({"Conv_0": {"kernel": np.ones((2, 2, 2, 2))}}, ValueError, "Conv_0 must have a matrix of floating-point"),
    ],
)
def test_flax_dictionaries_that_are_no_mlp(variables, error, message):
    with pytest.raises(error, match=message):
        from_flax(variables, loss=LOSS, activation=fn.relu)


def test_nnx_modules_of_others():
    nnx = pytest.importorskip("flax.nnx", reason="flax is not installed: it is in the extra bench")
    rngs = nnx.Rngs(0)
    exact = partial(jax.nn.gelu, approximate=False)
    module = nnx.Sequential(
        nnx.Linear(3, 4, use_bias=False, rngs=rngs), exact, nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
    )
    net, params = from_nnx(module, loss=LOSS)
    assert net == fn.MLP((3, 4, 2), activation=fn.gelu, loss=LOSS, dropout=0.5)
    assert not params[0].b.any()
    state = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    same_bits(from_flax(state, loss=LOSS, activation=fn.gelu)[1], params)
    for other, error, message in (
        (nnx.Linear(2, 2, rngs=rngs), TypeError, "must be an nnx.Sequential of nnx.Linear and functions; got Linear"),
        (
            nnx.Sequential(nnx.Linear(2, 2, rngs=rngs), jnp.sin),
            ValueError,
            r"layers\[1\] must be one of jax.nn's .*sin",
        ),
        (nnx.Sequential(nnx.LayerNorm(2, rngs=rngs)), ValueError, r"layers\[0\] must be one of .*; got LayerNorm"),
    ):
        with pytest.raises(error, match=message):
            from_nnx(other, loss=LOSS)


# Equinox


def test_equinox_modules_of_others():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed: it is in the extra bench")
    key = jax.random.key(0)
    x = jax.random.normal(key, (4, 3), WIDE)
    for options in ({}, {"scan": True}, {"use_bias": False, "use_final_bias": False, "final_activation": jnp.tanh}):
        mlp = eqx.nn.MLP(3, 2, 5, 3, dtype=jnp.dtype(WIDE), key=key, **options)
        net, params = from_equinox(mlp, loss=LOSS)
        assert net.widths == (3, 5, 5, 5, 2)
        assert_close(fn.apply(net, params, x), jax.vmap(mlp)(x))
    net, _ = from_equinox(eqx.nn.MLP(3, 2, 5, 0, final_activation=jnp.tanh, key=key), loss=LOSS)
    assert net == fn.MLP((3, 2), loss=LOSS)  # Equinox leaves the last function out where nothing is hidden
    linear = eqx.nn.Linear(3, 2, key=key)
    for other, error, message in (
        (linear, TypeError, r"must be an eqx\.nn\.MLP or an eqx\.nn\.Sequential; got Linear"),
        (
            eqx.nn.MLP(3, 2, 5, 1, activation=eqx.nn.PReLU(), key=key),
            ValueError,
            "activation must be one of.*got PReLU",
        ),
        (eqx.nn.MLP(3, 2, 5, 1, final_activation=jnp.cos, key=key), ValueError, "final_activation must be one of.*cos"),
        (eqx.nn.Sequential([linear, eqx.nn.LayerNorm(2)]), ValueError, r"layers\[1\] must be one of .*; got LayerNorm"),
    ):
        with pytest.raises(error, match=message):
            from_equinox(other, loss=LOSS)
    assert isinstance(to_equinox(*case(activation=fn.relu)[:2]), eqx.nn.Sequential)
    wide = fn.MLP((3, 4, 4, 2), loss=fn.poisson)
    assert isinstance(to_equinox(wide, fn.init(key, wide)), eqx.nn.MLP)


@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
def test_the_loss_is_the_one_given(loss, framework):
    net, params, _, _ = case(loss=loss)
    assert back(there(net, params, framework), framework, loss=loss)[0] == net
