"""The closed-form gradient against `jax.grad` in float64, for every pair of what can be chosen."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    DTYPES,
    LOSSES,
    WIDE,
    against_oracle,
    assert_close,
    case,
    expected_to_fit,
    name_of,
    signed_weights,
    some,
    targets,
)

import funcnet as fn
from funcnet.checking import compare, in_float64


@pytest.mark.quick
@pytest.mark.parametrize(("activation", "loss"), some(itertools.product(ACTIVATIONS, LOSSES), 30), ids=name_of)
def test_activation_by_loss(activation, loss):
    assert not expected_to_fit(against_oracle(*case(activation, loss, l2=0.1), weights=signed_weights()))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES)
def test_activation_by_dtype(activation, dtype):
    assert not expected_to_fit(against_oracle(*case(activation, fn.softmax_cross_entropy, dtype)))


@pytest.mark.parametrize("loss", LOSSES, ids=name_of)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_by_dtype(loss, dtype):
    assert not expected_to_fit(against_oracle(*case(fn.tanh, loss, dtype, l2=0.1)))


@pytest.mark.parametrize("pair", list(zip(ACTIVATIONS, [*LOSSES, *LOSSES], strict=False)), ids=lambda p: p[0].name)
def test_compiled(pair):
    assert not expected_to_fit(against_oracle(*case(*pair), compiled=True))


@pytest.mark.parametrize("output_activation", ACTIVATIONS, ids=name_of)
def test_output_activation(output_activation):
    assert not expected_to_fit(against_oracle(*case(fn.silu, output_activation=output_activation)))


def test_activation_for_each_layer():
    net, params, x, y = case((fn.relu, fn.selu), output_activation=fn.softplus)
    assert not expected_to_fit(against_oracle(net, params, x, y))
    assert net.activations == (fn.relu, fn.selu, fn.softplus)


@pytest.mark.parametrize(
    ("loss", "k"),
    some([(loss, k) for loss in LOSSES for k in (1, 2, 5) if k > 1 or loss.targets == "real"], 8),
    ids=name_of,
)
def test_output_widths(loss, k):
    """A loss and a gradient that reduce differently agree at one output and drift apart at more."""
    result = against_oracle(*case(fn.tanh, loss, k=k))
    assert not expected_to_fit(result)
    assert all(abs(leaf.ratio - 1) < 1e-5 for leaf in result.leaves), result


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_depths(depth):
    net = fn.MLP((5, *[4] * depth, 3), activation=fn.gelu, loss=fn.softmax_cross_entropy, l2=0.01)
    params = fn.init(jax.random.key(0), net)
    _, _, x, y = case(loss=fn.softmax_cross_entropy)
    assert not expected_to_fit(against_oracle(net, params, x, y))


@pytest.mark.parametrize("loss", [fn.softmax_cross_entropy, fn.label_smoothed(0.2)], ids=name_of)
def test_target_distributions(loss):
    net, params, x, _ = case(loss=loss)
    y = np.random.default_rng(0).uniform(0, 1, (9, 3))
    assert not expected_to_fit(against_oracle(net, params, x, jnp.asarray(y, WIDE)))
    one_hot = jnp.asarray(np.eye(3)[[0, 1, 2, 2, 1, 0, 0, 1, 2]], "int32")
    labels = jnp.argmax(one_hot, axis=1)
    assert_close(fn.value_and_grad(net, params, x, one_hot), fn.value_and_grad(net, params, x, labels))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout(dtype):
    """The same key drops the same units in loss and gradient, in every dtype."""
    net, params, x, y = case(fn.relu, fn.softmax_cross_entropy, dtype, dropout=0.4)
    key = jax.random.key(7)
    assert not expected_to_fit(against_oracle(net, params, x, y, key=key))
    assert not expected_to_fit(against_oracle(net, params, x, y, key=key, weights=signed_weights(dtype)))
    assert fn.loss(net, params, x, y, key=key) != fn.loss(net, params, x, y)
    assert fn.loss(net, params, x, y) == fn.loss(
        case(fn.relu, fn.softmax_cross_entropy, dtype)[0], params, x, y, key=key
    )


@pytest.mark.parametrize("kind", [jax.random.key, jax.random.PRNGKey], ids=["new", "old"])
def test_dropout_scales_what_it_keeps(kind):
    net = fn.MLP((1, 4000, 4000, 1), activation=fn.identity, loss=fn.half_squared_error, dropout=0.25)
    ones = (fn.Layer(jnp.ones((1, 4000)), jnp.zeros(4000)), fn.Layer(jnp.eye(4000), jnp.zeros(4000)))
    params = (*ones, fn.Layer(jnp.ones((4000, 1)) / 4000, jnp.zeros(1)))
    _, saved = fn.sweeps.forward(net, params, jnp.ones((2, 1)), kind(0))
    assert saved.masks is not None
    first, second = (np.asarray(mask) for mask in saved.masks)
    np.testing.assert_allclose(np.unique(first), [0, 4 / 3], rtol=1e-6)
    assert abs((first == 0).mean() - 0.25) < 0.02
    assert not np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("dtype", DTYPES[2:])
def test_bfloat16_operands(dtype):
    """Closed form and autodiff both stay within bfloat16's bound of the float64 truth."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy, dtype, operand_dtype="bfloat16")
    exact, *_ = case(fn.tanh, fn.softmax_cross_entropy, dtype)
    truth = in_float64(fn.value_and_grad)(exact, params, x, y)
    units = float(jnp.finfo("bfloat16").eps) / float(jnp.finfo(dtype).eps)
    for run in (fn.value_and_grad, jax.value_and_grad(fn.loss, argnums=1)):
        result = compare(run(net, params, x, y), truth, like=(params[0].b[0], params))
        assert not result.problems
        assert units / 100 < result.error < 4 * units, result


