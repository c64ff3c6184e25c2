"""What a fitted pipeline answers, as one (rows, outputs) table in a named space."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_automl_remote.explain.explanation import Floats, OutputSpace

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Output = Callable[[Floats], Floats]

ELEMENT_WISE: Final = frozenset(
    ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "str", "NoneType")
)
"""Steps that map every column to itself; `str` and `NoneType` are `passthrough`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributed:
    """SHAP values of some rows.

    Attributes:
        values: (rows, d, outputs).
        squared_error: Estimated variance of each value's sampling error, (rows, d, outputs).
    """

    values: Floats
    squared_error: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Method:
    """One way to explain one pipeline.

    Attributes:
        name: What `Explanation.explainer` says.
        output_space: What `output` answers in.
        output: Raw rows (n, d) to (n, outputs).
        base_values: Mean output over the background, (outputs,).
        n_background: Background rows used.
        attribute: Explains rows (k, d); the second argument is their numbers in X, (k,).
        n_rows_at_once: Rows that it explains best in one call.
    """

    name: str
    output_space: OutputSpace
    output: Output
    base_values: Floats
    n_background: int
    attribute: Callable[[Floats, NDArray[np.intp]], Attributed]
    n_rows_at_once: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steps:
    """A fitted pipeline, taken apart.

    Attributes:
        pipeline: The whole.
        model: Its last step.
        element_wise: Whether the steps before the model keep every column in its place.
    """

    pipeline: Pipeline
    model: Any  # any scikit-learn estimator
    element_wise: bool

    @property
    def is_classifier(self) -> bool:
        """Whether the model has classes."""
        return hasattr(self.model, "classes_")

    @property
    def n_outputs(self) -> int:
        """Classes, or 1 for regression."""
        return len(self.model.classes_) if self.is_classifier else 1

    def transform(self, X: Floats) -> Floats:
        """Give what the model gets for raw rows, (n, columns of the model)."""
        if len(self.pipeline.steps) == 1:
            return X
        return np.asarray(ask(self.pipeline[:-1], "transform", X), dtype=np.float64)


def take_apart(pipeline: Pipeline) -> Steps:
    """Look at the steps of a fitted pipeline."""
    front = (type(step).__name__ for _, step in pipeline.steps[:-1])
    return Steps(
        pipeline=pipeline,
        model=pipeline.steps[-1][1],
        element_wise=all(name in ELEMENT_WISE for name in front),
    )


def describe(pipeline: Pipeline) -> str:
    """Name the steps, as in `StandardScaler > SVC`."""
    steps = [step for _, step in pipeline.steps if step not in (None, "passthrough")]
    return " > ".join(_name(step) for step in steps)


def _name(estimator: Any) -> str:
    name = type(estimator).__name__
    return f"{name}({_name(estimator.estimator)})" if name == "CalibratedClassifierCV" else name


def ask(estimator: Any, method: str, X: Floats, **options: object) -> ArrayLike:
    """Call a method of a fitted estimator on a plain array, named as it was fitted."""
    names = getattr(estimator, "feature_names_in_", None)
    table: object = X
    if names is not None and len(names) == X.shape[1]:
        import pandas as pd

        table = pd.DataFrame(X, columns=list(names))
    with warnings.catch_warnings():
        # The columns are in the fitted order; only some steps were given their names.
        warnings.filterwarnings("ignore", message="X (does not have|has) .*feature names")
        answer: ArrayLike = getattr(estimator, method)(table, **options)
    return answer


def per_class(answer: ArrayLike) -> Floats:
    """Give an answer as (n, outputs); one margin of two classes becomes both."""
    table = np.asarray(answer, dtype=np.float64)
    if table.ndim == 1 or table.shape[1] == 1:
        column = table.reshape(-1, 1)
        return np.hstack([-column, column])
    return table


def whole_output(steps: Steps) -> tuple[Output, OutputSpace]:
    """Choose the output of a pipeline: probabilities where it has them."""
    pipeline = steps.pipeline
    if not steps.is_classifier:
        return lambda X: np.asarray(ask(pipeline, "predict", X), float).reshape(-1, 1), "value"
    if hasattr(pipeline, "predict_proba"):
        return lambda X: np.asarray(ask(pipeline, "predict_proba", X), float), "probability"
    return lambda X: per_class(ask(pipeline, "decision_function", X)), "margin"
