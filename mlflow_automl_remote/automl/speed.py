"""How long a fitted model takes to predict a row: on one core, from the columns as they came."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import numpy as np
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlflow_automl_remote.automl.dataset import Dataset, Features, take_rows

N_ROWS: Final = 1_000
"""Predicted at once; of fewer rows some are taken several times."""
FEWEST_ROWS: Final = 50
SHORT_S: Final = 0.008
"""Models that are known to need more for so many rows are measured on fewer."""
ENOUGH_S: Final = 0.004
"""After so much it is not measured again: what takes so long does not depend on a few moments."""
MOST_TIMES: Final = 3

_ENSEMBLES: Final = (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor)


def predict_ms_per_row(
    model: Any, dataset: Dataset, *, expected_ms: float = 0.0, is_warm: bool = False
) -> float:
    """Measure the milliseconds of one core that a model takes for a row.

    It is the time of the processor, so that neither other processes nor several threads count,
    and the least of up to three measurements: what else a machine does only adds to it. Of fewer
    rows than 1,000 what a call takes whatever its rows is told apart, so that it is shared out
    among 1,000 all the same.

    Args:
        model: A fitted classifier that gives probabilities, or a regressor.
        dataset: Rows in equal distances from it are predicted.
        expected_ms: A row, as far as it is known.
        is_warm: Whether this process has predicted with such a model before; if not, the first
            call, which takes longer, does not count.
    """
    n_rows = N_ROWS
    if expected_ms > 0:
        n_rows = int(min(N_ROWS, max(FEWEST_ROWS, 1000 * SHORT_S / expected_ms)))
    rows = np.linspace(0, dataset.n_rows - 1, n_rows).astype(np.intp)
    X = take_rows(dataset.features(), rows)
    predict = model.predict if dataset.task == "regression" else model.predict_proba

    def seconds(rows: Features) -> float:
        begun = time.process_time()
        predict(rows)
        return time.process_time() - begun

    one = take_rows(X, slice(0, 1))
    taken_s: list[float] = []
    with _one_thread(model):
        if not is_warm:
            seconds(one)
        while len(taken_s) < MOST_TIMES and sum(taken_s) < ENOUGH_S:
            taken_s.append(seconds(X))
        whole_s = min(taken_s)
        if n_rows < N_ROWS:
            call_s = min(whole_s, seconds(one))
            whole_s = call_s + (whole_s - call_s) * (N_ROWS - 1) / (n_rows - 1)
    return 1000 * whole_s / N_ROWS


@contextmanager
def _one_thread(model: Any) -> Iterator[None]:
    """Let a model predict with one thread: others of a pool would spin, and count, while it waits.

    CatBoost cannot be told once it is fitted, but its threads sleep while they wait.
    """
    before = [
        (one, one.n_jobs)
        for one in _models_in(model)
        if getattr(one, "n_jobs", 1) not in (1, None)
    ]
    for one, _ in before:
        one.set_params(n_jobs=1)
    try:
        # In a process that has one anyway there is nothing to limit, and looking takes its time.
        has_one = os.environ.get("OMP_NUM_THREADS") == "1"
        with nullcontext() if has_one else threadpool_limits(1):
            yield
    finally:
        for one, n_jobs in before:
            one.set_params(n_jobs=n_jobs)


def _models_in(model: Any) -> Iterator[Any]:
    """Give the models at the end of pipelines and inside of ensembles of them."""
    if isinstance(model, Pipeline):
        yield from _models_in(model[-1])
    elif isinstance(model, _ENSEMBLES):
        for each in model.estimators_:
            yield from _models_in(each)
    else:
        yield model
