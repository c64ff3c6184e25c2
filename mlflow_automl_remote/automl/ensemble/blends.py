"""Two ways to make one prediction of many, learnt from predictions for rows not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, cast

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlflow_automl_remote.automl import assembly
from mlflow_automl_remote.automl.components.base import Estimator
from mlflow_automl_remote.automl.dataset import FloatArray, Indices, Labels
from mlflow_automl_remote.automl.ensemble.lighter import Cost, lighter
from mlflow_automl_remote.automl.ensemble.scoring import Bind
from mlflow_automl_remote.automl.ensemble.selection import select

MAX_CLASSES_TO_STACK: Final = 50
_MAX_ROWS_TO_SELECT: Final = 20_000
_FEWEST_ROWS_TO_SELECT: Final = 2_000
_MAX_CELLS_TO_SELECT: Final = 200_000  # rows times classes: every candidate is scored many times
MOST_ROWS_TO_BAG: Final = 3_000
_N_BAGS: Final = 10
_SHARE_OF_BAG: Final = 0.632
_ROUNDS_OF_BAG: Final = 15
_N_BEST: Final = 2
_LEAST_SHARE: Final = 0.015
_MAX_STEPS: Final = 1_000
_MOST_CELLS_OF_FOREST: Final = 200_000
"""Rows times candidates times classes; 30,000 take 1.2 s of one core to learn and to score."""
_TAMED: Final = 0.1
_FOREST: Final[Mapping[str, Any]] = {
    "n_estimators": 60,
    "min_samples_leaf": 3,
    "max_features": 0.5,
}
# By leaves of at least so many rows most random splits would be none, and the forest flat.
_FOREST_OF_NUMBERS: Final[Mapping[str, Any]] = {
    "n_estimators": 60,
    "min_samples_split": 40,
    "max_features": 0.5,
}
_PENALTY: Final = 30.0
"""Of the linear model beside it: predictions of numbers are much alike."""
MOST_CELLS_OF_NUMBERS: Final = 200_000
"""Rows times candidates that such a forest learns from; they take half a second of one core."""
TEMPERATURES: Final = (0.2, 5.0)
TEMPERATURES_OF_BAGS: Final = (0.2, 1.0)
"""Means over models of several folds are less sure already than what the rows of a fold show."""
_SPREAD_OF_TEMPERATURES: Final = 0.5
_NO_TEMPERATURE: Final = 0.02
"""A vote that needs no more than this, in its logarithm, is left as it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """What the candidates predicted for the rows that were scored.

    Attributes:
        values: Of shape (n_candidates, n_rows) or (n_candidates, n_rows, n_classes).
        y: Targets, of shape (n_rows,).
        weight: Weights of the rows, of shape (n_rows,), or None.
        classes: Sorted labels; empty for regression.
        cost: What a vote of them may take to predict; None for whatever it takes.
        temperatures: The least and the most that a vote may have, where log loss is what counts.
    """

    values: FloatArray
    y: Labels
    weight: FloatArray | None
    classes: Labels
    cost: Cost | None = None
    temperatures: tuple[float, float] | None = None

    def of_rows(self, rows: Indices) -> Predictions:
        """Give the same for some rows only."""
        return replace(
            self,
            values=self.values[:, rows],
            y=self.y[rows],
            weight=None if self.weight is None else self.weight[rows],
        )


