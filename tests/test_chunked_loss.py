"""A network whose last layer runs over chunks of classes gives what the plain loss gives and stores no logits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DTYPES, WIDE, N, against_oracle, assert_close, case, expected_to_fit, signed_weights, some

import funcnet as fn
from funcnet.checking import check_gradient
from funcnet.losses import chunk_of

K = 11
SIZES = [1, 11, 100]
OPTIONS = {
    "plain": {},
    "l2": {"l2": 0.1},
    "dropout": {"dropout": 0.4},
    "bfloat16 operands": {"operand_dtype": "bfloat16", "l2": 0.1},
    "all": {"l2": 0.1, "dropout": 0.4, "operand_dtype": "bfloat16"},
}


def plainly(net):
    return dataclasses.replace(net, loss=fn.softmax_cross_entropy)


def assert_same(net, params, x, y, compiled=True, **kwargs):
    """Value and gradient of the chunked and the plain loss."""

    def both(params, x, y, kwargs):
        return [fn.value_and_grad(each, params, x, y, **kwargs) for each in (net, plainly(net))]

    assert_close(*(jax.jit(both) if compiled else both)(params, x, y, kwargs))


def one_layer(dtype=WIDE, **fields):
    net = fn.MLP((5, K), loss=fn.softmax_cross_entropy_chunked(4), **fields)
    _, _, x, y = case(loss=net.loss, dtype=dtype, k=K)
    return net, fn.init(jax.random.key(0), net, dtype=dtype), x, y


@pytest.mark.parametrize(
    ("dtype", "size"), some([*((dtype, 4) for dtype in DTYPES), *((WIDE, size) for size in SIZES)], 3)
)
def test_value_and_gradient(dtype, size):
    """11 classes: by ones, with a rest, all at once, and more at a time than there are."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy_chunked(size), dtype, K, l2=0.1)
    weights = signed_weights(dtype)
    assert_same(net, params, x, y)
    assert not expected_to_fit(against_oracle(net, params, x, y, weights=weights, compiled=True))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("option", "compiled"), some([*((option, True) for option in OPTIONS), ("all", False), ("plain", False)], 4)
)
def test_with_everything_else(option, compiled):
    """An activation for each layer, so that the last hidden one's own slope and mask are taken."""
    fields, key = OPTIONS[option], jax.random.key(3)
    net, params, x, y = case((fn.gelu, fn.elu), fn.softmax_cross_entropy_chunked(4), "float32", K, **fields)
    assert_same(net, params, x, y, compiled, weights=signed_weights("float32"), key=key)
    assert_same(*one_layer("float32", **fields), compiled, weights=signed_weights("float32"), key=key)


@pytest.mark.parametrize("layers", some([3, 1], 1))
def test_the_checker_accepts_it(layers):
    arguments = case(fn.silu, fn.softmax_cross_entropy_chunked(4), k=K, l2=0.1) if layers == 3 else one_layer()
    assert check_gradient(fn.loss, fn.value_and_grad, *arguments, argnums=1).passed


