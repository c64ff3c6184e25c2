"""Exact SHAP values of linear models behind linear steps, in closed form."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.outputs import (
    Attributed,
    Method,
    Output,
    Steps,
    ask,
    per_class,
    whole_output,
)

LINEAR_STEPS: Final = frozenset(("PCA", "TruncatedSVD"))
ROWS_AT_ONCE: Final = 4096


def linear_method(steps: Steps, background: Floats) -> Method | None:
    """Explain a linear model behind scalers, PCA or SVD; None where this is not one.

    The output is then linear in the raw columns, and the SHAP value of a column is its slope times
    its distance from the background mean. Classifiers are explained in margin space.
    """
    if not _is_linear(steps):
        return None
    space_output, space = whole_output(steps)
    output = _margin(steps) if steps.is_classifier else space_output
    mean = background.mean(axis=0)
    slopes = _slopes(output, mean, background.std(axis=0))

    def attribute(X: Floats, ids: NDArray[np.intp]) -> Attributed:
        values = (X - mean)[:, :, np.newaxis] * slopes
        return Attributed(values=values, squared_error=np.zeros_like(values))

    return Method(
        name="linear",
        output_space="margin" if steps.is_classifier else space,
        output=output,
        base_values=output(background).mean(axis=0),
        n_background=len(background),
        attribute=attribute,
        n_rows_at_once=ROWS_AT_ONCE,
    )


def _is_linear(steps: Steps) -> bool:
    model = steps.model
    front = (type(step).__name__ for _, step in steps.pipeline.steps[:-1])
    return (
        type(model).__module__.startswith(("sklearn.linear_model", "sklearn.svm"))
        and "coef_" in vars(model)
        and (not steps.is_classifier or hasattr(model, "decision_function"))
        and (steps.element_wise or all(name in LINEAR_STEPS for name in front))
    )


def _margin(steps: Steps) -> Output:
    return lambda X: per_class(ask(steps.pipeline, "decision_function", X))


def _slopes(output: Output, mean: Floats, spread: Floats) -> Floats:
    """Measure the slope of each raw column, (d, outputs).

    Two points of a straight line give its slope exactly, whatever linear steps are in between; a
    step of one spread keeps the rounding error small for columns of any scale.
    """
    step = np.where(spread > 0, spread, 1.0)
    corners = output(mean + np.diag(step))
    slopes: Floats = (corners - output(mean[np.newaxis])) / step[:, np.newaxis]
    return slopes
