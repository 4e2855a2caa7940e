"""scikit-learn estimators: `MLPClassifier` and `MLPRegressor`. Needs the packages of the extra `train`.

They have the parameters of scikit-learn's own, so that changing the import is enough. What is new: `class_weight`,
`label_smoothing`, `dropout`, losses `huber` and `absolute_error`, an activation for each layer, a validation set of
one's own, solvers `kfac` and `gauss-newton` or any Optax transformation, a device, and `gradient_report`, which proves
the gradient.
"""

from funcnet.estimators.classifier import MLPClassifier as MLPClassifier
from funcnet.estimators.regressor import MLPRegressor as MLPRegressor
