"""The scalers: exactly one of them is the first step of every pipeline."""

from __future__ import annotations

from typing import Final

from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    RobustScaler,
    StandardScaler,
)

from mlflow_automl_remote.automl.components.base import (
    BuildContext,
    Component,
    Estimator,
    Params,
    Trial,
)

_MAX_DIRECTIONS: Final = 200  # of a decomposition; a sparse matrix may have 100,000 columns


def _nothing(trial: Trial) -> Params:
    del trial  # there is nothing to draw
    return {}


def _suggest_standard(trial: Trial) -> Params:
    return {
        "with_mean": trial.suggest_categorical("with_mean", [True, False]),
        "with_std": trial.suggest_categorical("with_std", [True, False]),
    }


def _suggest_robust(trial: Trial) -> Params:
    return {"quantile_low": trial.suggest_int("quantile_low", 5, 30)}


def _build_robust(params: Params, context: BuildContext) -> Estimator:
    low = int(params["quantile_low"] or 0)
    scaler: Estimator = RobustScaler(quantile_range=(low, 100 - low), copy=not context.in_place)
    return scaler


def _suggest_pca(trial: Trial) -> Params:
    return {
        "variance": trial.suggest_float("variance", 0.7, 0.999),
        "whiten": trial.suggest_categorical("whiten", [True, False]),
    }


def _build_pca(params: Params, context: BuildContext) -> Estimator:
    return PCA(  # type: ignore[no-any-return]
        n_components=params["variance"],
        whiten=params["whiten"],
        svd_solver="full",
        random_state=context.seed,
    )


def _suggest_svd(trial: Trial) -> Params:
    return {"share": trial.suggest_float("share", 0.2, 0.95)}


def _build_svd(params: Params, context: BuildContext) -> Estimator:
    wanted = round(float(params["share"] or 0) * context.n_features)
    return TruncatedSVD(  # type: ignore[no-any-return]
        n_components=max(1, min(wanted, context.n_features, _MAX_DIRECTIONS)),
        random_state=context.seed,
    )


def _build_standard(params: Params, context: BuildContext) -> Estimator:
    """Leave a sparse matrix where it is: moved to its mean it would have no zeros."""
    with_mean = params["with_mean"] and not context.is_sparse
    scaler: Estimator = StandardScaler(
        **{**params, "with_mean": with_mean}, copy=not context.in_place
    )
    return scaler


def _suggest_norm(trial: Trial) -> Params:
    return {"norm": trial.suggest_categorical("norm", ["l1", "l2", "max"])}


SCALERS: Final = (
    Component(
        name="MaxAbsScaler", suggest=_nothing, build=lambda p, c: MaxAbsScaler(copy=not c.in_place)
    ),
    Component(
        name="MinMaxScaler", suggest=_nothing, build=lambda p, c: MinMaxScaler(copy=not c.in_place)
    ),
    Component(
        name="Normalizer",
        suggest=_suggest_norm,
        build=lambda p, c: Normalizer(copy=not c.in_place, **p),
        defaults={"norm": "l2"},
    ),
    Component(
        name="PCA",
        suggest=_suggest_pca,
        build=_build_pca,
        defaults={"variance": 0.95, "whiten": False},
    ),
    Component(
        name="RobustScaler",
        suggest=_suggest_robust,
        build=_build_robust,
        defaults={"quantile_low": 25},
    ),
    Component(
        name="StandardScaler",
        suggest=_suggest_standard,
        build=_build_standard,
        defaults={"with_mean": True, "with_std": True},
    ),
    Component(
        name="TruncatedSVD", suggest=_suggest_svd, build=_build_svd, defaults={"share": 0.5}
    ),
)
