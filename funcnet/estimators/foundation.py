"""scikit-learn's base classes, with the types that it does not state."""

from typing import TYPE_CHECKING, Any, Self

__all__ = ["BaseEstimator", "ClassifierMixin", "RegressorMixin"]

if TYPE_CHECKING:

    class BaseEstimator:
        """What every estimator is."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """The parameters by name."""
            ...

        def set_params(self, **params: Any) -> Self:
            """Change parameters."""
            ...

        def __getstate__(self) -> Any: ...

        def __setstate__(self, state: Any) -> None: ...

        def __sklearn_tags__(self) -> Any: ...

    class ClassifierMixin:
        """What every classifier is."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """Accuracy."""
            ...

    class RegressorMixin:
        """What every regressor is."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """R²."""
            ...

else:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