class Blend(Protocol):
    """One prediction of many.

    Attributes:
        weights: How much each candidate counts, of shape (n_candidates,); 0 for those left out.
    """

    @property
    def weights(self) -> FloatArray:
        """Give how much each counts."""
        ...

    def predict(self, values: FloatArray) -> FloatArray:
        """Give one prediction of the candidates' `values`, shaped as `Predictions.values`."""
        ...

    def assemble(self, members: Mapping[str, Estimator], classes: Labels) -> Estimator:
        """Make one model of the fitted candidates that count, given in their order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vote:
    """A weighted mean; see `Blend`.

    Attributes:
        weights: How much each candidate counts.
        temperature: Mean probabilities are raised to the power of one over it, and normalised
            again: a mean is less sure than what it is of (C. Guo, G. Pleiss, Y. Sun,
            K. Weinberger: On Calibration of Modern Neural Networks, ICML 2017).
    """

    weights: FloatArray
    temperature: float = 1.0

    def predict(self, values: FloatArray) -> FloatArray:
        """Give the weighted mean, at its temperature."""
        mean = np.tensordot(self.weights, values, axes=1)
        return mean if self.temperature == 1 else softmax(_logs(mean) / self.temperature, axis=1)

    def assemble(self, members: Mapping[str, Estimator], classes: Labels) -> Estimator:
        """Make scikit-learn's own voting model, behind it a linear one for a temperature."""
        shares = [float(weight) for weight in self.weights if weight > 0]
        if not len(classes):
            return cast("Estimator", assembly.voting_regressor(members, shares))
        mean = assembly.voting_classifier(members, shares, classes)
        if self.temperature == 1:
            return cast("Estimator", mean)
        return cast("Estimator", assembly.at_temperature(mean, self.temperature))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stack:
    """A model of the candidates' predictions; see `Blend`.

    Attributes:
        weights: How much each candidate counted in the vote that chose it; all alike if none did.
        final: The model: linear, or the mean of that and of a forest.
    """

    weights: FloatArray
    final: Any

    def predict(self, values: FloatArray) -> FloatArray:
        """Ask the model."""
        features = _side_by_side(values[self.weights > 0])
        if values.ndim == 2:
            return cast("FloatArray", self.final.predict(features))
        predicted = np.zeros(values.shape[1:])
        predicted[:, self.final.classes_] = self.final.predict_proba(features)
        return predicted

    def assemble(self, members: Mapping[str, Estimator], classes: Labels) -> Estimator:
        """Make scikit-learn's own stacking model."""
        if len(classes):
            return cast("Estimator", assembly.stacking_classifier(members, self.final, classes))
        return cast("Estimator", assembly.stacking_regressor(members, self.final))


def vote(known: Predictions, bind: Bind, seed: int) -> Vote:
    """Learn a vote by greedy selection, and its temperature."""
    known = _some_rows(known, seed)
    weights = _weights(known, bind, seed)
    return Vote(weights=weights, temperature=_temperature(weights, known))


