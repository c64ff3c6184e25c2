"""What every component of a pipeline (a scaler or a model) is: a search space and a constructor.

A fitted pipeline holds only classes of scikit-learn, LightGBM and XGBoost, so that loading a
model needs none of our code: components are functions around those classes, never subclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mlflow_automl_remote.automl.data import FloatArray, Labels

Scalar = str | int | float | bool | None
Params = Mapping[str, Scalar]
"""Values of a component's hyper-parameters by name; all of them JSON scalars."""

MAX_ROUNDS: Final = 400
"""The most boosting rounds or trees of any model in the search space."""


class Trial(Protocol):
    """The part of an Optuna trial that a search space uses; `FixedTrial` has it too."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Draw a number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """Draw a whole number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draw one of the choices."""
        ...


class Estimator(Protocol):
    """The part of a scikit-learn estimator that the engine uses.

    `fit` takes X of shape (n_rows, n_features) and y of shape (n_rows,) and returns itself.
    """

    def fit(self, X: Any, y: Any) -> Any:
        """Learn, and give itself."""
        ...

    def predict(self, X: Any) -> Any:
        """Give labels or numbers, of shape (n_rows,)."""
        ...

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give all parameters by name."""
        ...


class Classifier(Estimator, Protocol):
    """A classifier that gives probabilities.

    Attributes:
        classes_: The labels it was fitted on, sorted.
    """

    classes_: Labels

    def predict_proba(self, X: Any) -> FloatArray:
        """Give probabilities, of shape (n_rows, n_classes)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """What a constructor may need to know besides its hyper-parameters.

    Attributes:
        seed: For everything random in the estimator; 0 to 2**31 - 1.
        n_jobs: Threads that it may use.
        n_rows: The fewest rows that it will be fitted on.
        n_features: Columns of X.
        n_classes: Different labels; 0 for regression.
        n_rarest: The fewest rows of a class that it will be fitted on; 0 for regression.
        labels_are_codes: Whether the labels are 0, 1, ... n_classes - 1 already.
    """

    seed: int
    n_jobs: int
    n_rows: int
    n_features: int
    n_classes: int
    n_rarest: int
    labels_are_codes: bool


Suggest = Callable[[Trial], Params]
Build = Callable[[Params, BuildContext], Estimator]

ALL_SCALERS: Final = (
    "MaxAbsScaler",
    "MinMaxScaler",
    "Normalizer",
    "PCA",
    "RobustScaler",
    "StandardScaler",
    "TruncatedSVD",
)
TREE_SCALERS: Final = ("MaxAbsScaler", "Normalizer", "PCA", "StandardScaler")
"""Trees see only the order of values: monotone scalers would all be the same pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A scaler or a model.

    Attributes:
        name: As in the settings and in labels.
        suggest: Draws hyper-parameters from the search space.
        build: Makes an unfitted estimator of them.
        defaults: One good point of the search space, with all its names.
        scalers: Names of the scalers that it may follow; models only.
    """

    name: str
    suggest: Suggest
    build: Build
    defaults: Params = field(default_factory=dict)
    scalers: tuple[str, ...] = ALL_SCALERS
