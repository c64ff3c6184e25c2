"""Exact SHAP values of tree models behind element-wise scalers, by shap's TreeExplainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Floats, OutputSpace
from mlflow_automl_remote.explain.outputs import (
    Attributed,
    Method,
    Output,
    Steps,
    ask,
    per_class,
    whole_output,
)

FORESTS: Final = frozenset(
    f"{kind}{task}"
    for kind in ("DecisionTree", "RandomForest", "ExtraTrees")
    for task in ("Classifier", "Regressor")
)
SKLEARN_BOOSTERS: Final = frozenset(("GradientBoostingClassifier", "GradientBoostingRegressor"))
RAW_SCORE: Final = {
    "LGBMClassifier": {"raw_score": True},
    "LGBMRegressor": {},
    "XGBClassifier": {"output_margin": True},
    "XGBRegressor": {},
}
NOT_SINGLE_PRECISION: Final = ("LGBMClassifier", "LGBMRegressor")

MAX_NODES: Final = 32_000  # shap numbers the nodes of a tree in 16 bits
S_PER_NODE: Final = 5e-9  # measured: time per row, background row, node and output
SHARE_OF_BUDGET: Final = 0.5
MIN_BACKGROUND: Final = 10
ROWS_AT_ONCE: Final = 8


def tree_method(
    steps: Steps, background: Floats, *, n_rows: int, budget_s: float
) -> Method | None:
    """Explain a tree model against a background; None where this is not one.

    Forests and two-class boosters are explained in probability space (for boosters, margins
    against each background row are rescaled to the probabilities), boosters of more classes as
    margins. The background is cut, never below 10 rows, when all of it would not fit the budget.

    Args:
        steps: The pipeline.
        background: Raw background rows, (m, d).
        n_rows: How many rows will be explained.
        budget_s: Time for all of them.
    """
    kind = type(steps.model).__name__
    if not steps.element_wise or kind not in FORESTS | SKLEARN_BOOSTERS | RAW_SCORE.keys():
        return None
    groups = _groups(steps)
    if max(len(tree.features) for group in groups for tree in group) > MAX_NODES:
        return None
    used = background[: _affordable(groups, n_rows, budget_s)]
    prepare = _prepare(steps, single=kind not in NOT_SINGLE_PRECISION)
    explainers = _explainers(steps, groups, prepare(used))
    output, space = _output(steps)

    def attribute(X: Floats, ids: NDArray[np.intp]) -> Attributed:
        Z = prepare(X)
        parts = [explainer.values(Z) for explainer in explainers]
        values = _per_class(np.concatenate(parts, axis=2), steps)
        return Attributed(values=values, squared_error=np.zeros_like(values))

    return Method(
        name="tree-rescaled" if _is_rescaled(steps) else "tree",
        output_space=space,
        output=output,
        base_values=output(used).mean(axis=0),
        n_background=len(used),
        attribute=attribute,
        n_rows_at_once=ROWS_AT_ONCE,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _RankedExplainer:
    """A TreeExplainer in which each column counts the thresholds that a value has passed.

    shap compares in single precision, where a value and a threshold next to it can change sides.
    The ranks are small whole numbers, so that every row takes the path it takes in the model.

    Attributes:
        explainer: A `shap.TreeExplainer` whose thresholds and background are ranks.
        cuts: The thresholds of each column, ascending.
    """

    explainer: Any
    cuts: tuple[Floats, ...]

    def values(self, Z: Floats) -> Floats:
        """Explain transformed rows: (k, d, outputs of this explainer)."""
        answer = self.explainer.shap_values(_ranks(Z, self.cuts), check_additivity=False)
        values = np.asarray(answer, dtype=np.float64)
        return values if values.ndim == 3 else values[:, :, np.newaxis]


def _ranked(explainer: Any, background: Floats) -> _RankedExplainer:
    model = explainer.model
    inner = model.children_left >= 0
    cuts = []
    for column in range(background.shape[1]):
        mine = inner & (model.features == column)
        thresholds = np.unique(model.thresholds[mine])
        model.thresholds[mine] = np.searchsorted(thresholds, model.thresholds[mine])
        cuts.append(thresholds)
    explainer.data = _ranks(background, tuple(cuts))
    return _RankedExplainer(explainer=explainer, cuts=tuple(cuts))


def _ranks(Z: Floats, cuts: tuple[Floats, ...]) -> Floats:
    """Count the thresholds below each value; a missing value stays missing."""
    columns = [np.searchsorted(cut, Z[:, i], side="left") for i, cut in enumerate(cuts)]
    return np.where(np.isnan(Z), np.nan, np.column_stack(columns))


def _shap() -> tuple[Any, Any]:
    """Import shap's TreeExplainer and SingleTree; importing warns about matplotlib's future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from shap import TreeExplainer
        from shap.explainers._tree import SingleTree
    return TreeExplainer, SingleTree


def _groups(steps: Steps) -> list[list[Any]]:
    """Read the model's trees: one list, or one per class for boosters of several classes."""
    tree_explainer, single_tree = _shap()
    model = steps.model
    if type(model).__name__ == "GradientBoostingClassifier":
        scaling = model.learning_rate
        return [
            [single_tree(tree.tree_, scaling=scaling) for tree in trees]
            for trees in model.estimators_.T
        ]
    trees = tree_explainer(model).model.trees
    if not _one_group_per_class(steps):
        return [trees]
    return [trees[number :: steps.n_outputs] for number in range(steps.n_outputs)]


def _one_group_per_class(steps: Steps) -> bool:
    return steps.n_outputs > 2 and type(steps.model).__name__ not in FORESTS


def _is_rescaled(steps: Steps) -> bool:
    """Whether this is a two-class booster, whose trees add up to a margin."""
    return steps.n_outputs == 2 and type(steps.model).__name__ not in FORESTS


def _explainers(steps: Steps, groups: list[list[Any]], Z: Floats) -> list[_RankedExplainer]:
    tree_explainer, _ = _shap()
    if _one_group_per_class(steps):
        sources, model_output = groups, "raw"
    else:
        sources, model_output = [steps.model], "probability" if _is_rescaled(steps) else "raw"
    return [
        _ranked(
            tree_explainer(
                source, Z, feature_perturbation="interventional", model_output=model_output
            ),
            Z,
        )
        for source in sources
    ]


def _affordable(groups: list[list[Any]], n_rows: int, budget_s: float) -> int:
    """How many background rows fit the budget; the same answer on every machine."""
    n_nodes = sum(tree.values.size for group in groups for tree in group)
    per_background_row_s = n_rows * n_nodes * S_PER_NODE
    return max(MIN_BACKGROUND, int(SHARE_OF_BUDGET * budget_s / per_background_row_s))


def _prepare(steps: Steps, *, single: bool) -> Callable[[Floats], Floats]:
    """Give what the trees compare: transformed rows, rounded as the model rounds them."""

    def prepare(X: Floats) -> Floats:
        Z = steps.transform(X)
        return Z.astype(np.float32).astype(np.float64) if single else Z

    return prepare


def _output(steps: Steps) -> tuple[Output, OutputSpace]:
    if not _one_group_per_class(steps):
        return whole_output(steps)
    model = steps.model
    options = RAW_SCORE.get(type(model).__name__)
    method = "decision_function" if options is None else "predict"
    return (
        lambda X: per_class(ask(model, method, steps.transform(X), **(options or {}))),
        "margin",
    )


def _per_class(values: Floats, steps: Steps) -> Floats:
    """Show the one output of a two-class booster as both classes."""
    if steps.is_classifier and values.shape[2] == 1:
        return np.concatenate([-values, values], axis=2)
    return values