def _some_rows(known: Predictions, seed: int) -> Predictions:
    """Draw as many rows as there is time to choose by."""
    most = max(_FEWEST_ROWS_TO_SELECT, _MAX_CELLS_TO_SELECT // max(len(known.classes), 1))
    return _drawn(known, min(most, _MAX_ROWS_TO_SELECT), seed)


def _drawn(known: Predictions, n_most: int, seed: int) -> Predictions:
    """Draw so many rows at most."""
    n_rows = len(known.y)
    if n_rows <= n_most:
        return known
    return known.of_rows(np.random.default_rng(seed).choice(n_rows, n_most, replace=False))


def _weights(known: Predictions, bind: Bind, seed: int) -> FloatArray:
    values, score = bind(known.y, known.values, known.weight)
    if (
        len(known.y) > MOST_ROWS_TO_BAG or values.ndim > 2
    ):  # all classes of each row: too slow to repeat
        weights = select(values, score)
    else:
        weights = _bagged(known, bind, seed)
    if known.cost is not None:
        weights = lighter(weights, values, score, known.cost)
    return weights


def _temperature(weights: FloatArray, known: Predictions) -> float:
    """Find that of a mean's probabilities with which their log loss is least; 1 without limits.

    Few rows that all are right would make it as sure as can be: a normal distribution of its
    logarithm counts as what is known before. `CalibratedClassifierCV` learns the same, but of rows
    that it predicts anew, and these were fitted on.
    """
    if known.temperatures is None:
        return 1.0
    logs = _logs(np.tensordot(weights, known.values, axes=1))
    own = np.searchsorted(known.classes, known.y)[:, None]

    def loss(exponent: float) -> float:
        told = np.take_along_axis(log_softmax(logs / np.exp(exponent), axis=1), own, axis=1)
        prior = (exponent / _SPREAD_OF_TEMPERATURES) ** 2 / (2 * len(logs))
        return prior - float(np.average(told[:, 0], weights=known.weight))

    bounds = tuple(np.log(known.temperatures))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return 1.0 if abs(found.x) < _NO_TEMPERATURE else float(np.exp(found.x))


def _logs(probabilities: FloatArray) -> FloatArray:
    return np.log(np.clip(probabilities, assembly.LEAST_PROBABILITY, 1.0))


def _bagged(known: Predictions, bind: Bind, seed: int) -> FloatArray:
    """Choose by parts of few rows, again and again: one choice would follow their noise."""
    rng = np.random.default_rng(seed)
    n_rows = len(known.y)
    total = np.zeros(len(known.values))
    for _ in range(_N_BAGS):
        part = np.sort(rng.choice(n_rows, max(1, round(_SHARE_OF_BAG * n_rows)), replace=False))
        chosen = known.of_rows(part)
        values, score = bind(chosen.y, chosen.values, chosen.weight)
        n_best = min(_N_BEST, len(values))
        total += select(values, score, n_best=n_best, max_rounds=_ROUNDS_OF_BAG)
    total[total < _LEAST_SHARE * total.sum()] = 0.0
    return cast("FloatArray", total / total.sum())


def by_forest(n_rows: int, n_candidates: int, n_classes: int) -> bool:
    """Whether a stack has a forest: of numbers, and of few rows of more than two classes.

    Which classes are taken for which, and where which pipeline errs, is what a vote cannot know.
    Of two classes a forest is worse than a vote.

    Args:
        n_rows: Rows that were scored.
        n_candidates: Pipelines.
        n_classes: 0 for regression.
    """
    is_small = n_rows * n_candidates * n_classes <= _MOST_CELLS_OF_FOREST
    return n_classes == 0 or (n_classes > 2 and is_small)


def stack(known: Predictions, bind: Bind, seed: int) -> Stack:
    """Learn a model of candidates' predictions.

    With a forest over classes it is of all of them, if that is within what a vote may cost, else
    of those that a vote would choose (D. Wolpert: Stacked Generalization, Neural Networks 1992).
    """
    n_candidates, n_rows = known.values.shape[:2]
    n_classes = len(known.classes)
    has_forest = by_forest(n_rows, n_candidates, n_classes)
    if n_classes and has_forest and (known.cost is None or known.cost.allows_all):
        return _forest(known, np.full(n_candidates, 1 / n_candidates), seed)
    weights = _weights(_some_rows(known, seed), bind, seed)
    if not has_forest:
        return _linear(known, weights)
    return _forest(known, weights, seed) if n_classes else _forest_of_numbers(known, weights, seed)


def _forest(known: Predictions, weights: FloatArray, seed: int) -> Stack:
    """Learn the mean of a forest and of a linear model, which is never quite sure."""
    features = _side_by_side(known.values[weights > 0])
    target = np.searchsorted(known.classes, known.y)
    forest = ExtraTreesClassifier(**_FOREST, random_state=seed, n_jobs=1)
    forest.fit(features, target, sample_weight=known.weight)
    linear = LogisticRegression(C=_TAMED, max_iter=_MAX_STEPS)
    both = {"forest": forest, "linear": _scaled(linear, features, target, known.weight)}
    final = assembly.voting_classifier(both, (1.0, 1.0), forest.classes_)
    return Stack(weights=weights, final=final)


def _forest_of_numbers(known: Predictions, weights: FloatArray, seed: int) -> Stack:
    """Learn the mean of a forest and of a linear model, which goes on where no row was."""
    known = _drawn(known, MOST_CELLS_OF_NUMBERS // int((weights > 0).sum()), seed)
    features = _side_by_side(known.values[weights > 0])
    forest = ExtraTreesRegressor(**_FOREST_OF_NUMBERS, random_state=seed, n_jobs=1)
    forest.fit(features, known.y, sample_weight=known.weight)
    linear = _scaled(Ridge(_PENALTY), features, known.y, known.weight)
    both = {"forest": forest, "linear": linear}
    return Stack(weights=weights, final=assembly.voting_regressor(both, (1.0, 1.0)))


def _linear(known: Predictions, weights: FloatArray) -> Stack:
    features = _side_by_side(known.values[weights > 0])
    target = np.searchsorted(known.classes, known.y)
    linear = LogisticRegression(max_iter=_MAX_STEPS)
    return Stack(weights=weights, final=_scaled(linear, features, target, known.weight))


def _scaled(linear: Any, features: FloatArray, target: Labels, weight: FloatArray | None) -> Any:
    """Fit a linear model behind a scaler."""
    model = make_pipeline(StandardScaler(), linear)
    return model.fit(features, target, **{f"{model.steps[-1][0]}__sample_weight": weight})


LEARN: Final[Mapping[str, Callable[[Predictions, Bind, int], Blend]]] = {
    "VotingEnsemble": vote,
    "StackEnsemble": stack,
}


def _side_by_side(values: FloatArray) -> FloatArray:
    """Give what scikit-learn's stacking models feed to their last one: of two classes the second.

    Args:
        values: Of shape (n_members, n_rows) or (n_members, n_rows, n_classes).
    """
    if values.ndim == 2:
        return values.T
    if values.shape[2] == 2:
        return values[:, :, 1].T
    return cast("FloatArray", np.concatenate(list(values), axis=1))
