"""The first pipelines of a race, by the size of the table: the cheap and the strong ones early.

Each fit has a slice of the time only, so boosters have learning rates here that are raised where
rounds are slow, and rounds for tables that are too small to be watched. Where numbers are odd,
they are of published portfolios (Salinas and Erickson: TabRepo, 2023; AutoGluon, Apache 2.0).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import Params
from mlflow_automl_remote.automl.components.lightgbm import learns_logarithm
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.automl.portfolio import Entry
from mlflow_automl_remote.config import Task

MOST_ROWS_OF_SMALL: Final = 6_000

_LIGHTGBM: Final[Params] = {
    "n_estimators": 160,
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_child_samples": 20,
    "colsample_bytree": 0.8,
    "subsample": 0.9,
    "reg_alpha": 1e-3,
    "reg_lambda": 0.1,
    "extra_trees": False,
}
_LIGHTGBM_EXTRA: Final[Params] = {
    **_LIGHTGBM,
    "n_estimators": 250,
    "colsample_bytree": 0.5,
    "min_child_samples": 5,
    "extra_trees": True,
}
_LIGHTGBM_WIDE: Final[Params] = {
    **_LIGHTGBM,
    "num_leaves": 120,
    "min_child_samples": 6,
    "colsample_bytree": 0.55,
    "reg_lambda": 1.0,
}
_LIGHTGBM_NARROW: Final[Params] = {
    **_LIGHTGBM,
    "n_estimators": 300,
    "num_leaves": 6,
    "min_child_samples": 10,
    "colsample_bytree": 0.4,
}
# All columns for each tree: where few columns go together, a tree without one of them is wrong.
_LIGHTGBM_FULL: Final[Params] = {
    **_LIGHTGBM_WIDE,
    "learning_rate": 0.1,
    "colsample_bytree": 1.0,
}
_LIGHTGBM_LONG: Final[Params] = {
    **_LIGHTGBM,
    "n_estimators": 500,
    "learning_rate": 0.1,
    "num_leaves": 12,
    "min_child_samples": 6,
    "colsample_bytree": 1.0,
}
# Trees that add up to the logarithm of the mean need about twice the rounds.
_LIGHTGBM_LOG: Final[Params] = {
    **_LIGHTGBM,
    "n_estimators": 300,
    "objective": "poisson",
}
_LIGHTGBM_LOG_WIDE: Final[Params] = {
    **_LIGHTGBM_WIDE,
    "n_estimators": 300,
    "objective": "poisson",
}
_XGBOOST: Final[Params] = {
    "n_estimators": 150,
    "learning_rate": 0.08,
    "max_depth": 5,
    "min_child_weight": 0.63,
    "colsample_bytree": 0.66,
    "subsample": 0.9,
    "reg_alpha": 1e-3,
    "reg_lambda": 1.0,
}
_XGBOOST_DEEP: Final[Params] = {
    **_XGBOOST,
    "learning_rate": 0.06,
    "max_depth": 9,
    "min_child_weight": 1.0,
    "colsample_bytree": 0.7,
}
_XGBOOST_LONG: Final[Params] = {
    **_XGBOOST,
    "n_estimators": 400,
    "learning_rate": 0.15,
    "max_depth": 3,
    "colsample_bytree": 1.0,
}
_CATBOOST: Final[Params] = {"depth": 6, "l2_leaf_reg": 3.0, "random_strength": 1.0}
_CATBOOST_SHORT: Final[Params] = {**_CATBOOST, "iterations": 250, "learning_rate": 0.04}
_CATBOOST_FLAT: Final[Params] = {"depth": 4, "l2_leaf_reg": 4.56, "random_strength": 1.0}
_CATBOOST_DEEP: Final[Params] = {"depth": 8, "l2_leaf_reg": 2.8, "random_strength": 1.0}
_FOREST: Final[Params] = {"n_estimators": 75, "min_samples_leaf": 1}
_FOREST_OF_MANY: Final[Params] = {"n_estimators": 40, "min_samples_leaf": 2}
_MLP: Final[Params] = {
    "n_layers": 2,
    "n_units": 96,
    "alpha": 1e-2,
    "learning_rate_init": 2e-3,
    "activation": "relu",
}
_MLP_FLAT: Final[Params] = {"n_layers": 1, "n_units": 128, "alpha": 0.03}
_MLP_OF_TWO: Final[Params] = {"n_layers": 2, "n_units": 64, "alpha": 0.1}
_MLP_TAMED: Final[Params] = {"n_layers": 1, "n_units": 64, "alpha": 1.0}

_SMALL: Final[Mapping[Task, tuple[Entry, ...]]] = {
    "classification": (
        ("StandardScaler", "LogisticRegression", {"C": 0.3}),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM),
        ("MaxAbsScaler", "ExtremeRandomTrees", {**_FOREST, "max_features": 0.4}),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_SHORT),
        ("StandardScaler", "MLP", _MLP_FLAT),
        ("StandardScaler", "SVM", {"C": 3.0}),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_EXTRA),
        ("StandardScaler", "RandomForest", {**_FOREST, "max_features": 0.3}),
        ("MaxAbsScaler", "XGBoost", _XGBOOST),
        ("StandardScaler", "KNN", {"n_neighbors": 10}),
        ("StandardScaler", "MLP", _MLP_OF_TWO),
        ("MaxAbsScaler", "CatBoost", _CATBOOST),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_NARROW),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_LONG),
        ("StandardScaler", "SVM", {}),
        ("RobustScaler", "LogisticRegression", {"C": 0.03}),
        ("MinMaxScaler", "SVM", {"C": 30.0}),
        ("StandardScaler", "MLP", _MLP_TAMED),
        (
            "MaxAbsScaler",
            "ExtremeRandomTrees",
            {**_FOREST, "criterion": "entropy", "max_features": 0.8, "min_samples_leaf": 3},
        ),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_FLAT),
        ("MaxAbsScaler", "XGBoost", _XGBOOST_LONG),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_WIDE),
        ("MaxAbsScaler", "GradientBoosting", {}),
        ("MinMaxScaler", "LogisticRegression", {"C": 10.0}),
        ("StandardScaler", "KNN", {"n_neighbors": 25, "p": 1}),
        ("MinMaxScaler", "MultinomialNaiveBayes", {}),
        ("PCA", "SVM", {"C": 3.0}),
        ("MaxAbsScaler", "HistGradientBoosting", {}),
    ),
    "regression": (
        ("StandardScaler", "ElasticNet", {}),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM),
        ("MaxAbsScaler", "ExtremeRandomTrees", {**_FOREST, "max_features": 0.8}),
        ("MaxAbsScaler", "CatBoost", _CATBOOST),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_LOG),
        ("StandardScaler", "MLP", _MLP_OF_TWO),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_EXTRA),
        ("StandardScaler", "KNN", {"n_neighbors": 8}),
        ("StandardScaler", "RandomForest", {**_FOREST, "max_features": 0.5}),
        ("MaxAbsScaler", "XGBoost", _XGBOOST),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_FLAT),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_NARROW),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_LONG),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_LOG_WIDE),
        ("StandardScaler", "LassoLars", {}),
        ("StandardScaler", "MLP", _MLP_FLAT),
        ("StandardScaler", "ElasticNet", {"alpha": 0.3, "l1_ratio": 0.2}),
        (
            "MaxAbsScaler",
            "ExtremeRandomTrees",
            {**_FOREST, "max_features": 1.0, "min_samples_leaf": 3},
        ),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_DEEP),
        ("MaxAbsScaler", "XGBoost", _XGBOOST_LONG),
        ("RobustScaler", "KNN", {"n_neighbors": 15, "p": 1}),
        ("MaxAbsScaler", "GradientBoosting", {}),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_WIDE),
        ("MaxAbsScaler", "HistGradientBoosting", {}),
    ),
}
_LARGE: Final[Mapping[Task, tuple[Entry, ...]]] = {
    "classification": (
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM),
        ("MaxAbsScaler", "CatBoost", _CATBOOST),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_FULL),
        ("MaxAbsScaler", "XGBoost", _XGBOOST_DEEP),
        ("StandardScaler", "MLP", _MLP),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_WIDE),
        ("StandardScaler", "KNN", {}),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_DEEP),
        ("MaxAbsScaler", "XGBoost", _XGBOOST),
        ("MaxAbsScaler", "ExtremeRandomTrees", {**_FOREST_OF_MANY, "max_features": 0.5}),
        ("StandardScaler", "LogisticRegression", {}),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_EXTRA),
        ("StandardScaler", "SVM", {}),
        ("StandardScaler", "MLP", {**_MLP, "n_units": 128, "learning_rate_init": 1e-3}),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_NARROW),
        ("StandardScaler", "RandomForest", {**_FOREST_OF_MANY, "max_features": 0.4}),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_FLAT),
        ("MaxAbsScaler", "HistGradientBoosting", {}),
    ),
    "regression": (
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM),
        ("MaxAbsScaler", "CatBoost", _CATBOOST),
        ("MaxAbsScaler", "LightGBM", {**_LIGHTGBM_LOG, "learning_rate": 0.1}),
        ("MaxAbsScaler", "XGBoost", _XGBOOST_DEEP),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_WIDE),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_DEEP),
        ("StandardScaler", "MLP", _MLP),
        ("MaxAbsScaler", "LightGBM", {**_LIGHTGBM_FULL, "learning_rate": 0.05}),
        (
            "MaxAbsScaler",
            "ExtremeRandomTrees",
            {**_FOREST_OF_MANY, "max_features": 0.9, "min_samples_leaf": 4},
        ),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_EXTRA),
        ("StandardScaler", "KNN", {"n_neighbors": 8}),
        ("MaxAbsScaler", "LightGBM", {**_LIGHTGBM_LOG_WIDE, "learning_rate": 0.1}),
        ("MaxAbsScaler", "XGBoost", _XGBOOST),
        ("StandardScaler", "ElasticNet", {}),
        ("StandardScaler", "MLP", {**_MLP, "n_units": 128, "learning_rate_init": 1e-3}),
        (
            "StandardScaler",
            "RandomForest",
            {**_FOREST_OF_MANY, "max_features": 0.6, "min_samples_leaf": 4},
        ),
        ("MaxAbsScaler", "LightGBM", _LIGHTGBM_NARROW),
        ("MaxAbsScaler", "CatBoost", _CATBOOST_FLAT),
        ("MaxAbsScaler", "HistGradientBoosting", {}),
    ),
}


def racers(
    task: Task,
    models: Collection[str],
    scalers: Collection[str],
    n_rows: int,
    *,
    is_positive: bool = False,
) -> tuple[PipelineSpec, ...]:
    """Give the first pipelines of a race, in order.

    Args:
        task: The kind of problem.
        models: Names of the models that may be used.
        scalers: Names of the scalers that may be used.
        n_rows: Of the table.
        is_positive: Whether models may learn the logarithm of the targets.
    """
    entries = (_SMALL if n_rows <= MOST_ROWS_OF_SMALL else _LARGE)[task]
    return tuple(
        PipelineSpec(
            scaler=scaler,
            model=model,
            params=join_params(SCALERS[scaler].defaults, _params(task, model, params)),
        )
        for scaler, model, params in entries
        if model in models and scaler in scalers and (is_positive or not learns_logarithm(params))
    )


def _params(task: Task, model: str, params: Params) -> Params:
    """Fill up what an entry leaves open; CatBoost then chooses rounds and rate by itself."""
    if model == "CatBoost":
        return params
    return {**MODELS[task][model].defaults, **params}
