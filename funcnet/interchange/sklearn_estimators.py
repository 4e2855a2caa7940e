"""scikit-learn: weights of fitted `MLPClassifier` and `MLPRegressor`, and fitted estimators made of weights."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import DTypeLike

from funcnet.activations import Activation, by_name, identity, relu
from funcnet.boundary import check_network
from funcnet.interchange.assembly import Affine, network_of_maps
from funcnet.losses import Loss, half_squared_error, poisson, sigmoid_cross_entropy, softmax_cross_entropy
from funcnet.network import MLP
from funcnet.precision import work_dtype
from funcnet.types import Layer, Params

NAMES = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
"""scikit-learn's names of the activations that it has."""
LOSSES: dict[str, Loss] = {
    "logistic": sigmoid_cross_entropy,
    "softmax": softmax_cross_entropy,
    "identity": half_squared_error,
    "exp": poisson,
}
"""The loss that goes with an output activation of scikit-learn's."""


def from_sklearn(estimator: Any, *, dtype: DTypeLike | None = None) -> tuple[MLP, Params]:
    """Network and parameters of a fitted `MLPClassifier` or `MLPRegressor`, scikit-learn's or funcnet's.

    A classifier of two classes has one output, the logit of the second, and the sigmoid's cross-entropy. `l2` is None:
    an estimator's alpha is divided by the number of examples in a batch.

    Args:
        estimator: The fitted estimator, not a pipeline with it.
        dtype: What to round the weights to. By default they keep their own, which is float64 unless X was float32, and
            needs jax_enable_x64.

    Raises:
        TypeError: If it is no such estimator.
        ValueError: If it is not fitted, or float64 without jax_enable_x64.
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    from sklearn import neural_network

    if not isinstance(estimator, (neural_network.MLPClassifier, neural_network.MLPRegressor)) and not _is_ours(
        estimator
    ):
        raise TypeError(
            "estimator must be an MLPClassifier or an MLPRegressor (of a search best_estimator_, of a pipeline the "
            f"last step); got {type(estimator).__name__}"
        )
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"estimator must be fitted; got a {type(estimator).__name__} that is not")
    pairs = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    maps = [Affine(f"coefs_[{i}]", _as(w, dtype), _as(b, dtype)) for i, (w, b) in enumerate(pairs)]
    if jnp.asarray(maps[0].w).dtype != maps[0].w.dtype:
        raise ValueError(
            f"dtype must be 'float32' or another that JAX holds, to round weights that are {maps[0].w.dtype}; "
            "with jax_enable_x64 they come as they are"
        )
    if _is_ours(estimator):
        ours: Any = estimator
        net: MLP = ours.net_
        return network_of_maps(maps, loss=net.loss, activation=net.activations[:-1], dropout=net.dropout)
    own = {sklearns: name for name, sklearns in NAMES.items()}
    return network_of_maps(maps, loss=LOSSES[estimator.out_activation_], activation=by_name(own[estimator.activation]))


def _is_ours(estimator: Any) -> bool:
    """Whether it is one of `funcnet.estimators`."""
    return type(estimator).__module__.startswith("funcnet.estimators")


def _as(array: np.ndarray, dtype: DTypeLike | None) -> np.ndarray:
    return array if dtype is None else np.asarray(array, jnp.dtype(dtype))


def to_sklearn(net: MLP, params: Params, *, classes: Sequence[Any] | np.ndarray | None = None) -> Any:
    """A fitted `MLPClassifier` or `MLPRegressor` of scikit-learn that predicts what the network says.

    Classifiers come of cross-entropies: of a softmax for several classes, of a sigmoid for two (one output) or for
    several labels at once. A softmax of two classes becomes one output, the difference of its two logits, rounded
    once. Regressors come of the other losses; scikit-learn knows `half_squared_error` and `poisson`, which matters only
    if it is trained on.

    Args:
        net: The network, of one of scikit-learn's activations: identity, relu, sigmoid, tanh.
        params: Its parameters; float16 and bfloat16 become float32, the same numbers.
        classes: What the classes are called, in ascending order; by default 0, 1, ….

    Raises:
        TypeError: If params are not those of the network.
        ValueError: If scikit-learn has no such network, or classes do not fit it.
        ModuleNotFoundError: If scikit-learn is not installed (it is in the extra `train`).
    """
    check_network(net, params)
    dtype = work_dtype(params[0].w.dtype)
    layers = [Layer(*jax.tree.map(lambda leaf: np.array(leaf).astype(dtype), tuple(layer))) for layer in params]
    if net.loss.targets == "classes" and net.widths[-1] == 2:
        w, b = layers[-1]
        layers[-1] = layers[-1]._replace(w=w[:, 1:] - w[:, :1], b=b[1:] - b[:1])
    estimator = _prepared(net, layers, _checked_classes(net, classes))
    estimator.coefs_, estimator.intercepts_ = [layer.w for layer in layers], [layer.b for layer in layers]
    return estimator


def _checked_classes(net: MLP, classes: Sequence[Any] | np.ndarray | None) -> np.ndarray | None:
    """The names of the classes; None for several labels at once and for numbers.

    Raises:
        ValueError: If there are none to name, or they are not as many as the network's, ascending.
    """
    k, one_of_them = net.widths[-1], net.loss.targets == "classes"
    if not net.loss.logits or not (one_of_them or k == 1):
        if classes is not None:
            kind = "several labels at once" if net.loss.logits else "numbers"
            raise ValueError(f"classes must be left out for {net.loss.name} of {k} outputs, which predicts {kind}")
        return None
    expected = k if one_of_them else 2
    named = np.arange(expected) if classes is None else np.asarray(classes)
    if named.shape != (expected,) or not np.array_equal(np.unique(named), named):
        raise ValueError(f"classes must be {expected} different ones in ascending order; got {named.tolist()}")
    return named


def _activation(net: MLP) -> str:
    """scikit-learn's name of the hidden layers' activation.

    Raises:
        ValueError: If it has none.
    """
    hidden: set[Activation] = set(net.activations[:-1]) or {relu}
    if len(hidden) > 1 or (name := next(iter(hidden))).name not in NAMES or by_name(name.name) != name:
        names = ", ".join(sorted(activation.name for activation in hidden))
        raise ValueError(f"activation must be one of {', '.join(NAMES)}, the same in all layers; got {names}")
    if net.output_activation != identity:
        raise ValueError(f"output_activation must be identity for scikit-learn; got {net.output_activation.name}")
    return NAMES[name.name]


def _prepared(net: MLP, layers: Sequence[Layer], classes: np.ndarray | None) -> Any:
    """An estimator with all that fitting leaves behind, by one step on zeros, and as if it had not been trained."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    sizes, k = net.widths[1:-1], net.widths[-1]
    options: dict[str, Any] = {"hidden_layer_sizes": sizes, "activation": _activation(net), "random_state": 0}
    if not net.loss.logits:
        if net.loss == poisson and "loss" not in MLPRegressor().get_params():
            raise ValueError("poisson needs scikit-learn 1.7 or newer, whose MLPRegressor has that loss")
        link: Any = {"loss": "poisson"} if net.loss == poisson else {}
        estimator: Any = MLPRegressor(**options, **link)
        estimator.partial_fit(
            np.zeros((2, net.widths[0]), layers[0].w.dtype), np.zeros((2, k))[:, 0 if k == 1 else slice(k)]
        )
    else:
        y = np.eye(2, k, dtype=int) if classes is None else classes
        estimator = MLPClassifier(**options)
        estimator.partial_fit(
            np.zeros((len(y), net.widths[0]), layers[0].w.dtype),
            y,
            classes=np.arange(k) if classes is None else classes,
        )
    vars(estimator).pop("_optimizer", None)  # its moments are those of the step on zeros
    estimator.n_iter_ = estimator.t_ = 0
    estimator.loss_, estimator.best_loss_, estimator.loss_curve_ = np.nan, np.inf, []
    return estimator.set_params(random_state=None)
