"""Explains a fitted pipeline by its raw input columns, with the explainer that fits its model.

Knows neither MLflow nor SSH nor the journal.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlflow_automl_remote.config import Task
from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.explain.explanation import Explanation, Floats
from mlflow_automl_remote.explain.outputs import (
    Attributed,
    Method,
    Steps,
    describe,
    take_apart,
    whole_output,
)

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Progress = Callable[[int, int], None]
Clock = Callable[[], float]

TOLERANCE: Final = 1e-3
"""How far values and base may be from the output, relative to the output where that is over 1."""

MIN_ELAPSED_S: Final = 1e-6

_log = logging.getLogger(__name__)


def explain(  # noqa: PLR0913 - the one door of this room; all but three are named
    pipeline: Pipeline,
    background: ArrayLike,
    X: ArrayLike,
    *,
    feature_names: Sequence[str],
    class_names: Sequence[str] | None,
    task: Task,
    seed: int,
    budget_s: float,
    on_progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> Explanation:
    """Explain rows of X by the columns that the pipeline gets.

    Rows are explained in a seeded random order. When the budget ends first, those explained so far
    are returned, at least one; the budget is looked at between groups of rows.

    Args:
        pipeline: A fitted pipeline; its last step is the model.
        background: Rows that stand for "not knowing a column", (m, d).
        X: Rows to explain, (n, d).
        feature_names: Names of the d columns.
        class_names: Names of the classes in the order of `pipeline.classes_`; None for regression.
        task: Classification or regression.
        seed: Of the row order and of the sampling.
        budget_s: Time for everything.
        on_progress: Called with (rows done, rows in all) after each group of rows. It starts anew
            in the rare case that a cheap method does not fit the model after all.
        clock: Seconds that only grow.

    Raises:
        DataError: Shapes and names do not fit each other, or there are no rows.
    """
    watch = _Stopwatch(clock=clock, began_s=clock(), budget_s=budget_s)
    problem = _checked(pipeline, background, X, feature_names, class_names, task)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(problem.X))
    shuffled = problem.background[rng.permutation(len(problem.background))]
    for method in _methods(problem, shuffled, seed, budget_s):
        parts = _explained(problem.X[order], order, method, watch, on_progress)
        if parts:
            return _gathered(problem, method, parts, order, seed=seed, elapsed_s=watch.elapsed_s())
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

    def rows_that_fit(self, n_done: int) -> int:
        """How many more rows fit the budget, if they take as long as those done."""
        elapsed_s = self.elapsed_s()
        return math.ceil((self.budget_s - elapsed_s) * n_done / max(elapsed_s, MIN_ELAPSED_S))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Problem:
    """What is to be explained, checked."""

    steps: Steps
    background: Floats
    X: Floats
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...] | None


def _checked(
    pipeline: Pipeline,
    background: ArrayLike,
    X: ArrayLike,
    feature_names: Sequence[str],
    class_names: Sequence[str] | None,
    task: Task,
) -> _Problem:
    steps = take_apart(pipeline)
    problem = _Problem(
        steps=steps,
        background=np.asarray(background, dtype=np.float64),
        X=np.asarray(X, dtype=np.float64),
        feature_names=tuple(_text(name) for name in feature_names),
        class_names=None if class_names is None else tuple(_text(name) for name in class_names),
    )
    n_columns = len(problem.feature_names)
    for what, table in (("background", problem.background), ("X", problem.X)):
        if table.ndim != 2 or table.shape[1] != n_columns or not table.size:
            raise DataError(
                f"'{what}' must have rows and one column per feature name ({n_columns}). "
                f"Got the shape {table.shape} instead."
            )
    n_names = len(problem.class_names or ("",))
    if (task == "classification") != steps.is_classifier or n_names != steps.n_outputs:
        raise DataError(
            f"A {task} pipeline with {n_names} class names was expected. Got "
            f"{describe(pipeline)} with {steps.n_outputs} outputs instead. Give one name per "
            "class of 'pipeline.classes_', and None for regression."
        )
    return problem


def _text(name: object) -> str:
    """Give a name as text that any file can hold: a lone surrogate becomes a question mark."""
    return str(name).encode("utf-8", "replace").decode("utf-8")


def _explained(
    X: Floats,
    ids: NDArray[np.intp],
    method: Method,
    watch: _Stopwatch,
    on_progress: Progress | None,
) -> list[Attributed]:
    """Explain rows in groups until the budget ends; nothing where values do not add up."""
    parts: list[Attributed] = []
    n_done, n_next = 0, method.n_rows_at_once
    while n_done < len(X) and n_next > 0:
        group = slice(n_done, n_done + n_next)
        part = method.attribute(X[group], ids[group])
        if not _adds_up(method, part, X[group]):
            return []
        parts.append(part)
        n_done += len(part.values)
        if on_progress:
            on_progress(n_done, len(X))
        n_next = min(method.n_rows_at_once, watch.rows_that_fit(n_done))
    return parts


def _methods(
    problem: _Problem, background: Floats, seed: int, budget_s: float
) -> Iterator[Method]:
    """Give the methods that may fit the model, cheapest first; the last fits every model."""
    from mlflow_automl_remote.explain.fast_svm import accelerated
    from mlflow_automl_remote.explain.linear import linear_method
    from mlflow_automl_remote.explain.sampled import sampled_method
    from mlflow_automl_remote.explain.trees import tree_method

    steps = problem.steps
    linear = linear_method(steps, background)
    if linear:
        yield linear
    try:
        tree = tree_method(steps, background, n_rows=len(problem.X), budget_s=budget_s)
    except Exception:  # noqa: BLE001 - shap reads other libraries' formats; the model can be asked
        _log.debug("shap cannot read this %s", describe(steps.pipeline), exc_info=True)
        tree = None
    if tree:
        yield tree
    output, space = whole_output(accelerated(steps, background))
    yield sampled_method(output, space, background, seed=seed)


def _adds_up(method: Method, attributed: Attributed, X: Floats) -> bool:
    output = method.output(X)
    distance = np.abs(attributed.values.sum(axis=1) + method.base_values - output)
    return bool(np.all(distance <= TOLERANCE * np.maximum(1, np.abs(output))))


def _gathered(
    problem: _Problem,
    method: Method,
    parts: list[Attributed],
    order: NDArray[np.intp],
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
    return Explanation(
        values=values if problem.steps.is_classifier else values[:, :, 0],
        base_values=method.base_values,
        data=problem.X[rows],
        rows=rows,
        feature_names=problem.feature_names,
        class_names=problem.class_names,
        pipeline=describe(problem.steps.pipeline),
        explainer=method.name,
        output_space=method.output_space,
        n_background=method.n_background,
        n_requested=len(problem.X),
        seed=seed,
        elapsed_s=elapsed_s,
        standard_error=float(np.sqrt(squared.mean())),
        complete=len(ids) == len(problem.X),
    )
