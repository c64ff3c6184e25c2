"""Explains a fitted pipeline by its raw input columns, with the explainer that fits its model.

Knows neither MLflow nor SSH nor the journal.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.explain.chains import (
    NAMES_WARNING,
    Chain,
    chain_of,
    describe,
    front_of,
)
from mlflow_automl_remote.explain.explanation import Explanation, Floats
from mlflow_automl_remote.explain.outputs import Attributed, Method
from mlflow_automl_remote.explain.shown import shown
from mlflow_automl_remote.explain.tables import Ints, Table, as_table, take

Progress = Callable[[int, int], None]
Clock = Callable[[], float]
Features = Literal["raw", "engineered"]

TOLERANCE: Final = 1e-3
"""How far values and base may be from the output, relative to the output where that is over 1."""
MAX_VALUES: Final = 20_000_000
"""Values of one explanation, 160 MB; of wider data fewer rows are explained."""
MIN_ELAPSED_S: Final = 1e-6
ROWS_ASKED: Final = 1_000
"""A whole model is asked for so many rows at least: for a few it takes hardly less."""

_log = logging.getLogger(__name__)


def explain(  # noqa: PLR0913 - the one door of this room; all but three are named
    pipeline: Any,
    background: Any,
    X: Any,
    *,
    feature_names: Sequence[str],
    class_names: Sequence[str] | None,
    task: Task,
    seed: int,
    budget_s: float,
    features: Features = "raw",
    n_jobs: int = 1,
    on_progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> Explanation:
    """Explain rows of X by the columns that the pipeline gets.

    Rows are explained in a seeded random order. When the budget ends first, those explained so far
    are returned, at least one; the budget is looked at between groups of rows.

    Args:
        pipeline: A fitted pipeline or ensemble of pipelines.
        background: Rows that stand for "not knowing a column", (m, d): an array, a sparse matrix
            or a table, as the pipeline takes them.
        X: Rows to explain, (n, d), in the same form.
        feature_names: Names of the d columns.
        class_names: Names of the classes in the order of `pipeline.classes_`; None for regression.
        task: Classification or regression.
        seed: Of the row order and of the sampling.
        budget_s: Time for everything.
        features: `raw` for the columns of X; `engineered` for what preprocessing and scaling make
            of them, such as each category of a column.
        n_jobs: Threads that ask a model at a time where its answers are sampled. Values do not
            depend on it.
        on_progress: Called with (rows done, rows in all) after each group of rows. It starts anew
            in the rare case that a cheap method does not fit the model after all.
        clock: Seconds that only grow.

    Raises:
        DataError: Shapes and names do not fit each other, there are no rows, or the model cannot
            be explained.
    """
    from mlflow_automl_remote.explain.methods import Game, methods

    watch = _Stopwatch(clock=clock, began_s=clock(), budget_s=budget_s)
    problem = _checked(pipeline, background, X, feature_names, class_names, task)
    if features == "engineered":
        problem = _behind_the_front(problem)
    rng = np.random.default_rng(seed)
    order = rng.permutation(problem.X.shape[0])
    shuffled = take(problem.background, rng.permutation(problem.background.shape[0]))
    game = Game(chain=problem.chain, X=problem.X, background=shuffled, seed=seed, n_jobs=n_jobs)
    fits = max(1, MAX_VALUES // (len(problem.feature_names) * problem.chain.n_outputs))
    with warnings.catch_warnings():
        # The columns are in the fitted order; only some steps were given their names. `ask` says
        # so too, but what it says can get lost between threads.
        warnings.filterwarnings("ignore", message=NAMES_WARNING)
        for method in methods(game):
            parts = _explained(problem.X, order[:fits], method, watch, on_progress)
            if parts:
                elapsed_s = watch.elapsed_s()
                return _gathered(problem, method, parts, order, seed=seed, elapsed_s=elapsed_s)
            _log.debug("%s values do not add up for this model; asking it instead", method.name)
    raise DataError(
        f"The output of {describe(pipeline)} is not finite for these rows, so it cannot be "
        "explained. Look for missing or very large values in X."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stopwatch:
    """How much of the budget is used."""

    clock: Clock
    began_s: float
    budget_s: float

    def elapsed_s(self) -> float:
        """Time since the beginning."""
        return self.clock() - self.began_s

    def left_s(self) -> float:
        """Time until the end."""
        return self.budget_s - self.elapsed_s()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Problem:
    """What is to be explained, checked."""

    chain: Chain
    pipeline: str
    background: Table
    X: Table
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] | None


def _checked(
    pipeline: Any,
    background: Any,
    X: Any,
    feature_names: Sequence[str],
    class_names: Sequence[str] | None,
    task: Task,
) -> _Problem:
    chain = chain_of(pipeline)
    problem = _Problem(
        chain=chain,
        pipeline=describe(pipeline),
        background=as_table(background, "background"),
        X=as_table(X, "X"),
        feature_names=tuple(_text(name) for name in feature_names),
        class_names=None if class_names is None else tuple(_text(name) for name in class_names),
    )
    n_columns = len(problem.feature_names)
    for what, table in (("background", problem.background), ("X", problem.X)):
        if table.shape[1] != n_columns:
            raise DataError(
                f"'{what}' must have one column per feature name ({n_columns}). "
                f"Got the shape {table.shape} instead."
            )
    n_names = len(problem.class_names or ("",))
    if (task == "classification") != chain.is_classifier or n_names != chain.n_outputs:
        raise DataError(
            f"A {task} pipeline with {n_names} class names was expected. Got "
            f"{problem.pipeline} with {chain.n_outputs} outputs instead. Give one name per "
            "class of 'pipeline.classes_', and None for regression."
        )
    return problem


def _behind_the_front(problem: _Problem) -> _Problem:
    """Take the rows to where columns are mixed, so that the columns there are explained."""
    front = front_of(problem.chain, problem.X, problem.background)
    if len(front.rest.steps) == len(problem.chain.steps):
        raise DataError(
            f"{problem.pipeline} makes no engineered features that can be told apart; explain its "
            "raw columns."
        )
    rows = front.rows
    raw = [problem.feature_names[int(at)] for at in front.player]
    return _Problem(
        chain=front.rest,
        pipeline=problem.pipeline,
        background=rows.restore(rows.background),
        X=rows.restore(rows.X),
        feature_names=front.names or tuple(raw),
        class_names=problem.class_names,
    )


def _text(name: object) -> str:
    """Give a name as text that any file can hold: a lone surrogate becomes a question mark."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def _explained(
    X: Table,
    ids: Ints,
    method: Method,
    watch: _Stopwatch,
    on_progress: Progress | None,
) -> list[Attributed]:
    """Explain rows in groups until the budget ends; nothing where values do not add up.

    What is sampled is sampled less where all rows would not fit: more rows tell more than the same
    rows more exactly.
    """
    parts: list[Attributed] = []
    output: Floats = np.empty((0, len(method.base_values)))
    n_rounds = method.n_rounds
    n_done, n_next = 0, min(method.n_rows_first, method.n_rows_at_once)
    while n_done < len(ids) and n_next > 0:
        group = ids[n_done : n_done + n_next]
        if len(output) < n_done + len(group):
            asked = ids[len(output) : max(n_done + len(group), len(output) + ROWS_ASKED)]
            output = np.concatenate([output, method.output(take(X, asked))])
        begun_s = watch.elapsed_s()
        part = method.attribute(group, n_rounds)
        if not _adds_up(method, part, output[n_done : n_done + len(group)]):
            return []
        parts.append(part)
        n_done += len(group)
        if on_progress:
            on_progress(n_done, len(ids))
        pace_s = max(watch.elapsed_s() - begun_s, MIN_ELAPSED_S) / (len(group) * n_rounds)
        fits = min(watch.left_s() / pace_s, MAX_VALUES)
        n_rounds = min(method.n_rounds, max(1, int(fits / max(1, len(ids) - n_done))))
        n_next = min(max(1, method.n_rows_at_once // n_rounds), math.ceil(fits / n_rounds))
    return parts


def _adds_up(method: Method, attributed: Attributed, output: Floats) -> bool:
    distance = np.abs(attributed.values.sum(axis=1) + method.base_values - output)
    return bool(np.all(distance <= TOLERANCE * np.maximum(1, np.abs(output))))


def _gathered(
    problem: _Problem,
    method: Method,
    parts: list[Attributed],
    order: Ints,
    *,
    seed: int,
    elapsed_s: float,
) -> Explanation:
    values = np.concatenate([part.values for part in parts])
    ids = order[: len(values)]
    ascending = np.argsort(ids)
    values = values[ascending]
    squared = np.concatenate([part.squared_error for part in parts])
    rows = ids[ascending]
    columns = shown(take(problem.X, rows))
    return Explanation(
        values=values if problem.chain.is_classifier else values[:, :, 0],
        base_values=method.base_values,
        data=columns.data,
        levels=columns.levels,
        rows=rows,
        feature_names=problem.feature_names,
        class_names=problem.class_names,
        pipeline=problem.pipeline,
        explainer=method.name,
        output_space=method.output_space,
        n_background=method.n_background,
        n_requested=int(problem.X.shape[0]),
        seed=seed,
        elapsed_s=elapsed_s,
        standard_error=float(np.sqrt(squared.mean())),
        complete=len(ids) == problem.X.shape[0],
    )
