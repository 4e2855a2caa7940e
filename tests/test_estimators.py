"""`funcnet.estimators`: scikit-learn's own checks, its numbers step by step, and what is new."""

import copy
import itertools
import pickle
import warnings

import jax
import numpy as np
import optax
import pytest
from cases import some
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_iris, load_linnerud, make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import funcnet as fn
from funcnet.estimators import MLPClassifier, MLPRegressor, passes
from funcnet.training.programs import compiled

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
IRIS, SPECIES = load_iris(return_X_y=True)
IRIS = (IRIS - IRIS.mean(axis=0)) / IRIS.std(axis=0)
BODY, EXERCISE = load_linnerud(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "random_state": 0}


@pytest.mark.slow  # each compiles for data of its own
@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def with_parameters_of(theirs, ours, scale):
    """Ours with the parameters of theirs and a solver that begins anew; our losses are so many times as large."""
    layers = zip(theirs.coefs_, theirs.intercepts_, strict=True)
    with jax.enable_x64(True):
        ours._params = tuple(fn.Layer(jax.numpy.asarray(w), jax.numpy.asarray(b)) for w, b in layers)
    ours._state, ours._rate, ours.t_ = None, ours.learning_rate_init, theirs.t_
    ours.loss_curve_, ours.best_loss_ = list(theirs.loss_curve_), theirs.best_loss_ * scale
    return ours


KINDS = ["two classes", "three classes", "labels", "numbers"]
STEPS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.02, "momentum": 0.5},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 2},
    "adam": {"solver": "adam", "epsilon": 1e-6, "beta_1": 0.8},
}


@pytest.mark.parametrize(("kind", "steps"), some(itertools.product(KINDS, STEPS), 6))
def test_every_step_is_scikit_learns(kind, steps):
    y = {
        "two classes": SPECIES[:100],
        "three classes": SPECIES,
        "labels": np.eye(3, dtype=int)[SPECIES],
        "numbers": IRIS[:, 2:] @ np.array([[1.0, 2], [3, 4]]),
    }[kind]
    x = IRIS[: len(y)]
    settings = {"activation": "tanh", "hidden_layer_sizes": (5, 4), "alpha": 3.0, "batch_size": 32, "shuffle": False}
    settings |= {"random_state": 1, "warm_start": True, "max_iter": 1, **STEPS[steps]}
    ours, theirs = (MLPRegressor, TheirRegressor) if kind == "numbers" else (MLPClassifier, TheirClassifier)
    scale = 2 if kind == "numbers" else 1  # scikit-learn reports the mean over outputs of what it minimises the sum of
    theirs = theirs(**settings).fit(x, y)
    ours = ours(**{**settings, "tol": scale * settings.get("tol", 1e-4)}).fit(x, y)
    ours = with_parameters_of(theirs, ours, scale)
    theirs.set_params(max_iter=8).fit(x, y)
    ours.set_params(max_iter=8).fit(x, y)
    for own, their in zip([*ours.coefs_, *ours.intercepts_], [*theirs.coefs_, *theirs.intercepts_], strict=True):
        np.testing.assert_allclose(own, their, rtol=1e-8, atol=1e-9)
    if kind != "numbers":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-6, atol=1e-9)
    assert ours.out_activation_ == theirs.out_activation_
    assert (ours.n_layers_, ours.n_outputs_) == (theirs.n_layers_, theirs.n_outputs_)


