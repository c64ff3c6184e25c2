"""The first pipelines of a sweep: good, diverse, and the cheap ones early.

Worth more than any search for the first twenty iterations: they are what a practitioner would try,
and what they score tells the sampler where to go on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import ALL_SCALERS, Params
from mlflow_automl_remote.automl.components.lightgbm import learns_logarithm
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.config import Task

Entry = tuple[str, str, Params]
"""Scaler, model, and where the model differs from its defaults."""

_PORTFOLIO: Final[Mapping[Task, tuple[Entry, ...]]] = {
    "classification": (
        ("StandardScaler", "LogisticRegression", {}),
        ("MaxAbsScaler", "ExtremeRandomTrees", {}),
        ("MaxAbsScaler", "LightGBM", {}),
        ("StandardScaler", "SVM", {}),
        ("Normalizer", "KNN", {}),
        ("MaxAbsScaler", "RandomForest", {}),
        ("MaxAbsScaler", "XGBoost", {}),
        ("MaxAbsScaler", "SVM", {}),
        ("StandardScaler", "SGD", {}),
        ("MaxAbsScaler", "LightGBM", {"extra_trees": True, "num_leaves": 12}),
        ("RobustScaler", "LogisticRegression", {"C": 0.1}),
        ("MaxAbsScaler", "GradientBoosting", {}),
        ("StandardScaler", "KNN", {"n_neighbors": 10}),
        ("PCA", "SVM", {"C": 3.0}),
        ("StandardScaler", "ExtremeRandomTrees", {"max_features": 0.5, "min_samples_leaf": 2}),
        ("MinMaxScaler", "LinearSVM", {"C": 0.3}),
        ("PCA", "ExtremeRandomTrees", {}),
        ("StandardScaler", "RandomForest", {"criterion": "entropy", "max_features": 0.1}),
        ("MinMaxScaler", "MultinomialNaiveBayes", {}),
        ("StandardScaler", "BernoulliNaiveBayes", {}),
        ("StandardScaler", "MLP", {}),
        ("MaxAbsScaler", "HistGradientBoosting", {}),
        ("MaxAbsScaler", "CatBoost", {}),
        ("StandardScaler", "DecisionTree", {"criterion": "entropy"}),
    ),
    "regression": (
        ("StandardScaler", "ElasticNet", {}),
        ("MaxAbsScaler", "LightGBM", {}),
        ("MaxAbsScaler", "ExtremeRandomTrees", {}),
        ("StandardScaler", "LassoLars", {}),
        ("MaxAbsScaler", "XGBoost", {}),
        ("MaxAbsScaler", "LightGBM", {"objective": "poisson", "n_estimators": 300}),
        ("MaxAbsScaler", "GradientBoosting", {}),
        ("StandardScaler", "KNN", {"n_neighbors": 8}),
        ("MaxAbsScaler", "RandomForest", {}),
        ("MaxAbsScaler", "LightGBM", {"extra_trees": True, "num_leaves": 48}),
        ("StandardScaler", "ElasticNet", {"alpha": 0.3, "l1_ratio": 0.2}),
        ("RobustScaler", "KNN", {"n_neighbors": 15, "p": 1}),
        ("MaxAbsScaler", "LightGBM", {"num_leaves": 6, "n_estimators": 300}),
        ("StandardScaler", "ExtremeRandomTrees", {"max_features": 0.4, "min_samples_leaf": 3}),
        ("MaxAbsScaler", "XGBoost", {"max_depth": 3, "n_estimators": 300}),
        ("StandardScaler", "SGD", {}),
        ("StandardScaler", "GradientBoosting", {"max_depth": 2, "learning_rate": 0.15}),
        ("MinMaxScaler", "ElasticNet", {"alpha": 0.001, "l1_ratio": 0.9}),
        ("PCA", "KNN", {}),
        ("StandardScaler", "RandomForest", {"max_features": 0.3, "min_samples_leaf": 3}),
        ("MaxAbsScaler", "CatBoost", {}),
        ("MaxAbsScaler", "HistGradientBoosting", {}),
        ("StandardScaler", "MLP", {}),
        ("MaxAbsScaler", "DecisionTree", {"max_depth": 6, "min_samples_leaf": 5}),
    ),
}


def portfolio(
    task: Task,
    models: Collection[str],
    scalers: Collection[str] = ALL_SCALERS,
    *,
    is_positive: bool = False,
) -> tuple[PipelineSpec, ...]:
    """Give the first pipelines of a sweep, in order, of these models and scalers only.

    Args:
        task: The kind of problem.
        models: Names of the models that may be used.
        scalers: Names of the scalers that may be used.
        is_positive: Whether models may learn the logarithm of the targets.
    """
    return tuple(
        PipelineSpec(
            scaler=scaler,
            model=model,
            params=join_params(
                SCALERS[scaler].defaults, {**MODELS[task][model].defaults, **changes}
            ),
        )
        for scaler, model, changes in _PORTFOLIO[task]
        if model in models and scaler in scalers and (is_positive or not learns_logarithm(changes))
    )
