"""The names that settings may hold: tasks, metrics and models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Task = Literal["classification", "regression"]

CLASSIFICATION_METRICS: Final = (
    "AUC_macro",
    "AUC_micro",
    "AUC_weighted",
    "accuracy",
    "average_precision_score_macro",
    "average_precision_score_micro",
    "average_precision_score_weighted",
    "balanced_accuracy",
    "f1_score_macro",
    "f1_score_micro",
    "f1_score_weighted",
    "log_loss",
    "norm_macro_recall",
    "precision_score_macro",
    "precision_score_micro",
    "precision_score_weighted",
    "recall_score_macro",
    "recall_score_micro",
    "recall_score_weighted",
    "weighted_accuracy",
)
BINARY_METRICS: Final = (
    "AUC_binary",
    "average_precision_score_binary",
    "f1_score_binary",
    "precision_score_binary",
    "recall_score_binary",
)
"""Of the class that `positive_label` names alone; recorded only where it is set."""
REGRESSION_METRICS: Final = (
    "explained_variance",
    "mean_absolute_error",
    "median_absolute_error",
    "normalized_mean_absolute_error",
    "normalized_median_absolute_error",
    "normalized_root_mean_squared_error",
    "normalized_root_mean_squared_log_error",
    "r2_score",
    "root_mean_squared_error",
    "root_mean_squared_log_error",
    "spearman_correlation",
)
METRICS: Final[Mapping[Task, tuple[str, ...]]] = {
    "classification": CLASSIFICATION_METRICS,
    "regression": REGRESSION_METRICS,
}
SCORERS: Final[Mapping[Task, tuple[str, ...]]] = {
    "classification": (
        "average_precision",
        "d2_brier_score",
        "d2_log_loss_score",
        "f1",
        "f1_macro",
        "f1_micro",
        "f1_weighted",
        "jaccard",
        "jaccard_macro",
        "jaccard_micro",
        "jaccard_weighted",
        "matthews_corrcoef",
        "neg_brier_score",
        "neg_log_loss",
        "neg_negative_likelihood_ratio",
        "positive_likelihood_ratio",
        "precision",
        "precision_macro",
        "precision_micro",
        "precision_weighted",
        "recall",
        "recall_macro",
        "recall_micro",
        "recall_weighted",
        "roc_auc",
        "roc_auc_ovo",
        "roc_auc_ovo_weighted",
        "roc_auc_ovr",
        "roc_auc_ovr_weighted",
        "top_k_accuracy",
    ),
    "regression": (
        "d2_absolute_error_score",
        "neg_max_error",
        "neg_mean_absolute_error",
        "neg_mean_absolute_percentage_error",
        "neg_mean_gamma_deviance",
        "neg_mean_poisson_deviance",
        "neg_mean_squared_error",
        "neg_mean_squared_log_error",
        "neg_median_absolute_error",
        "neg_root_mean_squared_error",
        "neg_root_mean_squared_log_error",
        "r2",
    ),
}
"""Scorers of scikit-learn that can be the primary metric too; greater is better for each of them.

Left out: those of clusterings and of rows with several labels, and those that `METRICS` has.
"""
DEFAULT_METRIC: Final[Mapping[Task, str]] = {
    "classification": "accuracy",
    "regression": "normalized_root_mean_squared_error",
}
LOWER_IS_BETTER: Final = frozenset(
    ("log_loss", *(name for name in REGRESSION_METRICS if name.endswith("_error")))
)
_LOWER_ENDINGS: Final = ("_s", "_ms_per_row", "_bytes", "_std", "standard_error")

MODELS: Final[Mapping[Task, tuple[str, ...]]] = {
    "classification": (
        "BernoulliNaiveBayes",
        "CatBoost",
        "DecisionTree",
        "ExtremeRandomTrees",
        "GradientBoosting",
        "HistGradientBoosting",
        "KNN",
        "LightGBM",
        "LinearSVM",
        "LogisticRegression",
        "MLP",
        "MultinomialNaiveBayes",
        "RandomForest",
        "SGD",
        "SVM",
        "XGBoost",
    ),
    "regression": (
        "CatBoost",
        "DecisionTree",
        "ElasticNet",
        "ExtremeRandomTrees",
        "GradientBoosting",
        "HistGradientBoosting",
        "KNN",
        "LassoLars",
        "LightGBM",
        "MLP",
        "RandomForest",
        "SGD",
        "XGBoost",
    ),
}


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric of a run is a better one: an error, a time, a size."""
    name = metric.removeprefix("test_")
    return name in LOWER_IS_BETTER or name.endswith(_LOWER_ENDINGS)