@pytest.mark.parametrize("solver", ["adam", "sgd", "adaptive", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_same_random_state_gives_scikit_learns_model(solver, early_stopping):
    settings = {"random_state": 3, "solver": solver, "batch_size": 60, "early_stopping": early_stopping}
    settings |= {"max_iter": 10 if solver == "lbfgs" else 30}
    if solver == "adaptive":  # the rate falls while orders of later passes are drawn already
        settings |= {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.02, "n_iter_no_change": 3}
    y = SPECIES == 2 if early_stopping else SPECIES  # of more classes it does not stratify, against its own words
    for activation in ("relu", "logistic"):
        ours, theirs = (library((20, 10), activation, **settings) for library in (MLPClassifier, TheirClassifier))
        ours.fit(IRIS, y), theirs.fit(IRIS, y)
        np.testing.assert_allclose(ours.predict_proba(IRIS), theirs.predict_proba(IRIS), rtol=1e-6, atol=1e-9)
        assert ours.n_iter_ == theirs.n_iter_
        assert ours.validation_scores_ == getattr(theirs, "validation_scores_", None)


def test_the_network_for_functions_is_without_the_penalty():
    model = MLPClassifier(**SMALL, solver="lbfgs", alpha=3.0, max_iter=50).fit(IRIS, SPECIES)
    penalty = 1.5 * sum(float(np.sum(w**2)) for w in model.coefs_) / 150
    with jax.enable_x64(True):
        loss = float(fn.loss(model.net_, model.params_, IRIS, SPECIES))
    assert loss + penalty == pytest.approx(model.loss_, rel=1e-9)


def test_alpha_is_divided_by_the_batch_size():
    losses = {}
    for batch_size in (30, 150):
        model = MLPClassifier(
            **SMALL, alpha=7.0, solver="sgd", learning_rate_init=1e-12, batch_size=batch_size, max_iter=1
        ).fit(IRIS, SPECIES)
        penalty = 3.5 * sum(float(np.sum(w**2)) for w in model.coefs_) / batch_size
        losses[batch_size] = model.loss_ - penalty
    assert losses[30] == pytest.approx(losses[150], rel=1e-9)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs", "rmsprop", "kfac", "gauss-newton", optax.adamw(3e-2)])
def test_solvers(solver):
    name = solver if isinstance(solver, str) else "optax"
    rate = {"sgd": 0.1, "adam": 0.02, "rmsprop": 0.01}.get(name, 0.001)
    model = MLPClassifier(**SMALL, solver=solver, learning_rate_init=rate, max_iter=60).fit(IRIS, SPECIES)
    assert model.score(IRIS, SPECIES) > 0.9
    assert len(model.loss_curve_) == model.n_iter_ <= 60
    assert model.loss_curve_[-1] < 0.6 * model.loss_curve_[0]
    assert hasattr(model, "partial_fit") == (name not in ("lbfgs", "gauss-newton"))


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber", "poisson"])
def test_losses_of_the_regressor(loss):
    model = MLPRegressor(loss, **SMALL, solver="lbfgs", standardize=True, max_iter=300).fit(BODY, EXERCISE)
    assert model.predict(BODY).shape == EXERCISE.shape
    assert model.gradient_report(BODY, EXERCISE).passed
    constant = {"absolute_error": np.median(EXERCISE, axis=0)}.get(loss, EXERCISE.mean(axis=0))
    distance = {"absolute_error": np.abs, "huber": lambda r: np.where(np.abs(r) <= 1, r**2 / 2, np.abs(r) - 0.5)}
    of = distance.get(loss, np.square)
    assert of(model.predict(BODY) - EXERCISE).sum() < of(constant - EXERCISE).sum()
    assert (model.predict(BODY[:3]) > 0).all() or loss != "poisson"


def test_a_network_begins_by_saying_the_mean():
    model = MLPRegressor("poisson", (4,), max_iter=1, learning_rate_init=1e-12, random_state=0).fit(
        BODY, EXERCISE + 300
    )
    np.testing.assert_allclose(model.intercepts_[-1], np.log(EXERCISE.mean(axis=0) + 300))


def test_weights_count_as_rows():
    counts = np.arange(150) % 3
    settings = {**SMALL, "max_iter": 15, "alpha": 1.0, "standardize": True}
    weighted = MLPClassifier(**settings).fit(IRIS, SPECIES, counts)
    repeated = MLPClassifier(**settings).fit(np.repeat(IRIS, counts, axis=0), np.repeat(SPECIES, counts))
    np.testing.assert_allclose(weighted.predict_proba(IRIS), repeated.predict_proba(IRIS), rtol=1e-8)
    balanced = MLPClassifier(**settings, class_weight="balanced").fit(IRIS[:120], SPECIES[:120])
    by_hand = MLPClassifier(**settings).fit(IRIS[:120], SPECIES[:120], np.where(SPECIES[:120] == 2, 2.0, 0.8))
    np.testing.assert_allclose(balanced.predict_proba(IRIS), by_hand.predict_proba(IRIS), rtol=1e-8)


def test_targets_of_all_kinds():
    words = np.array(["setosa", "versicolor", "virginica"], object)[SPECIES]
    settings = {**SMALL, "max_iter": 30}
    by_words = MLPClassifier(**settings).fit(IRIS, words)
    by_numbers = MLPClassifier(**settings).fit(IRIS, SPECIES)
    np.testing.assert_array_equal(by_words.predict(IRIS), by_words.classes_[by_numbers.predict(IRIS)])
    two = MLPClassifier(**settings).fit(IRIS[50:], words[50:])
    assert set(two.predict(IRIS)) <= {"versicolor", "virginica"}
    np.testing.assert_allclose(np.exp(two.predict_log_proba(IRIS)), two.predict_proba(IRIS), rtol=1e-6)
    x, y = make_multilabel_classification(60, 5, n_classes=4, random_state=0)
    labels = MLPClassifier(**settings, label_smoothing=0.1).fit(x, y)
    assert labels.predict_proba(x).shape == y.shape
    np.testing.assert_array_equal(labels.predict(x), labels.predict_proba(x) > 0.5)
    assert labels.gradient_report(x, y).passed


def test_label_smoothing_of_two_and_of_more_classes():
    for rows in (slice(100), slice(150)):
        model = MLPClassifier(**SMALL, solver="lbfgs", label_smoothing=0.4, alpha=0.0, max_iter=500)
        sure = model.fit(IRIS[rows], SPECIES[rows]).predict_proba(IRIS[:50])[:, 0]
        assert np.median(sure) == pytest.approx(1 - 0.4 + 0.4 / len(model.classes_), abs=0.03)


def test_pipelines_searches_and_clones():
    model = make_pipeline(StandardScaler(), MLPClassifier(**SMALL, max_iter=50))
    search = GridSearchCV(
        model, {"mlpclassifier__alpha": [0.0, 1.0], "mlpclassifier__learning_rate_init": [0.001, 0.03]}
    )
    search.fit(IRIS, SPECIES)
    assert search.best_params_["mlpclassifier__learning_rate_init"] == 0.03
    assert search.best_score_ > 0.9
    assert clone(search.best_estimator_[-1]).get_params() == search.best_estimator_[-1].get_params()
    assert cross_val_score(MLPRegressor(**SMALL, solver="lbfgs"), IRIS[:, :3], IRIS[:, 3], cv=3).shape == (3,)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(library):
    frames = pytest.importorskip(library)
    table = frames.DataFrame({f"f{i}": IRIS[:, i] for i in range(4)})
    y = (
        frames.Series(["a", "b", "c"])[SPECIES]
        if library == "polars"
        else frames.Series(SPECIES).map({0: "a", 1: "b", 2: "c"})
    )
    model = MLPClassifier(**SMALL, max_iter=5).fit(table, y)
    assert list(model.feature_names_in_) == ["f0", "f1", "f2", "f3"]
    np.testing.assert_array_equal(
        model.predict(table), MLPClassifier(**SMALL, max_iter=5).fit(IRIS, np.asarray(y)).predict(IRIS)
    )
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table.rename({"f0": "g"}) if library == "polars" else table.rename(columns={"f0": "g"}))


def test_sparse_features_are_those_made_dense():
    model = MLPClassifier(**SMALL, max_iter=5).fit(sparse.csr_array(IRIS), SPECIES)
    np.testing.assert_array_equal(
        model.predict(sparse.csr_array(IRIS)), MLPClassifier(**SMALL, max_iter=5).fit(IRIS, SPECIES).predict(IRIS)
    )


def test_a_pickle_goes_on_where_it_was():
    model = MLPClassifier(**SMALL, dropout=0.2, batch_size=40).partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(other.predict_proba(IRIS), model.predict_proba(IRIS))
        one, two = copy.deepcopy(model).partial_fit(IRIS, SPECIES), other.partial_fit(IRIS, SPECIES)
        np.testing.assert_array_equal(one.coefs_[0], two.coefs_[0])
        assert two.loss_curve_[0] == model.loss_curve_[0]
    assert pickle.loads(pickle.dumps(MLPClassifier(alpha=2.0))).alpha == 2.0


@pytest.mark.parametrize("solver", ["adam", "kfac"])
def test_a_warm_start_keeps_the_solvers_state(solver):
    settings = {**SMALL, "solver": solver, "shuffle": False, "warm_start": True}
    parts = MLPClassifier(**settings, max_iter=4).fit(IRIS, SPECIES).fit(IRIS, SPECIES)
    whole = MLPClassifier(**settings, max_iter=8).fit(IRIS, SPECIES)
    np.testing.assert_allclose(parts.coefs_[0], whole.coefs_[0], rtol=1e-9)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-9)
    with pytest.raises(ValueError, match=r"goes on from a network of widths \(4, 6, 3\); got \(4, 7, 3\)"):
        parts.set_params(hidden_layer_sizes=(7,)).fit(IRIS, SPECIES)


