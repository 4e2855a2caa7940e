"""The regressor."""

from typing import Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from funcnet.estimators.base import BaseMLP, runs_in_passes
from funcnet.estimators.examples import Role
from funcnet.estimators.foundation import RegressorMixin
from funcnet.losses import Loss, absolute_error, half_squared_error, huber, poisson


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multilayer perceptron that predicts numbers, with the parameters of scikit-learn's `MLPRegressor`.

        L = Σ wᵢ ℓᵢ / Σ wᵢ + ½ alpha Σ ‖W‖² / Σ wᵢ    of each batch

    with ℓ summed over outputs. (scikit-learn reports ½ ‖r‖² averaged over outputs, and descends along the gradient of
    the sum, which is n_outputs times as large; with several outputs `loss_` is therefore n_outputs times its `loss_`,
    and the steps are the same.) Its gradient is funcnet's closed form, which `gradient_report` proves.

    Args:
        loss: "squared_error", ½ ‖r‖²; "absolute_error", Σ |r|; "huber", with `huber_delta`; or "poisson",
            Σ e^z − y z, whose prediction is e^z.
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
        huber_delta: δ of loss "huber", in units of y.
        standardize: Whether to train on features of mean 0 and deviation 1, as `fit` finds them; by "auto" where the
            root mean square of all features is above 20, which a network bears badly. `coefs_` and predictions are of
            features as they come; alpha then penalises the weights of the standardised ones.
        dtype: "float32" or "float64", to compute in; by default that of X, as in scikit-learn. The former is faster.
        dropout: The share of hidden outputs dropped in training.
        restore_best_weights: Whether to end with the parameters of the best validation score, where there is one.
        device: Where to compute: "cpu", "gpu", or a JAX device; by default where JAX does.

    Attributes:
        coefs_, intercepts_: Weights and biases of each layer.
        net_, params_: The same for funcnet's functions, in JAX's default dtype and without the penalty (l2 is None).
        loss_, loss_curve_: The loss of the last pass and of each, penalty included, before its steps.
        validation_scores_, validation_loss_curve_: R² and loss (without penalty) on the validation set.
        best_loss_, best_validation_score_: The best of them.
        n_iter_, t_: Iterations of the last `fit`; examples seen.

    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from funcnet.estimators import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> huber = MLPRegressor("huber", (8,), alpha=10, learning_rate_init=0.01, max_iter=1000, tol=0.01, random_state=0)
    >>> model = make_pipeline(StandardScaler(), huber)
    >>> bool(cross_val_score(model, X, y).mean() > 0.4)
    True
    """

    huber_delta: float

    def __init__(
        self,
        loss: str = "squared_error",
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
        huber_delta: float = 1.0,
        standardize: Any = "auto",
        dtype: Any = None,
        dropout: float = 0.0,
        restore_best_weights: bool = True,
        device: Any = None,
    ) -> None:
        self._keep(locals())

    @available_if(runs_in_passes)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """One pass over some data, from where the last call ended, the solver's state included.

        Args:
            X: Features, one example a row.
            y: Targets.
            sample_weight: A weight for each example.
        """
        return self._fit(X, y, sample_weight, None, incremental=True)

    def _targets(self, y: Any, weights: np.ndarray, role: Role) -> tuple[np.ndarray, np.ndarray]:
        y = np.asarray(y, np.float64)
        columns = y if y.ndim == 2 else y[:, None]
        if role == "new" or not hasattr(self, "_one_dimension"):
            self._one_dimension = y.ndim == 1
        if self.loss == "poisson" and columns.min() < 0:
            raise ValueError(f"y must not be negative for loss 'poisson'; got {columns.min():g}")
        return columns, weights

    def _outputs_and_loss(self, y: np.ndarray) -> tuple[int, Loss]:
        losses = {
            "squared_error": lambda: half_squared_error,
            "absolute_error": lambda: absolute_error,
            "huber": lambda: huber(self.huber_delta),
            "poisson": lambda: poisson,
        }
        if self.loss not in losses:
            raise ValueError(f"loss must be one of {', '.join(losses)}; got {self.loss!r}")
        return y.shape[1], losses[self.loss]()

    def _score(self, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        predicted = self._predicted(outputs)
        return float(r2_score(y, predicted, sample_weight=weights)) if np.isfinite(predicted).all() else float("nan")

    def _predicted(self, outputs: np.ndarray) -> np.ndarray:
        return np.exp(outputs) if self.loss == "poisson" else outputs

    def predict(self, X: Any) -> np.ndarray:
        """What is predicted for each example, in the shape of y."""
        predicted = self._predicted(self._outputs(X))
        return predicted[:, 0] if self._one_dimension else predicted

    @property
    def out_activation_(self) -> str:
        """What turns outputs into predictions: "identity", or "exp" for loss "poisson"."""
        return "exp" if self._fitted("out_activation_") and self.loss == "poisson" else "identity"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may ask of it."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
