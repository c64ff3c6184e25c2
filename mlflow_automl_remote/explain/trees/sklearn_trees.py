"""Reads the trees of scikit-learn's models."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.trees.forest import LEAF, Forest, joined


class Unreadable(Exception):
    """A model's trees cannot be read, or do not just add up; it can still be asked."""


def read_tree(model: Any) -> Forest:
    """Read one decision tree: its leaves hold probabilities, or the prediction."""
    return _tree(model.tree_, _leaf_values(model))


def read_forest(model: Any) -> Forest:
    """Read a forest, whose output is the mean of its trees."""
    n_trees = len(model.estimators_)
    return joined([_tree(one.tree_, _leaf_values(one) / n_trees) for one in model.estimators_])


def read_boosting(model: Any) -> Forest:
    """Read gradient boosting, whose trees add up to a margin or the prediction."""
    n_outputs = model.estimators_.shape[1]
    trees = []
    for stage in model.estimators_:
        for output, one in enumerate(stage):
            share = one.tree_.value[:, 0, 0] * model.learning_rate
            trees.append(_tree(one.tree_, _at(share, output, n_outputs)))
    return joined(trees)


def read_histograms(model: Any) -> Forest:
    """Read boosting over histograms; its columns are those after its own encoding."""
    n_outputs = model.n_trees_per_iteration_
    return joined(
        [
            _histogram_tree(one, output, n_outputs)
            for stage in model._predictors
            for output, one in enumerate(stage)
        ]
    )


def _leaf_values(model: Any) -> Floats:
    """Give what each node predicts, (nodes, outputs)."""
    if model.tree_.value.shape[1] > 1:
        raise Unreadable("several targets")
    values = np.asarray(model.tree_.value[:, 0], dtype=np.float64)
    if not hasattr(model, "classes_"):
        return values
    shares: Floats = values / values.sum(axis=1, keepdims=True)
    return shares


def _tree(tree: Any, value: Floats) -> Forest:
    leaf = tree.children_left < 0
    return Forest(
        column=np.where(leaf, LEAF, tree.feature).astype(np.intp),
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        missing_left=np.asarray(tree.missing_go_to_left, dtype=bool),
        left=tree.children_left.astype(np.intp),
        right=tree.children_right.astype(np.intp),
        value=value,
        roots=np.zeros(1, dtype=np.intp),
    )


def _histogram_tree(predictor: Any, output: int, n_outputs: int) -> Forest:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    return Forest(
        column=np.where(leaf, LEAF, nodes["feature_idx"]).astype(np.intp),
        threshold=nodes["num_threshold"].astype(np.float64),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        left=nodes["left"].astype(np.intp),
        right=nodes["right"].astype(np.intp),
        value=_at(nodes["value"], output, n_outputs),
        roots=np.zeros(1, dtype=np.intp),
        left_codes={
            int(node): _codes(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
            for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf)
        },
        single=False,
    )


def _codes(words: Any) -> Any:
    """Give the codes whose bits are set in words of 32 bits."""
    bits = np.unpackbits(np.asarray(words, dtype="<u4").view(np.uint8), bitorder="little")
    return np.flatnonzero(bits)


def _at(share: Any, output: int, n_outputs: int) -> Floats:
    value = np.zeros((len(share), n_outputs))
    value[:, output] = share
    return value