def test_features_of_any_rank():
    net, params, x, y = case(k=3)
    cube = jnp.concatenate([x, x[:, :1]], axis=1).reshape(9, 3, 1, 2)
    net = fn.MLP((6, 7, 6, 3), activation=fn.tanh, loss=fn.half_squared_error)
    params = (fn.Layer(jnp.concatenate([params[0].w, params[0].w[:1]]), params[0].b), *params[1:])
    assert not expected_to_fit(against_oracle(net, params, cube, y))
    assert_close(fn.apply(net, params, cube), fn.apply(net, params, cube.reshape(9, 6)))
    assert fn.input_gradient(net, params, cube, y).shape == (9, 3, 1, 2)


@pytest.mark.parametrize("number", range(len(LOSSES)), ids=lambda number: LOSSES[number].name)
def test_input_gradient(number):
    loss, dtype = LOSSES[number], DTYPES[number % len(DTYPES)]
    net, params, x, y = case(fn.silu, loss, dtype, l2=0.3)
    expected = in_float64(jax.grad(fn.loss, argnums=2))(net, params, x, y, weights=signed_weights(dtype))
    assert_close(fn.input_gradient(net, params, x, y, weights=signed_weights(dtype)), expected, like=x)


def test_input_gradient_keeps_the_dtype_of_x():
    net, params, x, y = case(dtype="float32")
    for dtype in DTYPES:
        assert fn.input_gradient(net, params, x.astype(dtype), y).dtype == dtype


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "bool"])
def test_label_dtypes(dtype):
    net, params, x, _ = case(loss=fn.softmax_cross_entropy)
    labels = jnp.array([0, 1, 1, 0, 1, 0, 0, 1, 1])
    expected = fn.value_and_grad(net, params, x, labels)
    assert_close(fn.value_and_grad(net, params, x, labels.astype(dtype)), expected)
    batched = jax.vmap(fn.per_example_losses, in_axes=(None, None, 0, 0))(net, params, x[:, None], labels[:, None])
    assert batched.shape == (9, 1)


def test_numpy_arguments():
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    as_numpy = jax.tree.map(np.asarray, (params, x, y))
    assert_close(fn.value_and_grad(net, *as_numpy), fn.value_and_grad(net, params, x, y))
    assert isinstance(fn.input_gradient(net, *as_numpy), jax.Array)


