"""Asks Optuna for pipelines, and tells it how they scored. The only module that knows Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import ALL_SCALERS, Params, Trial
from mlflow_automl_remote.automl.pipelines import PipelineSpec, components_of, join_params
from mlflow_automl_remote.config import Task

_MODEL: Final = "model"
_STEP: Final = 0.15
"""Of the width of a range: the deviation of a neighbour from the pipeline it is near to."""
_STAYS: Final = 0.8
"""How likely a choice of a neighbour is that of the pipeline it is near to."""
_MAX_REPEATS: Final = 8  # of drawing a pipeline that was drawn before
MOST_TRIALS: Final = 70
"""That TPE looks at: the time of a draw grows with them."""
_KEPT: Final = 45
_BEST_KEPT: Final = 25
"""More than it takes for good of so many."""


class Sampler:
    """Optuna's TPE over all pipelines of some models; the same draws for the same seed and scores.

    Args:
        task: The kind of problem.
        models: Names of the models to draw from.
        greater_is_better: Of the score.
        seed: Of the draws.
        scalers: Names of the scalers to draw from.
    """

    def __init__(
        self,
        task: Task,
        models: Sequence[str],
        *,
        greater_is_better: bool,
        seed: int,
        scalers: Collection[str] = ALL_SCALERS,
    ) -> None:
        self._task: Task = task
        self._models = list(models)
        self._scalers = scalers
        self._worst = min if greater_is_better else max
        self._worst_score: float | None = None
        self._running: dict[tuple[object, ...], int] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._direction = StudyDirection.MAXIMIZE if greater_is_better else StudyDirection.MINIMIZE
        self._study = optuna.create_study(direction=self._direction, sampler=sampler)

    def ask(self, taken: set[tuple[object, ...]]) -> PipelineSpec:
        """Draw a pipeline, a new one if the search space still has one that is easily found.

        Args:
            taken: Identities of pipelines that were drawn before.
        """
        self._thin()
        for repeats_left in reversed(range(_MAX_REPEATS)):
            trial = self._study.ask()
            spec = suggest_pipeline(trial, self._task, self._models, self._scalers)
            if spec.identity not in taken or not repeats_left:
                break
            # Without a score it says nothing; kept running it would count as a lie.
            self._study.tell(trial, state=TrialState.FAIL)
        self._running[spec.identity] = trial.number
        return spec

    def tell(self, spec: PipelineSpec, score: float | None) -> None:
        """Say how a pipeline scored, whoever proposed it.

        Args:
            spec: The pipeline.
            score: The primary metric; None if it failed, which counts as the worst score so far.
        """
        if score is None:
            score = self._worst_score
        elif self._worst_score is None:
            self._worst_score = score
        else:
            self._worst_score = self._worst(self._worst_score, score)
        number = self._running.pop(spec.identity, None)
        if number is None:
            self._add(spec, score)
        elif score is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, score)

    def forget(self, spec: PipelineSpec) -> None:
        """Say that a pipeline that was drawn will never have a score."""
        number = self._running.pop(spec.identity, None)
        if number is not None:
            self._study.tell(number, state=TrialState.FAIL)

    def _thin(self) -> None:
        """Go on with the best trials and some of the others, where there are many."""
        trials = self._study.get_trials(deepcopy=False)
        if len(trials) <= MOST_TRIALS:
            return
        done = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        done.sort(key=_value, reverse=self._direction is StudyDirection.MAXIMIZE)
        others = sorted(done[_BEST_KEPT:], key=_number)
        every = -(-len(others) // (_KEPT - _BEST_KEPT)) or 1
        kept = sorted(done[:_BEST_KEPT] + others[::every], key=_number)
        kept += [trial for trial in trials if trial.state is TrialState.RUNNING]
        study = optuna.create_study(direction=self._direction, sampler=self._study.sampler)
        study.add_trials(kept)
        new_number = {trial.number: at for at, trial in enumerate(kept)}
        self._running = {name: new_number[number] for name, number in self._running.items()}
        self._study = study

    def _add(self, spec: PipelineSpec, score: float | None) -> None:
        fixed = _as_trial(spec, self._task, self._models, self._scalers)
        if fixed is None or score is None:
            return
        params, distributions = fixed
        self._study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=score)
        )


def _value(trial: FrozenTrial) -> float:
    return cast("float", trial.value)


def _number(trial: FrozenTrial) -> int:
    return trial.number


class _Prefixed:
    """A trial in which each name begins with a prefix: models share names, but not ranges."""

    def __init__(self, trial: Trial, prefix: str) -> None:
        self._trial = trial
        self._prefix = prefix

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._trial.suggest_float(f"{self._prefix}.{name}", low, high, log=log)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return self._trial.suggest_int(f"{self._prefix}.{name}", low, high, log=log)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(f"{self._prefix}.{name}", choices)


class _Near:
    """A trial whose draws are near to given values; what is not given is drawn anywhere."""

    def __init__(self, values: Params, rng: np.random.Generator) -> None:
        self._values = values
        self._rng = rng

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        if log:
            return float(np.exp(self._draw(name, np.log(low), np.log(high), np.log)))
        return self._draw(name, low, high, float)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        drawn = self.suggest_float(name, low - 0.49 * (low > 0), high + 0.49, log=log)
        return int(np.clip(round(drawn), low, high))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        if name in self._values and self._rng.random() < _STAYS:
            return self._values[name]
        return choices[int(self._rng.integers(len(choices)))]

    def _draw(self, name: str, low: float, high: float, scale: Callable[[Any], Any]) -> float:
        if name not in self._values:
            return float(self._rng.uniform(low, high))
        value = float(scale(self._values[name]))
        low, high = min(low, value), max(high, value)  # a portfolio may go beyond the space
        step = self._rng.normal(0.0, _STEP * (high - low))
        return float(np.clip(value + step, low, high))


def neighbour(spec: PipelineSpec, task: Task, rng: np.random.Generator) -> PipelineSpec:
    """Give a pipeline of the same model whose hyper-parameters differ a little.

    Parameters that the pipeline leaves to the library are left to it.
    """
    scaler, model = components_of(spec, task)
    own = spec.of_step("model")
    drawn = model.suggest(_Near(own, rng))
    params = {**own, **{name: value for name, value in drawn.items() if name in own}}
    return PipelineSpec(
        scaler=scaler.name,
        model=model.name,
        params=join_params(spec.of_step("scaler"), params),
    )


def suggest_pipeline(
    trial: Trial, task: Task, models: Sequence[str], scalers: Collection[str] = ALL_SCALERS
) -> PipelineSpec:
    """Draw a model, a scaler that it may follow, and the hyper-parameters of both."""
    model = MODELS[task][trial.suggest_categorical(_MODEL, list(models))]
    choices = [name for name in model.scalers if name in scalers]
    scaler = SCALERS[trial.suggest_categorical(f"{model.name}.scaler", choices)]
    return PipelineSpec(
        scaler=scaler.name,
        model=model.name,
        params=join_params(
            scaler.suggest(_Prefixed(trial, scaler.name)),
            model.suggest(_Prefixed(trial, model.name)),
        ),
    )


def _as_trial(
    spec: PipelineSpec, task: Task, models: Sequence[str], scalers: Collection[str]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]] | None:
    """Give a pipeline as Optuna would have drawn it; None if it is not in the search space."""
    try:
        scaler, model = components_of(spec, task)
    except KeyError:
        return None
    if model.name not in models or scaler.name not in set(model.scalers) & set(scalers):
        return None
    params: dict[str, Any] = {_MODEL: model.name, f"{model.name}.scaler": scaler.name}
    params |= _named(scaler.name, spec.of_step("scaler"))
    params |= _named(model.name, spec.of_step("model"))
    trial = FixedTrial(params)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # a value outside of its range
            suggest_pipeline(trial, task, models, scalers)
    except (ValueError, UserWarning):
        return None  # from a search space of another version
    distributions = trial.distributions
    return {name: params[name] for name in distributions}, distributions


def _named(component: str, params: Params) -> dict[str, Any]:
    return {f"{component}.{name}": value for name, value in params.items()}
