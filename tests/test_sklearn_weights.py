"""Weights from and for scikit-learn's estimators: the same predictions on either side, and the same bits back."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import WIDE, X64, assert_close, case
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline

import funcnet as fn
from funcnet.interchange import from_sklearn, to_sklearn

IRIS, KINDS = load_iris(return_X_y=True)
SUGAR, PROGRESSION = load_diabetes(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6, 5), "max_iter": 3, "random_state": 0}
NAMES = np.array(["setosa", "versicolor", "virginica"])
SEVERAL = np.stack([KINDS > 0, KINDS > 1], axis=1).astype(int)
X = IRIS.astype(WIDE)


def fitted(make, x, y, **options):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations do not converge
        return make(**(SMALL | options)).fit(x, y)


def predictions(estimator, x):
    return estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)


def from_outputs(net, params, x):
    """What scikit-learn's estimators return, from funcnet's outputs."""
    values = np.asarray(net.loss.inverse_link(fn.apply(net, params, jnp.asarray(x))))
    if net.widths[-1] > 1:
        return values
    return np.concatenate([1 - values, values], axis=1) if net.loss.logits else values[:, 0]


CASES = {
    "three classes": (MLPClassifier, NAMES[KINDS], fn.softmax_cross_entropy, {"activation": "relu"}),
    "two classes": (MLPClassifier, NAMES[KINDS % 2], fn.sigmoid_cross_entropy, {"activation": "logistic"}),
    "several labels": (MLPClassifier, SEVERAL, fn.sigmoid_cross_entropy, {"activation": "tanh"}),
    "a number": (MLPRegressor, X[:, 0], fn.half_squared_error, {"activation": "identity"}),
    "numbers": (MLPRegressor, X[:, :2], fn.half_squared_error, {"activation": "relu"}),
    "counts": (MLPRegressor, KINDS.astype(float), fn.poisson, {"loss": "poisson"}),
    "no hidden layer": (MLPClassifier, KINDS, fn.softmax_cross_entropy, {"hidden_layer_sizes": ()}),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", CASES)
def test_scikit_learns_own(name):
    make, y, loss, options = CASES[name]
    if "loss" in options and "loss" not in make().get_params():
        pytest.skip("scikit-learn's MLPRegressor has no loss before 1.7")
    estimator = fitted(make, X, y, **options)
    net, params = from_sklearn(estimator)
    assert net.loss == loss
    assert net.widths == (4, *options.get("hidden_layer_sizes", (6, 5)), estimator.n_outputs_)
    assert params[0].w.dtype == WIDE
    assert_close(from_outputs(net, params, X), predictions(estimator, X))
    classes = getattr(estimator, "classes_", None) if name != "several labels" else None
    again = to_sklearn(net, params, classes=classes)
    assert type(again) is make
    for ours, theirs in zip(again.coefs_ + again.intercepts_, estimator.coefs_ + estimator.intercepts_, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(predictions(again, X), predictions(estimator, X))
    np.testing.assert_array_equal(again.predict(X), estimator.predict(X))
    assert (again.out_activation_, again.n_layers_) == (estimator.out_activation_, estimator.n_layers_)
    assert (again.n_features_in_, again.n_iter_) == (4, 0)
    assert from_sklearn(again)[0] == net


def test_funcnets_own():
    for make, y in ((fn.estimators.MLPClassifier, NAMES[KINDS]), (fn.estimators.MLPRegressor, PROGRESSION)):
        x = X if len(y) == len(X) else SUGAR.astype(WIDE)
        for standardize in (False, True):
            estimator = fitted(make, x, y, activation="silu", standardize=standardize)
            net, params = from_sklearn(estimator)
            assert net.l2 is None
            assert net.activation == fn.silu
            assert_close(from_outputs(net, params, x), predictions(estimator, x), terms=16)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_softmax_of_two_classes_and_half_precision(dtype):
    net, params, x, _ = case(activation=fn.relu, loss=fn.softmax_cross_entropy, k=2, dtype=dtype)
    estimator = to_sklearn(net, params, classes=["no", "yes"])
    assert estimator.n_outputs_ == 1
    assert estimator.coefs_[0].dtype == np.float32
    np.testing.assert_array_equal(estimator.coefs_[0], np.asarray(params[0].w, np.float32))
    wide = jax.tree.map(lambda leaf: leaf.astype("float32"), params)
    x = x.astype("float32")
    probabilities = net.loss.inverse_link(fn.apply(net, wide, x))
    assert_close(estimator.predict_proba(np.asarray(x)), probabilities, terms=4)
    expected = np.array(["no", "yes"])[np.argmax(probabilities, axis=1)]
    np.testing.assert_array_equal(estimator.predict(np.asarray(x)), expected)


def test_what_was_made_trains_on_as_if_nothing_had_been():
    net, params, x, _ = case(activation=fn.tanh, loss=fn.half_squared_error)
    state = np.random.get_state()[1].copy()  # noqa: NPY002 (the very state that must be left alone)
    estimator = to_sklearn(net, params)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert estimator.get_params()["random_state"] is None
    assert (estimator.t_, estimator.loss_curve_) == (0, [])
    estimator.partial_fit(np.asarray(x), np.ones((len(x), 3)))
    step = np.abs(estimator.coefs_[0] - np.asarray(params[0].w)).max()
    assert 0 < step < 1.01 * estimator.learning_rate_init  # a first step of Adam, without older moments
    same = to_sklearn(net, params)
    np.testing.assert_array_equal(same.coefs_[0], np.asarray(params[0].w))


@pytest.mark.parametrize(
    ("options", "classes", "message"),
    [
        (
            {"activation": fn.gelu},
            None,
            "activation must be one of identity, sigmoid, tanh, relu, the same in all layers; got gelu",
        ),
        ({"activation": (fn.relu, fn.tanh)}, None, "the same in all layers; got relu, tanh"),
        ({"output_activation": fn.tanh}, None, "output_activation must be identity for scikit-learn; got tanh"),
        ({}, [0, 1, 2], "classes must be left out for half_squared_error of 3 outputs, which predicts numbers"),
        ({"loss": fn.sigmoid_cross_entropy}, [0, 1, 2], "which predicts several labels at once"),
        ({"loss": fn.softmax_cross_entropy}, [0, 1], r"classes must be 3 different ones .*; got \[0, 1\]"),
        ({"loss": fn.softmax_cross_entropy}, ["b", "a", "c"], "in ascending order; got"),
    ],
)
def test_networks_that_scikit_learn_has_not(options, classes, message):
    net, params, _, _ = case(**options)
    with pytest.raises(ValueError, match=message):
        to_sklearn(net, params, classes=classes)


def test_what_is_no_fitted_estimator(monkeypatch):
    with pytest.raises(ValueError, match="estimator must be fitted; got a MLPClassifier that is not"):
        from_sklearn(MLPClassifier())
    with pytest.raises(ValueError, match="estimator must be fitted"):
        from_sklearn(fn.estimators.MLPRegressor())
    for other in (LogisticRegression(), make_pipeline(MLPClassifier()), None):
        with pytest.raises(
            TypeError, match=f"must be an MLPClassifier or an MLPRegressor .*; got {type(other).__name__}"
        ):
            from_sklearn(other)
    net, params, _, _ = case()
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    for call in (lambda: from_sklearn(None), lambda: to_sklearn(net, params)):
        with pytest.raises(ModuleNotFoundError, match="sklearn"):
            call()


def test_a_dtype_of_ones_own():
    estimator = fitted(MLPClassifier, IRIS, KINDS)
    net, params = from_sklearn(estimator, dtype="float32")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    np.testing.assert_array_equal(params[0].w, estimator.coefs_[0].astype("float32"))
    if not X64:
        with pytest.raises(
            ValueError, match="dtype must be 'float32' or another that JAX holds, to round weights that are float64"
        ):
            from_sklearn(estimator)
    assert net.loss == fn.softmax_cross_entropy


def test_read_weights_do_not_change_with_the_estimator():
    estimator = fitted(MLPRegressor, X, X[:, 0])
    _, params = from_sklearn(estimator)
    before = [np.array(leaf) for leaf in jax.tree.leaves(params)]
    for array in (*estimator.coefs_, *estimator.intercepts_):
        array[...] = 7
    for leaf, kept in zip(jax.tree.leaves(params), before, strict=True):
        np.testing.assert_array_equal(leaf, kept)
