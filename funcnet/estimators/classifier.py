"""The classifier."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from funcnet.estimators.base import BaseMLP, runs_in_passes
from funcnet.estimators.examples import Data, Role
from funcnet.estimators.foundation import ClassifierMixin
from funcnet.losses import Loss, label_smoothed, sigmoid_cross_entropy, softmax_cross_entropy
from funcnet.numbers import check_share


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multilayer perceptron that tells classes apart, with the parameters of scikit-learn's `MLPClassifier`.

        L = Σ wᵢ ℓᵢ / Σ wᵢ + ½ alpha Σ ‖W‖² / Σ wᵢ    of each batch

    with ℓ the cross-entropy: of one sigmoid for two classes, one for each label for multilabel targets, and of a
    softmax for more classes. Its gradient is funcnet's closed form, which `gradient_report` proves.

    Args:
        hidden_layer_sizes: Units of each hidden layer.
        activation: "relu", "tanh", "logistic", "identity" or another of funcnet's; or one for each hidden layer.
        solver: "adam", "sgd", "lbfgs", "rmsprop", "kfac", "gauss-newton", or any Optax transformation. The last two
            take learning rate and damping from funcnet's own defaults.
        alpha: The penalty's factor; it is divided by the batch's Σ w, as in scikit-learn.
        batch_size: Examples in each step; "auto" is 200, or all if they are fewer.
        learning_rate: "constant", "invscaling" or "adaptive", for solver "sgd".
        learning_rate_init: The learning rate at first.
        power_t: The exponent of "invscaling".
        max_iter: Passes over the data (for lbfgs and gauss-newton steps) at most.
        shuffle: Whether each pass has its own order.
        random_state: What parameters, order, dropout and validation set are drawn by; an int gives the same each time.
        tol: What counts as better: a loss lower, or a validation score higher by at least this much.
        verbose: Whether to print a line for each iteration.
        warm_start: Whether `fit` goes on from where it ended, the solver's state included.
        momentum: For solver "sgd".
        nesterovs_momentum: For solver "sgd".
        early_stopping: Whether to stop on the score of a validation set: `validation_fraction` of the data, or
            `validation_data` of `fit`; for solver "lbfgs" the latter alone.
        validation_fraction: The share of the data.
        beta_1: For solver "adam".
        beta_2: For solver "adam".
        epsilon: For solver "adam" and "rmsprop".
        n_iter_no_change: Stop after more iterations than this without anything better.
        max_fun: Evaluations at most, for solver "lbfgs".
        class_weight: A factor on the weights of each class: a dictionary, or "balanced".
        label_smoothing: ε: the targets are (1 − ε) y + ε / k.
        standardize: Whether to train on features of mean 0 and deviation 1, as `fit` finds them; by "auto" where the
            root mean square of all features is above 20, which a network bears badly. `coefs_` and predictions are of
            features as they come; alpha then penalises the weights of the standardised ones.
        dtype: "float32" or "float64", to compute in; by default that of X, as in scikit-learn. The former is faster.
        dropout: The share of hidden outputs dropped in training.
        restore_best_weights: Whether to end with the parameters of the best validation score, where there is one.
        device: Where to compute: "cpu", "gpu", or a JAX device; by default where JAX does.

    Attributes:
        classes_: The classes, in the order of `predict_proba`.
        coefs_, intercepts_: Weights and biases of each layer.
        net_, params_: The same for funcnet's functions, in JAX's default dtype and without the penalty (l2 is None).
        loss_, loss_curve_: The loss of the last pass and of each, penalty included, before its steps.
        validation_scores_, validation_loss_curve_: Accuracy and loss (without penalty) on the validation set.
        best_loss_, best_validation_score_: The best of them.
        n_iter_, t_: Iterations of the last `fit`; examples seen.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from funcnet.estimators import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPClassifier(solver="lbfgs", random_state=0))
    >>> bool(model.fit(X, y).score(X, y) > 0.97)
    True
    """

    loss = "log_loss"
    class_weight: Any
    label_smoothing: float

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        standardize: Any = "auto",
        dtype: Any = None,
        dropout: float = 0.0,
        restore_best_weights: bool = True,
        device: Any = None,
    ) -> None:
        self._keep(locals())

    @available_if(runs_in_passes)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        """One pass over some data, from where the last call ended, the solver's state included.

        Args:
            X: Features, one example a row.
            y: Targets.
            sample_weight: A weight for each example.
            classes: All classes there will be; needed at the first call, but for multilabel targets.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight must be numbers for partial_fit, which sees parts of the data; got 'balanced'"
            )
        if not hasattr(self, "classes_"):
            if classes is None and not type_of_target(y).startswith("multilabel"):
                raise ValueError("classes must be passed on the first call to partial_fit")
            self.classes_ = np.arange(np.shape(y)[1]) if classes is None else np.unique(classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes must be those of the first call, {self.classes_}; got {np.unique(classes)}")
        return self._fit(X, y, sample_weight, None, incremental=True)

    def _has_classes(self, data: Data) -> bool:
        return not self._multilabel

    def _targets(self, y: Any, weights: np.ndarray, role: Role) -> tuple[np.ndarray, np.ndarray]:
        y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind.endswith("multioutput"):
            raise ValueError("y must be one class for each example, or 0 and 1 for each label; got several classes")
        self._multilabel = kind == "multilabel-indicator"
        y = y if self._multilabel else column_or_1d(y, warn=True)
        if role == "new":
            self.classes_: np.ndarray[Any, Any] = np.arange(y.shape[1]) if self._multilabel else np.unique(y)
        if role != "held out" and self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, y).astype(weights.dtype)
        if self._multilabel:
            return self._smoothed(y), weights
        labels = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1).astype(np.int32)
        if (self.classes_[labels] != y).any():
            raise ValueError(f"y must be of the classes {self.classes_}; got {np.setdiff1d(y, self.classes_)}")
        if role == "new" and len(np.unique(labels[weights > 0])) < 2:
            raise ValueError(f"y must hold at least 2 classes to learn from; got 1 class, {y[0]}")
        return (self._smoothed(labels[:, None]) if len(self.classes_) == 2 else labels), weights

    def _smoothed(self, y: np.ndarray) -> np.ndarray:
        """Yes and no with label smoothing; of a softmax the loss does that."""
        epsilon = check_share("label_smoothing", self.label_smoothing)
        return (1 - epsilon) * y + epsilon / 2

    def _outputs_and_loss(self, y: np.ndarray) -> tuple[int, Loss]:
        if self.loss != "log_loss":
            raise ValueError(f"loss must be 'log_loss'; got {self.loss!r}")
        if y.ndim == 2:
            return y.shape[1], sigmoid_cross_entropy
        epsilon = check_share("label_smoothing", self.label_smoothing)
        return len(self.classes_), label_smoothed(epsilon) if epsilon else softmax_cross_entropy

    def _score(self, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        answers = outputs > 0 if y.ndim == 2 else np.argmax(outputs, axis=1)
        return float(accuracy_score(y > 0.5 if y.ndim == 2 else y, answers, sample_weight=weights))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each example; for multilabel targets 0 or 1 for each label."""
        outputs = self._outputs(X)
        if self._multilabel:
            return (outputs > 0).astype(int)
        return self.classes_[np.argmax(outputs, axis=1) if len(self.classes_) > 2 else (outputs[:, 0] > 0).astype(int)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class; for multilabel targets of each label."""
        return self._probabilities(X, softmax, expit)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Its logarithm, accurate where the probability is 0 in floating point."""
        return self._probabilities(X, log_softmax, log_expit)

    def _probabilities(self, X: Any, several: Callable[..., np.ndarray], one: Callable[..., np.ndarray]) -> np.ndarray:
        outputs = self._outputs(X)
        exact = outputs.astype(np.float64)
        if self._multilabel:
            found = one(exact)
        elif len(self.classes_) == 2:
            found = np.concatenate([one(-exact), one(exact)], axis=1)
        else:
            found = several(exact, axis=1)
        return found.astype(outputs.dtype)

    @property
    def out_activation_(self) -> str:
        """What turns outputs into probabilities: "logistic" or "softmax"."""
        return "logistic" if self._fitted("out_activation_") and self._net.loss == sigmoid_cross_entropy else "softmax"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may ask of it."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