def test_weights():
    """0 equals the row absent, be its features NaN and its label unknown; all of them 0 leave the penalty."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy_chunked(4), k=K, l2=0.1)
    weights = signed_weights()
    present = np.asarray(weights != 0)
    got = jax.jit(fn.value_and_grad)(net, params, x.at[4].set(jnp.nan), y.at[4].set(-1), weights=weights)
    assert_close(got, fn.value_and_grad(plainly(net), params, x[present], y[present], weights=weights[present]))
    assert_same(net, params, x, y, weights=jnp.zeros(N, WIDE))
    assert_same(net, params, x[:0], y[:0])


@pytest.mark.parametrize("bad", [-1, K, -100])
def test_a_label_that_is_no_class(bad):
    for net, params, x, labels in (case(fn.tanh, fn.softmax_cross_entropy_chunked(4), k=K), one_layer()):
        y = labels.at[2].set(bad)
        value, grads = fn.value_and_grad(net, params, x, y)
        assert jnp.isnan(value)
        expected = fn.value_and_grad(plainly(net), params, x, y)[1]
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(expected))
        assert_close(grads, expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8"])
def test_labels_of_any_integer_kind(dtype):
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy_chunked(1), k=2)
    assert_same(net, params, x, y.astype(dtype))


def test_masked_classes_and_sure_labels():
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy_chunked(4), k=K)
    for bias in (params[-1].b.at[5].set(-jnp.inf), params[-1].b.at[2].set(1000.0)):
        changed = (*params[:-1], fn.Layer(params[-1].w, bias))
        assert_same(net, changed, x, jnp.where(y == 5, 2, y))


def test_weights_of_classes_take_the_plain_path():
    net, params, x, _ = case(fn.tanh, fn.softmax_cross_entropy_chunked(4), k=K)
    y = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (N, K)), WIDE)
    got, expected = (fn.value_and_grad(which, params, x, y) for which in (net, plainly(net)))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), got, expected))


@pytest.mark.slow
def test_many_networks_at_once():
    """`jax.vmap` over parameters and l2."""
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy_chunked(4), k=K, l2=0.1)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 0.5 * leaf]), params)
    nets = dataclasses.replace(net, l2=jnp.asarray([0.1, 0.0]))
    axes = dataclasses.replace(net, l2=0)
    got = jax.jit(jax.vmap(fn.value_and_grad, (axes, 0, None, None)))(nets, stacked, x, y)
    for i, l2 in enumerate((0.1, 0.0)):
        own = dataclasses.replace(plainly(net), l2=l2)
        expected = fn.value_and_grad(own, jax.tree.map(lambda leaf, i=i: leaf[i], stacked), x, y)
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], got), expected)


@pytest.mark.parametrize("hidden", [(), (16,)])
def test_the_logits_are_never_in_memory(hidden):
    """By what XLA says of the compiled program; the plain loss needs them, so the measure would show them."""
    n, d, k = 256, 8, 5000
    net = fn.MLP((d, *hidden, k), loss=fn.softmax_cross_entropy_chunked(250))
    params = fn.init(jax.random.key(0), net, dtype="float32")
    x, y = jnp.ones((n, d), "float32"), jnp.zeros(n, "int32")

    def temporary(net):
        compiled = jax.jit(fn.value_and_grad).lower(net, params, x, y).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    logits = 4 * n * k
    assert temporary(net) < 0.5 * logits
    assert temporary(plainly(net)) >= logits


def test_what_counts_as_this_loss():
    loss = fn.softmax_cross_entropy_chunked(4)
    assert loss == fn.softmax_cross_entropy_chunked(4.0) == fn.losses.by_name("softmax_cross_entropy_chunked(4)")
    assert loss != fn.softmax_cross_entropy_chunked(5)
    assert chunk_of(loss) == 4
    assert chunk_of(fn.losses.by_name("softmax_cross_entropy_chunked")) == fn.losses.CHUNK
    doubled = dataclasses.replace(loss, value=lambda outputs, y: 2 * fn.softmax_cross_entropy.value(outputs, y))
    for other in (fn.softmax_cross_entropy, fn.huber(4.0), doubled, dataclasses.replace(loss, constants=())):
        assert chunk_of(other) is None


@pytest.mark.parametrize("size", [0, -3, 2.5, float("nan"), float("inf")])
def test_chunk_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match="chunk_size must be a whole number of at least 1; got"):
        fn.softmax_cross_entropy_chunked(size)
    with pytest.raises(ValueError, match="loss 'softmax_cross_entropy_chunked"):
        fn.losses.by_name(f"softmax_cross_entropy_chunked({size})")


def test_a_wrong_gradient_would_be_found():
    net, params, x, y = case(fn.tanh, fn.softmax_cross_entropy_chunked(4), k=K)
    with pytest.raises(AssertionError):
        assert_close(fn.value_and_grad(net, params, x, y), fn.value_and_grad(plainly(net), params, x, (y + 1) % K))
