"""Bad input: each mistake has an error that names the argument, what was expected and what came."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import case

import funcnet as fn

pytestmark = pytest.mark.bad_input

CALLS = [fn.loss, fn.value_and_grad, fn.input_gradient, fn.closed_form_loss, fn.per_example_losses]


def network(**fields):
    return fn.MLP(**({"widths": (5, 7, 3), "activation": fn.relu, "loss": fn.softmax_cross_entropy} | fields))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"widths": (5, 0, 3)}, ValueError, r"widths must be at least 2 numbers of at least 1 .*; got \(5, 0, 3\)"),
        ({"widths": (5,)}, ValueError, r"widths must be at least 2 numbers .*; got \(5,\)"),
        ({"widths": (5, 2.5, 3)}, TypeError, r"widths must be a sequence of whole numbers; got \(5, 2.5, 3\)"),
        ({"widths": 5}, TypeError, r"widths must be a sequence of whole numbers; got 5"),
        ({"widths": (5, 7, 1)}, ValueError, r"widths must end in at least 2 classes for softmax_cross_entropy"),
        ({"activation": "relu"}, TypeError, r"activation must be a funcnet.Activation .*; got 'relu'"),
        ({"activation": (fn.relu, fn.tanh)}, ValueError, r"one for each of the 1 hidden layers; got 2"),
        ({"output_activation": jax.nn.relu}, TypeError, r"output_activation must be a funcnet.Activation"),
        ({"loss": fn.huber}, TypeError, r"loss must be a funcnet.Loss .*; call it: huber\(\)"),
        (
            {"output_activation": fn.sigmoid},
            ValueError,
            r"output_activation must be identity for softmax_cross_entropy, which takes logits; got sigmoid",
        ),
        (
            {"output_activation": fn.sigmoid, "loss": fn.sigmoid_cross_entropy},
            ValueError,
            r"output_activation must be identity for sigmoid_cross_entropy",
        ),
        ({"l2": -0.1}, ValueError, r"l2 must be a finite number of at least 0; got -0.1"),
        ({"l2": "0.1"}, TypeError, r"l2 must be a number; got '0.1'"),
        ({"dropout": 1.0}, ValueError, r"dropout must be in \[0, 1\); got 1.0"),
        ({"operand_dtype": "float8"}, ValueError, r"operand_dtype must be None or 'bfloat16'; got 'float8'"),
    ],
)
def test_networks(fields, error, message):
    with pytest.raises(error, match=message):
        network(**fields)


def test_init():
    with pytest.raises(ValueError, match=r"scheme must be one of he, glorot, lecun; got 'xavier'"):
        fn.init(jax.random.key(0), network(), scheme="xavier")
    with pytest.raises(TypeError, match=r"dtype must be a floating-point one such as 'bfloat16'; got 'bf16'"):
        fn.init(jax.random.key(0), network(), dtype="bf16")
    with pytest.raises(TypeError, match=r"dtype must be a floating-point one; got int32"):
        fn.init(jax.random.key(0), network(), dtype="int32")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_features(call):
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    with pytest.raises(
        ValueError, match=r"x must have 5 features to match params\[0\].w; got 64 \(shape \(9, 8, 8\)\)"
    ):
        call(net, params, jnp.ones((9, 8, 8)), y)
    with pytest.raises(ValueError, match=r"x must be a batch \(n, \*features\) with 5 features; got shape \(5,\)"):
        call(net, params, x[0], y)
    with pytest.raises(TypeError, match=r"x must be floating point, for example x.astype\('float32'\); got int32"):
        call(net, params, x.astype("int32"), y)
    with pytest.raises(TypeError, match=r"x must be a JAX or NumPy array; got list"):
        call(net, params, x.tolist(), y)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_targets(call):
    net, params, x, y = case(loss=fn.softmax_cross_entropy)
    with pytest.raises(ValueError, match=r"y must be labels of shape \(9,\) or target distributions of shape \(9, 3\)"):
        call(net, params, x, y[:, None])
    with pytest.raises(TypeError, match=r"y must be integer labels \(or .*\); got float"):
        call(net, params, x, y.astype("float32"))
    net, params, x, y = case(k=1)
    with pytest.raises(
        ValueError, match=r"y must have the shape \(9, 1\) of the outputs for half_squared_error; got \(9,\)"
    ):
        call(net, params, x, y[:, 0])
    with pytest.raises(ValueError, match=r"y must have the shape \(9, 1\) .*; got \(8, 1\)"):
        call(net, params, x, y[:8])
    with pytest.raises(TypeError, match=r"y must be real numbers; got complex64"):
        call(net, params, x, y.astype("complex64"))


@pytest.mark.parametrize("call", CALLS[:4], ids=lambda call: call.__name__)
def test_weights(call):
    net, params, x, y = case()
    with pytest.raises(ValueError, match=r"weights must have shape \(9,\), one for each example; got \(9, 1\)"):
        call(net, params, x, y, weights=jnp.ones((9, 1)))
    with pytest.raises(TypeError, match=r"weights must be a JAX or NumPy array; got str"):
        call(net, params, x, y, weights="balanced")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_params(call):
    net, params, x, y = case()
    with pytest.raises(ValueError, match=r"params must have 3 layers to match widths \(5, 7, 6, 3\); got 2"):
        call(net, params[:2], x, y)
    swapped = (params[0]._replace(b=params[1].b), *params[1:])
    with pytest.raises(ValueError, match=r"params\[0\].b must have shape \(7,\); got \(6,\)"):
        call(net, swapped, x, y)
    mixed = (params[0]._replace(b=params[0].b.astype("float16")), *params[1:])
    with pytest.raises(
        TypeError, match=r"params must share one .* dtype; got float16 in params\[0\].b, and float.. in params"
    ):
        call(net, mixed, x, y)
    with pytest.raises(TypeError, match=r"params must be a tuple of funcnet.Layer\(w, b\); got dict"):
        call(net, {"w": 1}, x, y)
    with pytest.raises(TypeError, match=r"params must be a tuple of funcnet.Layer\(w, b\); got list"):
        call(net, list(params), x, y)
    whole = tuple(fn.Layer(p.w.astype("int32"), p.b.astype("int32")) for p in params)
    with pytest.raises(TypeError, match=r"params must share one floating-point dtype; got int32 in params\[0\].w$"):
        call(net, whole, x, y)
    with pytest.raises(TypeError, match=r"net must be a funcnet.MLP; got tuple"):
        call((5, 3), params, x, y)


def test_init_refuses_what_is_no_network():
    key = jax.random.key(0)
    with pytest.raises(TypeError, match=r"net must be a funcnet.MLP; got tuple"):
        fn.init(key, (5, 3))
    with pytest.raises(TypeError, match=r"l2 must be a number; got '0.1'"):
        fn.init(key, network(l2="0.1"))


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
@pytest.mark.parametrize("field", ["l2", "dropout"])
def test_penalties(call, field):
    _, params, x, y = case()
    for wrong in ("0.1", True, [0.1]):
        with pytest.raises(TypeError, match=rf"{field} must be a number; got"):
            call(case(**{field: wrong})[0], params, x, y)
    with pytest.raises(ValueError, match=rf"{field} must be one number .*; got shape \(2,\)"):
        call(case(**{field: jnp.ones(2)})[0], params, x, y)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_keys(call):
    with pytest.raises(TypeError, match=r"key must be a random key such as jax.random.key\(0\); got 3"):
        call(*case(), key=3)
    with pytest.raises(TypeError, match=r"key must be a random key such as jax.random.key\(0\); got 0"):
        fn.init(0, network())


def test_rules_of_the_users_own():
    with pytest.raises(TypeError, match=r"curvature of 'mine' must be a function; got 1"):
        fn.Activation("mine", value=jnp.sin, slope=lambda z, h: jnp.cos(z), curvature=1, third=None)
    half = fn.half_squared_error
    scalar = fn.Loss(
        "mean", lambda o, y: jnp.mean((o - y) ** 2), half.gradient, half.hessian_action, half.hessian_factor
    )
    for call in CALLS:
        with pytest.raises(ValueError, match=r"value\(outputs, y\) of loss 'mean' must have shape \(9,\); got \(\)"):
            call(*case(loss=scalar))
    summed = fn.Loss("mine", half.value, lambda o, y: (o - y).sum(axis=1), half.hessian_action, half.hessian_factor)
    with pytest.raises(ValueError, match=r"gradient\(outputs, y\) of loss 'mine' must have shape \(9, 3\); got \(9,\)"):
        fn.value_and_grad(*case(loss=summed))
    flat = fn.Activation("flat", fn.tanh.value, lambda z, h: jnp.ones(()), fn.tanh.curvature, fn.tanh.third)
    with pytest.raises(ValueError, match=r"slope\(z, h\) of activation 'flat' must have shape \(9, 6\); got \(\)"):
        fn.value_and_grad(*case(flat))


def blobs(n=20):
    random = np.random.default_rng(0)
    return random.normal(0, 1, (n, 5)).astype(np.float32), random.integers(0, 3, n).astype(np.int32)


def fit(data, net=None, **kwargs):
    return fn.fit(jax.random.key(0), net or network(), optax.sgd(0.1), data, **({"epochs": 1} | kwargs))


def changed(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x, y: (x[:, :4], y), ValueError, r"data: x must have 5 features .*; got 4 \(shape \(20, 4\)\)"),
        (lambda x, y: (x, changed(y, 3, 3)), ValueError, r"data: y must be labels from 0 to 2, .*; got 3"),
        (lambda x, y: (x, changed(y, 3, -1)), ValueError, r"data: y must be labels from 0 to 2, .*; got -1"),
        (lambda x, y: (x, y.astype(np.float32)), TypeError, r"data: y must be integer labels"),
        (lambda x, y: (x, y[:, None]), ValueError, r"data: y must be labels of shape \(20,\)"),
        (lambda x, y: (changed(x, (7, 2), np.nan), y), ValueError, r"data: x must be finite; got nan at \[7, 2\]"),
        (lambda x, y: (changed(x, (0, 1), -np.inf), y), ValueError, r"data: x must be finite; got -inf at \[0, 1\]"),
        (
            lambda x, y: (changed(x, (7, 2), np.nan), y, np.arange(20.0)),
            ValueError,
            r"data: x must be finite; got nan at \[7, 2\]",
        ),
        (lambda x, y: (x[:0], y[:0]), ValueError, r"data: x must have at least one example; got shape \(0, 5\)"),
        (
            lambda x, y: (x, 0 * y + 2),
            ValueError,
            r"data: y must hold at least 2 classes to learn from; got only class 2",
        ),
        (lambda x, y: (x, y, 0.0 * x[:, 0]), ValueError, r"data: weights must not all be 0"),
        (
            lambda x, y: (x, y, changed(abs(x[:, 0]), 4, -1)),
            ValueError,
            r"weights must not be negative; got -1 at example 4",
        ),
        (
            lambda x, y: (x, y, changed(abs(x[:, 0]), 4, np.nan)),
            ValueError,
            r"data: weights must be finite; got nan at \[4\]",
        ),
        (lambda x, y: (x, y, np.ones(3)), ValueError, r"data: weights must have shape \(20,\)"),
        (lambda x, y: {"x": x, "y": y}, TypeError, r"data must be \(x, y\) or \(x, y, weights\); got dict"),
    ],
)
def test_fit_data(change, error, message):
    with pytest.raises(error, match=message):
        fit(change(*blobs()))


def test_fit_validation_and_counts():
    x, y = blobs()
    for wrong in ("adam", optax.adam, 0.1):
        with pytest.raises(
            TypeError, match=r"optimizer must be an Optax transformation such as optax.adam\(1e-3\); got"
        ):
            fn.fit(jax.random.key(0), network(), wrong, (x, y), epochs=1)
    with pytest.raises(TypeError, match=r"key must be a random key"):
        fn.fit(0, network(), optax.sgd(0.1), (x, y), epochs=1)
    with pytest.raises(TypeError, match=r"net must be a funcnet.MLP; got tuple"):
        fit((x, y), (5, 7, 3))
    with pytest.raises(TypeError, match=r"net must be a funcnet.MLP; got tuple"):
        fn.training.fit_many(
            jax.random.key(0), (5, 3), optax.sgd(0.1), (x, y), {"seed": [0]}, epochs=1, validation=(x, y)
        )
    with pytest.raises(ValueError, match=r"l2 must be a finite number of at least 0; got -1.0"):
        fit((x, y), network(l2=jnp.array(-1.0)))
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\); got 5.0"):
        fit((x, y), network(dropout=np.float32(5)))
    with pytest.raises(ValueError, match=r"validation: y must be labels from 0 to 2"):
        fit((x, y), validation=(x, y + 1))
    with pytest.raises(ValueError, match=r"epochs must be at least 1; got 0"):
        fit((x, y), epochs=0)
    with pytest.raises(TypeError, match=r"batch_size must be a whole number; got 2.5"):
        fit((x, y), batch_size=2.5)
    with pytest.raises(TypeError, match=r"on_epoch must be a function .* got 3"):
        fit((x, y), on_epoch=3)


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (fn.poisson, -1.0, r"data: y must be in \[0, inf\] for poisson; got -1 to"),
        (fn.sigmoid_cross_entropy, 1.5, r"data: y must be in \[0, 1\] for sigmoid_cross_entropy; got 0 to 1.5"),
        (fn.half_squared_error, np.nan, r"data: y must be finite; got nan at \[0, 0\]"),
    ],
)
def test_fit_target_values(loss, y, message):
    x, _ = blobs()
    targets = changed(np.zeros((20, 3), np.float32), (0, 0), y)
    with pytest.raises(ValueError, match=message):
        fit((x, targets), network(loss=loss))


def test_a_failed_call_changes_nothing():
    x, y = blobs()
    before = x.copy()
    with pytest.raises(ValueError, match="weights"):
        fit((x, y, -np.ones(20)))
    np.testing.assert_array_equal(x, before)


def test_layouts():
    params = case()[1]
    with pytest.raises(ValueError, match=r"to must be one of row, column, .*; got 'rows'"):
        fn.layouts.convert(params, to="rows")
    with pytest.raises(ValueError, match=r"source must be one of row, column, .*; got 'rows'"):
        fn.layouts.convert(params, to="row", source="rows")
    with pytest.raises(TypeError, match=r"params\[0\] must be a funcnet.Layer\(w, b\) in layout 'row'; got tuple"):
        fn.layouts.convert(((params[0].w, params[0].b),), to="column")
    with pytest.raises(
        ValueError, match=r"params\[0\] must have a matrix w and one bias for each output in layout 'column'"
    ):
        fn.layouts.convert(params, to="row", source="column")
    with pytest.raises(TypeError, match=r"params\[0\] must be one matrix in layout 'augmented'; got Layer"):
        fn.layouts.convert(params, to="row", source="augmented")
    with pytest.raises(TypeError, match=r"params must be a tuple with one entry for each layer; got Layer"):
        fn.layouts.convert(params[0], to="column")