def test_the_same_seed_gives_the_same():
    settings = {"hidden_layer_sizes": (6,), "max_iter": 3, "dropout": 0.3, "batch_size": 50, "early_stopping": True}
    one, two, three = (MLPClassifier(**settings, random_state=s).fit(IRIS, SPECIES).coefs_[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != three).all()


def test_a_validation_set_of_ones_own():
    held_out = IRIS[::3], SPECIES[::3]
    rest = np.arange(150) % 3 > 0
    settings = {**SMALL, "learning_rate_init": 0.3, "max_iter": 40}
    model = MLPClassifier(**settings).fit(IRIS[rest], SPECIES[rest], validation_data=held_out)
    assert len(model.validation_scores_) == len(model.validation_loss_curve_) == len(model.loss_curve_) == model.n_iter_
    assert model.score(*held_out) == max(model.validation_scores_) == model.best_validation_score_
    probabilities = model.predict_proba(held_out[0])[np.arange(50), held_out[1]]
    best = int(np.argmax(model.validation_scores_))
    assert -np.log(probabilities).mean() == pytest.approx(model.validation_loss_curve_[best], rel=1e-6)
    last = MLPClassifier(**settings, restore_best_weights=False).fit(
        IRIS[rest], SPECIES[rest], validation_data=held_out
    )
    assert last.score(*held_out) == last.validation_scores_[-1]


def test_early_stopping():
    model = MLPClassifier(**SMALL, early_stopping=True, learning_rate_init=0.05, n_iter_no_change=3).fit(IRIS, SPECIES)
    assert model.n_iter_ < 200
    assert model.best_loss_ is None
    numbers = MLPRegressor(**SMALL, early_stopping=True, solver="lbfgs", n_iter_no_change=3)
    assert numbers.fit(IRIS, IRIS[:, 3] ** 2).validation_scores_ is None
    numbers.fit(IRIS, IRIS[:, 3] ** 2, validation_data=(IRIS[::3], IRIS[::3, 3] ** 2))
    assert len(numbers.validation_scores_) == numbers.n_iter_ < 200


def test_divergence_with_a_validation_set_keeps_the_best():
    model = MLPRegressor(**SMALL, solver="sgd", learning_rate_init=1e4, batch_size=50)
    with pytest.warns(ConvergenceWarning, match="was not finite in iteration .*; the best parameters before are kept"):
        model.fit(IRIS, IRIS[:, 0], validation_data=(IRIS, IRIS[:, 0]))
    assert np.isfinite(model.predict(IRIS)).all()
    assert model.score(IRIS, IRIS[:, 0]) == model.best_validation_score_


def test_other_sizes_and_settings_compile_nothing_anew():
    model = MLPClassifier((7,), max_iter=2, random_state=0).fit(IRIS[:142], SPECIES[:142])
    model.predict(IRIS[:20])
    programs = compiled(passes._run, model._net)
    before = programs._cache_size(), passes._apply._cache_size()
    for n in (137, 143):
        other = MLPClassifier((7,), max_iter=2, alpha=0.1, learning_rate_init=0.01, beta_1=0.8, random_state=n)
        other.fit(IRIS[-n:], SPECIES[-n:]).predict(IRIS[: n - 120])
    batches = MLPClassifier((7,), max_iter=1, batch_size=4).fit(IRIS, SPECIES)
    assert (programs._cache_size(), passes._apply._cache_size()) == (before[0] + 1, before[1])
    batches.fit(IRIS[:146], SPECIES[:146])  # 37 batches for 38
    assert programs._cache_size() == before[0] + 1


def test_large_features_are_standardised_and_parameters_take_them_as_they_come():
    x = 1000 * IRIS + 5000
    model = MLPClassifier(**SMALL, max_iter=10).fit(x, SPECIES)
    plain = MLPClassifier(**SMALL, max_iter=10).fit(IRIS, SPECIES)
    np.testing.assert_allclose(model.predict_proba(x), plain.predict_proba(IRIS), rtol=1e-5)
    with jax.enable_x64(True):
        outputs = np.asarray(fn.apply(model.net_, model.params_, x))
    np.testing.assert_allclose(jax.nn.softmax(outputs), model.predict_proba(x), rtol=1e-5)
    assert not np.allclose(
        MLPClassifier(**SMALL, max_iter=10, standardize=False).fit(x, SPECIES).coefs_[0], model.coefs_[0]
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes(dtype):
    for model in (MLPClassifier(**SMALL, max_iter=2, dtype=dtype), MLPClassifier(**SMALL, max_iter=2)):
        x = IRIS if model.dtype else IRIS.astype(dtype)
        model.fit(x, SPECIES)
        assert model.coefs_[0].dtype == model.predict_proba(x).dtype == dtype
    assert MLPClassifier(**SMALL, max_iter=2, device="cpu").fit(IRIS, SPECIES).params_[0].w.devices() == {
        jax.devices("cpu")[0]
    }


def test_an_activation_for_each_layer_and_dropout():
    model = MLPClassifier((5, 4), ("tanh", "gelu"), dropout=0.5, max_iter=3, random_state=0).fit(IRIS, SPECIES)
    assert [a.name for a in model.net_.activations] == ["tanh", "gelu", "identity"]
    without = MLPClassifier((5, 4), ("tanh", "gelu"), max_iter=3, random_state=0).fit(IRIS, SPECIES)
    assert model.loss_curve_[0] != without.loss_curve_[0]
    np.testing.assert_array_equal(model.predict_proba(IRIS), model.predict_proba(IRIS))


def test_what_is_said(capsys):
    with pytest.warns(ConvergenceWarning, match="max_iter=2 iterations were not enough"):
        MLPClassifier(**SMALL, max_iter=2, verbose=True).fit(IRIS, SPECIES)
    assert capsys.readouterr().out.startswith("Iteration 1, loss = ")
    with pytest.warns(UserWarning, match="batch_size 500 is more than the 150 examples"):
        MLPClassifier(**SMALL, max_iter=2, batch_size=500).fit(IRIS, SPECIES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(**SMALL, max_iter=500, tol=1e-2, solver="sgd", learning_rate_init=0.1).fit(IRIS, SPECIES)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number of at least 0; got -1.0"),
        ({"activation": "softsign"}, "activation must be one of .*; got 'softsign'"),
        (
            {"activation": ("relu", "tanh")},
            "activation must be one for all or one for each of the 1 hidden layers; got 2",
        ),
        ({"solver": "newton"}, "solver must be one of lbfgs, .* or an Optax transformation; got 'newton'"),
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"learning_rate": "cosine"}, "learning_rate must be one of constant, invscaling, adaptive; got 'cosine'"),
        ({"momentum": 1.5}, r"momentum must be in \[0, 1\]; got 1.5"),
        ({"validation_fraction": 0.0}, r"validation_fraction must be in \(0, 1\); got 0"),
        (
            {"early_stopping": True, "validation_fraction": 0.01},
            "validation_fraction must leave at least 3 examples .* leaves 2",
        ),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\); got 1.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\); got 1.0"),
        ({"dtype": "float16"}, "dtype must be None, 'float32' or 'float64'; got 'float16'"),
        ({"standardize": "yes"}, "standardize must be True, False or 'auto'; got 'yes'"),
        ({"max_iter": 0}, "max_iter must be at least 1; got 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MLPClassifier(**{**SMALL, **settings}).fit(IRIS, SPECIES)


@pytest.mark.bad_input
def test_data_that_does_not_fit():
    model = MLPClassifier(**SMALL, max_iter=2)
    with pytest.raises(ValueError, match="y must hold at least 2 classes to learn from; got 1 class, 0"):
        model.fit(IRIS[:50], SPECIES[:50])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(IRIS, SPECIES)
    with pytest.raises(ValueError, match="early_stopping must be False for partial_fit"):
        MLPClassifier(early_stopping=True).partial_fit(IRIS, SPECIES, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"validation_data must be \(X, y\) or \(X, y, weights\); got ndarray"):
        model.fit(IRIS, SPECIES, validation_data=IRIS)
    with pytest.raises(ValueError, match=r"y must be of the classes \[0 1 2\]; got \[7\]"):
        model.fit(IRIS, SPECIES, validation_data=(IRIS[:2], [0, 7]))
    with pytest.raises(ValueError, match="sample_weight must be finite and not negative"):
        model.fit(IRIS, SPECIES, -np.ones(150))
    with pytest.raises(ValueError, match="must not be negative for loss 'poisson'; got -"):
        MLPRegressor("poisson", **SMALL).fit(IRIS, IRIS[:, 0])
    with pytest.raises(ValueError, match=r"X must hold numbers below 3\.4e"):
        MLPClassifier(**SMALL, dtype="float32", standardize=False).fit(IRIS * 1e39, SPECIES)
    with pytest.raises(ValueError, match="the loss or a parameter was not finite in iteration"):
        MLPRegressor(**SMALL, solver="sgd", learning_rate_init=1e9).fit(IRIS, IRIS[:, 0])


def test_a_larger_problem():
    x, y = make_classification(600, 12, n_informative=6, random_state=0)
    model = MLPClassifier((20,), batch_size=64, max_iter=60, learning_rate_init=0.01, random_state=0).fit(
        x[:400], y[:400]
    )
    assert model.score(x[400:], y[400:]) > 0.85
