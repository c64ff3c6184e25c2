"""The five metrics of one class of two, the positive one, alone."""

from __future__ import annotations

import numpy as np

from mlflow_automl_remote.automl.dataset import FloatArray, Labels
from mlflow_automl_remote.automl.metrics.classification import curve


def score_binary(
    y_true: Labels,
    probabilities: FloatArray,
    *,
    classes: Labels,
    positive: int,
    sample_weight: FloatArray | None = None,
) -> dict[str, float]:
    """Give AUC, average precision, F1, precision and recall of one class of two.

    A row is predicted positive where that class is the more probable one; for rows without a row
    of the class, ranking metrics are NaN and the others 0, as scikit-learn's with
    `zero_division=0`.

    Args:
        y_true: Labels, of shape (n_rows,); each is in `classes`.
        probabilities: Of shape (n_rows, 2), columns in the order of `classes`.
        classes: Both labels, sorted.
        positive: Position of the positive one in `classes`.
        sample_weight: Weights of the rows, of shape (n_rows,), not all 0; None for equal ones.
    """
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    is_positive = np.asarray(y_true) == classes[positive]
    said = probabilities.argmax(axis=1) == positive
    hits = float(weight[is_positive & said].sum())
    n_said, n_true = float(weight[said].sum()), float(weight[is_positive].sum())
    area, average_precision = curve(is_positive, probabilities[:, positive], weight)
    return {
        "AUC_binary": area,
        "average_precision_score_binary": average_precision,
        "f1_score_binary": 2 * hits / (n_said + n_true) if n_said + n_true else 0.0,
        "precision_score_binary": hits / n_said if n_said else 0.0,
        "recall_score_binary": hits / n_true if n_true else 0.0,
    }
