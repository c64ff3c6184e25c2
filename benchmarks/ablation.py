"""Our entry into a race with one part of the engine taken out, which AUTOML_RACE_WITHOUT names.

Driven by `race.py` as the frameworks `ours-PART`. Parts that are settings are set; the others are
replaced in this process, and early stopping in those that iterations are forked into.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import adapter
import cloudpickle

from mlflow_automl_remote.automl import plan
from mlflow_automl_remote.automl.proposals import Proposals
from mlflow_automl_remote.automl.racing import driver
from mlflow_automl_remote.automl.racing.fold import FoldsOrder, FoldsResult

warm = adapter.warm
cloudpickle.register_pickle_by_value(adapter)  # forked processes do not have this folder
_load = adapter.load


def fit_predict(ctx: Any) -> dict[str, Any]:
    """Race without the part; see `adapter`."""
    settings = PARTS[os.environ["AUTOML_RACE_WITHOUT"]]()
    os.environ[adapter.EXTRA] = settings
    return adapter.fit_predict(ctx)


def _without_portfolio() -> str:
    plan.racers = lambda *_, **__: ()
    return "{}"


def _without_search() -> str:
    """Nothing comes after the portfolio: no neighbours, no Optuna."""
    draw = Proposals._draw

    def first_ones(self: Proposals, *more: Any) -> Any:
        return draw(self, *more) if self._portfolio else None

    Proposals._draw = first_ones
    return "{}"


def _without_early_stopping() -> str:
    """Boosters have the rounds that the portfolio says, or as many as there is time for."""
    driver.run_folds = _run_unwatched
    return "{}"


def _run_unwatched(order: FoldsOrder) -> FoldsResult:
    """Run in a process that has nothing of this module but this function."""
    import math

    from mlflow_automl_remote.automl import pipelines
    from mlflow_automl_remote.automl.racing.fold import run_folds

    pipelines.FEWEST_TO_STOP_EARLY = math.inf
    return run_folds(order)


def _without_bagging() -> str:
    """Each member of a vote answers with the model of one fold."""
    adapter.load = _load_first_folds
    return "{}"


def _load_first_folds(folder: Path) -> Any:
    return _first_fold(_load(folder))


def _first_fold(model: Any) -> Any:
    """Keep, of the models that a pipeline was fitted as, the first, with the weight of all."""
    vote = model[-1] if hasattr(model, "steps") else model
    if not hasattr(vote, "named_estimators_"):
        return model
    first: dict[str, tuple[tuple[str, Any], Any]] = {}
    weights: dict[str, float] = {}
    for named, fitted, weight in zip(vote.estimators, vote.estimators_, vote.weights, strict=True):
        member = re.sub(r"_?fold_\d+$", "", named[0])
        first.setdefault(member, (named, fitted))
        weights[member] = weights.get(member, 0.0) + weight
    vote.estimators = [named for named, _ in first.values()]
    vote.estimators_ = [fitted for _, fitted in first.values()]
    vote.weights = list(weights.values())
    return model


PARTS: dict[str, Callable[[], str]] = {
    "portfolio": _without_portfolio,
    "search": _without_search,
    "racing": lambda: '{"enable_racing": false}',
    "ensemble": lambda: '{"enable_voting_ensemble": false, "enable_stack_ensemble": false}',
    "bagging": _without_bagging,
    "early_stopping": _without_early_stopping,
}
