"""What every component of a pipeline (a scaler or a model) is: a search space and a constructor.

A fitted pipeline holds only classes of scikit-learn and of the boosters, so that loading a model
needs none of our code: components are functions around those classes, never subclasses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from mlflow_automl_remote.automl.dataset import FloatArray, Labels
from mlflow_automl_remote.automl.featurization import LARGE_CELLS

Scalar = str | int | float | bool | None
Params = Mapping[str, Scalar]
"""Values of a component's hyper-parameters by name; all of them JSON scalars."""

MAX_ROUNDS: Final = 400
"""The most boosting rounds or trees of any model in the search space."""
FEWEST_TO_STOP_EARLY: Final = 2000
"""Rows from which on a booster is stopped early: of fewer, none can be spared to watch it."""
FEWEST_FOR_FINE_BINS: Final = 6000
"""Rows from which on a booster cuts numbers into more parts than is usual: of fewer, it learns
noise by heart."""
MAX_ROUNDS_STOPPED_EARLY: Final = 1000
"""The most boosting rounds where they are watched."""
PATIENCE_ROUNDS: Final = 30
"""Rounds without progress that stop a booster."""

Device = Literal["cpu", "cuda"]


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

    def fit(self, X: Any, y: Any, **options: Any) -> Any:
        """Learn, and give itself."""
        ...

    def predict(self, X: Any) -> Any:
        """Give labels or numbers, of shape (n_rows,)."""
        ...

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Give all parameters by name."""
        ...

    def set_params(self, **params: Any) -> Any:
        """Change parameters by name, and give itself."""
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
        positive_mean: The mean of targets that are never negative and mostly not 0; 0.0 for others
            and for classification.
        labels_are_codes: Whether the labels are 0, 1, ... n_classes - 1 already.
        device: Where boosters that can are fitted.
        stops_early: Whether boosters are watched on rows held out of those they are fitted on.
        is_sparse: Whether X is a sparse matrix.
        has_gaps: Whether X is an array that lacks values.
        in_place: Whether a scaler may write over what it is given.
        n_codes: How many columns, the first, are codes of categories.
        n_cells: Values in so many rows; of a sparse matrix, those that are not 0.
    """

    seed: int
    n_jobs: int
    n_rows: int
    n_features: int
    n_classes: int
    n_rarest: int
    labels_are_codes: bool
    positive_mean: float = 0.0
    device: Device = "cpu"
    stops_early: bool = False
    is_sparse: bool = False
    has_gaps: bool = False
    in_place: bool = False
    n_codes: int = 0
    n_cells: int = 0

    @property
    def n_values(self) -> float:
        """Numbers in a row: of a sparse matrix, the mean of those that are not 0."""
        return self.n_cells / max(self.n_rows, 1) if self.is_sparse else float(self.n_features)

    @property
    def is_large(self) -> bool:
        """Whether X takes so much memory that a model has to make do with less of its own."""
        return self.n_rows * self.n_values > LARGE_CELLS

    @property
    def has_fine_bins(self) -> bool:
        """Whether a booster finds more cuts of a number worth their time and memory."""
        return self.n_rows >= FEWEST_FOR_FINE_BINS and not self.is_large

    @property
    def n_outputs(self) -> int:
        """Columns that a booster makes a tree for in each round."""
        return self.n_classes if self.n_classes > 2 else 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Rows that have passed the steps before a model.

    Attributes:
        X: Features, of shape (n_rows, n_features).
        y: Targets, of shape (n_rows,).
        weight: Weights of the rows, of shape (n_rows,), or None.
    """

    X: Any
    y: Labels
    weight: FloatArray | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """How a booster is stopped where rows that it is not fitted on get no better.

    Attributes:
        parameter: The parameter of the model that says how many rounds it has.
        fit: Fits a model on the first part until the second gets no better; gives the rounds that
            were best, with which the model then predicts.
    """

    parameter: str
    fit: Callable[[Any, Part, Part], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long a fit may take, and what an earlier fit of the same model has shown.

    Attributes:
        until: When it has to end, by `time.monotonic`.
        rounds: How many rounds to fit; None to find out.
        learning_rate: With which; None for that of the model.
    """

    until: float
    rounds: int | None = None
    learning_rate: float | None = None


FitUntil = Callable[[Any, Part, Part | None, Pace], Pace]
"""Fits a model on the first part, in place, until the second gets no better or time is up; gives
the rounds, and the learning rate, with which that was done."""

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
SPARSE_SCALERS: Final = ("MaxAbsScaler", "Normalizer", "StandardScaler", "TruncatedSVD")
"""These leave a sparse matrix sparse, or make few columns of it."""
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
        mode: What it wants of the features: all of them numbers, categories as they are, or
            categories as they are, however many.
        takes_sparse: Whether it, or at least one of its scalers with it, takes a sparse matrix.
        takes_missing: Whether it takes NaN.
        takes_weights: Whether `fit` takes `sample_weight`.
        early_stopping: How it is stopped early; None for models without rounds.
        fit_until: How it is fitted against the clock; None for models that cannot be hurried.
        seconds: Predicts the time of one fit and the prediction of a fold, on one core, for points
            of the search space that take long. Measured on a core of 2020 at 2 to 8 thousand
            rows; it has to be right within a factor of three.
    """

    name: str
    suggest: Suggest
    build: Build
    defaults: Params = field(default_factory=dict)
    scalers: tuple[str, ...] = ALL_SCALERS
    mode: Literal["dense", "native", "coded"] = "dense"
    takes_sparse: bool = False
    takes_missing: bool = False
    takes_weights: bool = True
    early_stopping: EarlyStopping | None = None
    fit_until: FitUntil | None = None
    seconds: Callable[[BuildContext], float] = lambda context: 0.0
