"""What classifier and regressor share: scikit-learn's settings, fitting, and what is left behind."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from funcnet.activations import by_name
from funcnet.checking import GradientReport, check_gradient
from funcnet.data.standardisation import fit_standardisation, standardise
from funcnet.estimators import passes
from funcnet.estimators.examples import Data, Role, checked_weights, dense, split, validation_parts
from funcnet.estimators.foundation import BaseEstimator
from funcnet.estimators.loop import forget, train
from funcnet.estimators.pickling import as_plain, from_plain
from funcnet.estimators.settings import check_settings
from funcnet.estimators.start import are_large, folded, initial_parameters, saying_the_mean
from funcnet.gradients import loss, value_and_grad
from funcnet.losses import Loss
from funcnet.network import MLP
from funcnet.training.epoch import State
from funcnet.types import Params

SKLEARN_NAMES = {"logistic": "sigmoid"}
SEEDS = 2**31 - 1
SPARSE = ("csr", "csc", "coo")
DTYPES = (np.float64, np.float32)
Estimator = TypeVar("Estimator", bound="BaseMLP")


def runs_in_passes(estimator: Any) -> bool:
    """Whether there is such a thing as one pass with this solver."""
    if isinstance(estimator.solver, str) and estimator.solver in ("lbfgs", "gauss-newton"):
        raise AttributeError(
            f"partial_fit takes steps on parts of the data; solver {estimator.solver!r} needs all of it"
        )
    return True


class BaseMLP(BaseEstimator, ABC):
    """A multilayer perceptron with scikit-learn's parameters; see `MLPClassifier` and `MLPRegressor`."""

    loss: str
    hidden_layer_sizes: Any
    activation: Any
    solver: Any
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: int
    max_fun: int
    standardize: Any
    dtype: Any
    dropout: float
    restore_best_weights: bool
    device: Any

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Parameters as they are given, for scikit-learn to copy and change; `fit` checks them."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def fit(self: Estimator, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Estimator:
        """Train, from the start or with `warm_start` from where the last call ended, its optimizer's state included.

        Args:
            X: Features, one example a row: an array, a data frame, or a sparse matrix, which is made dense.
            y: Targets.
            sample_weight: A weight of at least 0 for each example; weight 0 is as if it were not there.
            validation_data: `(X, y)` or `(X, y, weights)`, evaluated after each iteration, in the place of
                `validation_fraction` of the training data.

        Raises:
            ValueError: If the data do not fit together, hold what is not finite, or a parameter is out of its range.
        """
        return self._fit(X, y, sample_weight, validation_data, incremental=False)

    def _fit(self: Estimator, X: Any, y: Any, sample_weight: Any, validation_data: Any, incremental: bool) -> Estimator:
        check_settings(self)
        first = not hasattr(self, "_params") or not (self.warm_start or incremental)
        if self.early_stopping and incremental:
            raise ValueError("early_stopping must be False for partial_fit, which has no validation set; got True")
        if first and incremental:
            self._scaling = None  # what the first of many parts looks like tells little
        with self._computing():
            data = self._data(X, y, sample_weight, "more" if incremental or not first else "new", reset=first)
            validation = None
            if validation_data is not None:
                validation = self._data(*validation_parts(validation_data), "held out")
            random = check_random_state(self.random_state)
            if first:
                self._start(data, random)
            self._net = self._network(data)
            if self.early_stopping and validation is None and self.solver != "lbfgs":
                data, validation = split(data, self.validation_fraction, random, self._has_classes(data))
            train(self, data, validation, random, incremental)
        return self

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """With float64 where data hold it, on the device asked for; Optax mixes dtypes where settings are arrays."""
        device = jax.devices(self.device)[0] if isinstance(self.device, str) else self.device
        with jax.enable_x64(True), jax.default_device(device), jax.numpy_dtype_promotion("standard"):
            yield

    def _data(self, X: Any, y: Any, sample_weight: Any, role: Role, reset: bool = False) -> Data:
        """Data as the network takes them, without rows of weight 0."""
        X, y = validate_data(self, X, y, reset=reset, accept_sparse=SPARSE, multi_output=True, dtype=DTYPES)
        x, dtype = dense(X), np.dtype(self.dtype or X.dtype)
        weights = checked_weights(sample_weight, len(x), dtype)
        targets, weights = self._targets(y, weights, role)
        if (present := weights > 0).sum() < len(x):
            x, targets, weights = x[present], targets[present], weights[present]
        if role == "new":
            wanted = are_large(x) if self.standardize == "auto" else self.standardize
            self._scaling = fit_standardisation(x, weights) if wanted else None
        return Data(self._features(x), targets if targets.ndim == 1 else targets.astype(dtype), weights)

    def _features(self, x: np.ndarray) -> np.ndarray:
        """Features as the network takes them, in the dtype that is computed in."""
        dtype = np.dtype(self.dtype or x.dtype)
        with np.errstate(over="ignore"):
            features = np.asarray(x, dtype) if self._scaling is None else standardise(self._scaling, x, dtype)
        if not np.isfinite(features).all():
            raise ValueError(f"X must hold numbers below {np.finfo(dtype).max:.3g}, the largest of {dtype}")
        return features

    def _start(self, data: Data, random: np.random.RandomState) -> None:
        """Forget what was learned, and draw new parameters."""
        self._state: State | None = None
        self._net: MLP = self._network(data, first=True)
        params = initial_parameters(random, self._net, data.x.dtype)
        self._params = saying_the_mean(params, self._net.loss, data.y, data.weights)
        self._key = jax.random.key(int(random.randint(SEEDS)) if self.dropout else 0)
        forget(self)

    def _network(self, data: Data, first: bool = False) -> MLP:
        hidden = self.hidden_layer_sizes
        hidden = tuple(hidden) if hasattr(hidden, "__iter__") else (hidden,)
        outputs, rule = self._outputs_and_loss(data.y)
        names = [self.activation] * len(hidden) if isinstance(self.activation, str) else list(self.activation)
        if len(names) != len(hidden):
            raise ValueError(
                f"activation must be one for all or one for each of the {len(hidden)} hidden layers; got {len(names)}"
            )
        net = MLP(
            (data.x.shape[1], *map(int, hidden), outputs),
            activation=tuple(by_name(SKLEARN_NAMES.get(name, name)) for name in names),
            loss=rule,
            l2=float(self.alpha),
            dropout=float(self.dropout) or None,
        )
        if not first and net.widths != self._net.widths:
            raise ValueError(f"training goes on from a network of widths {self._net.widths}; got {net.widths}")
        return net

    def _has_classes(self, data: Data) -> bool:
        """Whether each example is of one class."""
        return data.y.ndim == 1

    @abstractmethod
    def _outputs_and_loss(self, y: np.ndarray) -> tuple[int, Loss]:
        """How many outputs the network has, and its loss."""

    @abstractmethod
    def _targets(self, y: Any, weights: np.ndarray, role: Role) -> tuple[np.ndarray, np.ndarray]:
        """Targets as the loss takes them, and weights."""

    @abstractmethod
    def _score(self, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        """What `score` gives, from the outputs."""

    def _outputs(self, X: Any) -> np.ndarray:
        """The network's outputs for rows."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse=SPARSE, dtype=DTYPES)
        with self._computing():
            return passes.outputs(self._net, self._params, self._features(dense(X)))

    def gradient_report(self, X: Any, y: Any, sample_weight: Any = None) -> GradientReport:
        """Prove that the gradient it is trained by is that of its loss, by `funcnet.check_gradient`.

        Raises:
            GradientMismatch: If it is not.
        """
        check_is_fitted(self)
        with self._computing():
            x, y, weights = self._data(X, y, sample_weight, "more")
            net = passes.averaged(self._net, float(weights.sum()))
            return check_gradient(
                lambda params: loss(net, params, x, y, weights=weights),
                lambda params: value_and_grad(net, params, x, y, weights=weights)[1],
                self._params,
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_params")

    @property
    def net_(self) -> MLP:
        """The network for funcnet's functions, without the penalty, which scikit-learn divides by each batch's size."""
        self._fitted("net_")
        return replace(self._net, l2=None)

    @property
    def params_(self) -> Params:
        """Parameters for funcnet's functions, of features as they come."""
        return jax.tree.map(jnp.asarray, self._folded("params_"))

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of each layer, inputs × outputs."""
        return [np.asarray(layer.w) for layer in self._folded("coefs_")]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Biases of each layer."""
        return [np.asarray(layer.b) for layer in self._folded("intercepts_")]

    @property
    def n_layers_(self) -> int:
        """How many layers there are, the inputs among them."""
        return len(self._fitted("n_layers_")) + 1

    @property
    def n_outputs_(self) -> int:
        """How many outputs there are."""
        return self._fitted("n_outputs_")[-1].b.shape[0]

    def _folded(self, name: str) -> Params:
        return folded(jax.tree.map(np.asarray, self._fitted(name)), self._scaling)

    def _fitted(self, name: str) -> Params:
        if "_params" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no {name} before it is fitted")
        return self._params

    def __getstate__(self) -> dict[str, Any]:
        """Arrays and plain values, so that a pickle holds no functions."""
        state = super().__getstate__()
        return as_plain(dict(state))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The inverse of `__getstate__`."""
        super().__setstate__(from_plain(dict(state)))

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may ask of it."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