def test_weak_type_and_tree_are_those_of_params():
    net, params, x, y = case(l2=0.1, dtype="float32")
    value, grads = fn.value_and_grad(net, params, x, y)
    assert not value.weak_type
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_does_not_underflow_in_large_batches(dtype):
    """1/n of 70,000 examples is below float16's normal range; the mean is taken in float32."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy, dtype)
    many = 7777
    x, y = jnp.tile(x, (many, 1)), jnp.tile(y, many)
    assert not expected_to_fit(against_oracle(net, params, x, y))


def test_relu_at_its_kink():
    """Pre-activations of exactly 0: the slope is 0, as in `jax.nn.relu`."""
    net, params, x, y = case(fn.relu)
    params = (fn.Layer(params[0].w, jnp.zeros_like(params[0].b)), *params[1:])
    x = x.at[::2].set(0)
    assert not expected_to_fit(against_oracle(net, params, x, y))
    z = np.asarray(x @ params[0].w)
    assert (z == 0).any()


def test_networks_under_vmap():
    """l2 and dropout are leaves, so that many networks run under one vmap."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy)
    l2s = [0.0, 0.1, 0.5]
    nets = [fn.MLP(net.widths, activation=fn.tanh, loss=net.loss, l2=v, dropout=0.3) for v in l2s]
    stacked_nets = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(v, WIDE) for v in leaves]), *nets)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.5, leaf * 2]), params)
    key = jax.random.key(3)

    def run(net, params):
        return fn.value_and_grad(net, params, x, y, key=key)

    values, grads = jax.jit(jax.vmap(run))(stacked_nets, stacked)
    for i, single in enumerate(nets):
        expected = run(single, jax.tree.map(lambda leaf, i=i: leaf[i], stacked))
        got = (values[i], jax.tree.map(lambda leaf, i=i: leaf[i], grads))
        assert_close(got, expected)


def test_equal_descriptions_compile_once():
    traces = []

    @jax.jit
    def run(net, params, x, y):
        traces.append(net)
        return fn.value_and_grad(net, params, x, y)[0]

    for l2 in (0.1, 0.2):
        for delta in (1.0, 1):
            net, params, x, y = case(loss=fn.huber(delta), l2=l2)
            run(net, params, x, y)
    assert len(traces) == 1
    run(*case(loss=fn.huber(2.0), l2=0.1))
    assert len(traces) == 2


def test_custom_activation_and_loss():
    def curvature(outputs, y):
        return 1 / jnp.cosh(outputs - y) ** 2

    square = fn.Activation(
        "square",
        value=lambda z: z * z,
        slope=lambda z, h: 2 * z,
        curvature=lambda z, h: jnp.full_like(z, 2),
        third=lambda z, h: jnp.zeros_like(z),
    )
    log_cosh = fn.Loss(
        "log_cosh",
        value=lambda outputs, y: jnp.sum(jnp.log(jnp.cosh(outputs - y)), axis=1),
        gradient=lambda outputs, y: jnp.tanh(outputs - y),
        hessian_action=lambda outputs, y, v: curvature(outputs, y) * v,
        hessian_factor=lambda outputs, y: fn.losses.diagonal(jnp.sqrt(curvature(outputs, y))),
    )
    assert not expected_to_fit(against_oracle(*case(square, log_cosh), compiled=True))


def test_a_wrong_gradient_is_seen():
    """The comparison that all these tests rest on fails on a slope that is off by 0.05 %."""
    slope = fn.tanh.slope
    off = fn.Activation("off", fn.tanh.value, lambda z, h: 1.0005 * slope(z, h), fn.tanh.curvature, fn.tanh.third)
    assert expected_to_fit(against_oracle(*case(off)))
    wrong = fn.Loss(
        "wrong",
        value=fn.half_squared_error.value,
        gradient=lambda outputs, y: (outputs - y) * outputs.shape[1],
        hessian_action=fn.half_squared_error.hessian_action,
        hessian_factor=fn.half_squared_error.hessian_factor,
    )
    result = against_oracle(*case(loss=wrong))
    assert expected_to_fit(result)
    assert result.leaves[-1].ratio == pytest.approx(3)
    assert not expected_to_fit(against_oracle(*case(loss=wrong, k=1)))


def test_targets_of_another_dtype():
    net, params, x, y = case(loss=fn.poisson)
    assert_close(fn.value_and_grad(net, params, x, y.astype("int32")), fn.value_and_grad(net, params, x, y))
    assert targets(fn.poisson).dtype == WIDE
