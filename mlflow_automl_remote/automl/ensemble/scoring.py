"""Scores of many votes over the same rows, as fast as they can be had.

A vote is linear, so what a metric does not look at can be left out before: log loss needs the
probability of each row's own class alone, AUC of two classes that of the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np

from mlflow_automl_remote.automl import evaluation
from mlflow_automl_remote.automl.dataset import Dataset, FloatArray, Labels
from mlflow_automl_remote.automl.ensemble.selection import Score
from mlflow_automl_remote.automl.iteration import scoring_of
from mlflow_automl_remote.config import AutoMLConfig

Bind = Callable[[Labels, FloatArray, FloatArray | None], tuple[FloatArray, Score]]
"""Takes targets, predictions of all candidates and weights of some rows; gives what of the
predictions counts, and the scores of means of it."""

_SQUARES: Final = frozenset(
    (
        "root_mean_squared_error",
        "normalized_root_mean_squared_error",
        "r2_score",
    )
)
_ABSOLUTES: Final = frozenset(("mean_absolute_error", "normalized_mean_absolute_error"))
_AUC_OF_TWO: Final = frozenset(("AUC_weighted", "AUC_macro", "AUC_binary"))
_EPSILON: Final = 1e-15


@dataclass(frozen=True, slots=True)
class Scorer:
    """The primary metric of a sweep; see `Bind`."""

    config: AutoMLConfig
    dataset: Dataset

    def __call__(
        self, y: Labels, values: FloatArray, weight: FloatArray | None
    ) -> tuple[FloatArray, Score]:
        """Bind it to some rows."""
        metric = self.config.primary_metric
        if self.dataset.task == "regression":
            if metric in _SQUARES:
                return values, _minus_squares(cast("FloatArray", y), weight)
            if metric in _ABSOLUTES:
                return values, _minus_absolutes(cast("FloatArray", y), weight)
            return values, self._slowly(y, weight)
        codes = np.searchsorted(self.dataset.classes, y)
        if metric == "log_loss":
            own = values[:, np.arange(len(codes)), codes]
            return own, lambda many: _mean(np.log(np.clip(many, _EPSILON, 1.0)), weight)
        both = len(self.dataset.classes) == 2 and 0 < codes.sum() < len(codes)
        if metric in _AUC_OF_TWO and both and weight is None:
            return values[:, :, 1], _areas(codes == 1)
        supports = np.bincount(codes, minlength=len(self.dataset.classes))
        if metric in ("AUC_weighted", "AUC_macro") and weight is None and supports.all():
            shares = supports / len(codes) if metric == "AUC_weighted" else 1 / len(supports)
            return values, _mean_area(codes, np.broadcast_to(shares, supports.shape))
        return values, self._slowly(y, weight)

    def _slowly(self, y: Labels, weight: FloatArray | None) -> Score:
        """Give the score as iterations have it."""
        config, dataset = self.config, self.dataset
        scoring, metric = scoring_of(config, dataset), config.primary_metric
        if config.scorer is None and not metric.endswith("_binary"):
            scoring = replace(scoring, positive=None)  # of one class nothing is asked for
        sign = 1.0 if config.greater_is_better else -1.0

        def score(many: FloatArray) -> FloatArray:
            scored = [
                evaluation.score(dataset, y, one, weight, scoring, only=metric)[metric]
                for one in many
            ]
            return sign * np.array(scored)

        return score


def _mean(values: FloatArray, weight: FloatArray | None) -> FloatArray:
    return cast("FloatArray", np.average(values, axis=1, weights=weight))


def _minus_squares(y: FloatArray, weight: FloatArray | None) -> Score:
    return lambda many: -_mean((many - y) ** 2, weight)


def _minus_absolutes(y: FloatArray, weight: FloatArray | None) -> Score:
    return lambda many: -_mean(np.abs(many - y), weight)


def _mean_area(codes: np.ndarray[tuple[int, ...], np.dtype[np.intp]], shares: FloatArray) -> Score:
    """Give the mean over classes of the areas of each against the rest."""
    areas = [_areas(codes == number) for number in range(len(shares))]

    def mean(many: FloatArray) -> FloatArray:
        of_class = [
            share * area(many[:, :, at])
            for at, (share, area) in enumerate(zip(shares, areas, strict=True))
        ]
        return np.sum(of_class, axis=0)  # type: ignore[no-any-return]

    return mean


def _areas(is_second: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Score:
    """Give areas under the ROC curve; of rows that are equal the earlier one comes first."""
    n_second = int(is_second.sum())
    n_first = len(is_second) - n_second
    positions = np.arange(1, len(is_second) + 1)

    def areas(many: FloatArray) -> FloatArray:
        order = np.argsort(many, axis=1, kind="stable")
        total = is_second[order] @ positions
        found: FloatArray = (total - n_second * (n_second + 1) / 2) / (n_first * n_second)
        return found

    return areas
