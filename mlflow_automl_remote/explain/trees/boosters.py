"""Reads the trees of LightGBM, XGBoost and CatBoost from the formats that they save."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.trees.forest import LEAF, Forest, Ints, joined
from mlflow_automl_remote.explain.trees.sklearn_trees import Unreadable, _at, _codes

_CATEGORY: Final = 1  # bits of LightGBM's decision types
_DEFAULT_LEFT: Final = 2
_MISSING: Final = 12
_MISSING_NONE: Final = 0
_MISSING_NAN: Final = 8


def read_lightgbm(model: Any) -> Forest:
    """Read LightGBM's text format; categories are codes, as of a category column."""
    booster = model.booster_
    best = model.best_iteration_ or -1
    text = booster.model_to_string(num_iteration=best)
    n_outputs = booster.num_model_per_iteration()
    blocks = text.split("\nTree=")[1:]
    return joined(
        [
            _lightgbm_tree(_fields(block), number % n_outputs, n_outputs)
            for number, block in enumerate(blocks)
        ]
    )


def _fields(block: str) -> dict[str, str]:
    lines = block.split("\n\n", 1)[0].splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _numbers(fields: Mapping[str, str], name: str, kind: type) -> Any:
    return np.array(fields.get(name, "").split(), dtype=kind)


def _lightgbm_tree(fields: Mapping[str, str], output: int, n_outputs: int) -> Forest:
    if fields.get("is_linear", "0") != "0":
        raise Unreadable("linear leaves")
    leaves = _numbers(fields, "leaf_value", float)
    if int(fields["num_leaves"]) == 1:
        return _stump(leaves, output, n_outputs)
    kinds = _numbers(fields, "decision_type", int)
    threshold = _numbers(fields, "threshold", float)
    is_category = kinds & _CATEGORY != 0
    missing = kinds & _MISSING
    if not np.isin(missing[~is_category], (_MISSING_NONE, _MISSING_NAN)).all():
        raise Unreadable("zeros count as missing")
    default = np.where(missing == _MISSING_NAN, kinds & _DEFAULT_LEFT != 0, threshold >= 0)
    n_inner = len(kinds)
    below = [_numbers(fields, f"{side}_child", int) for side in ("left", "right")]
    left, right = (np.where(side < 0, n_inner + ~side, side) for side in below)
    pad = np.zeros(len(leaves))
    return Forest(
        column=np.append(_numbers(fields, "split_feature", int), np.full(len(leaves), LEAF)),
        threshold=np.append(threshold, pad),
        missing_left=np.append(default & ~is_category, pad != 0),
        left=np.append(left, pad).astype(np.intp),
        right=np.append(right, pad).astype(np.intp),
        value=_at(np.append(np.zeros(n_inner), leaves), output, n_outputs),
        roots=np.zeros(1, dtype=np.intp),
        left_codes=_lightgbm_codes(fields, threshold, is_category),
        single=False,
    )


def _lightgbm_codes(
    fields: Mapping[str, str], threshold: Floats, is_category: Any
) -> dict[int, Ints]:
    bounds = _numbers(fields, "cat_boundaries", int)
    words = _numbers(fields, "cat_threshold", np.uint32)
    return {
        int(node): _codes(words[bounds[int(threshold[node])] : bounds[int(threshold[node]) + 1]])
        for node in np.flatnonzero(is_category)
    }


def _stump(leaves: Floats, output: int, n_outputs: int) -> Forest:
    """Make a tree of one leaf."""
    zero = np.zeros(1, dtype=np.intp)
    return Forest(
        column=np.full(1, LEAF),
        threshold=np.zeros(1),
        missing_left=np.zeros(1, dtype=bool),
        left=zero,
        right=zero,
        value=_at(leaves[:1], output, n_outputs),
        roots=zero,
        single=False,
    )


def read_xgboost(model: Any) -> Forest:
    """Read XGBoost's JSON; trees after the best round of an early stop do not count."""
    learner = json.loads(model.get_booster().save_raw("json"))["learner"]
    content = learner["gradient_booster"]
    if content["name"] != "gbtree":
        raise Unreadable(content["name"])
    parts = content["model"]
    n_outputs = max(int(learner["learner_model_param"]["num_class"]), 1)
    trees, outputs = parts["trees"], parts["tree_info"]
    best = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    if best is not None:
        n_trees = parts["iteration_indptr"][int(best) + 1]
        trees, outputs = trees[:n_trees], outputs[:n_trees]
    return joined(
        [
            _xgboost_tree(tree, output, n_outputs)
            for tree, output in zip(trees, outputs, strict=True)
        ]
    )


def _xgboost_tree(tree: Mapping[str, Any], output: int, n_outputs: int) -> Forest:
    if any(tree["split_type"]):
        raise Unreadable("categories")
    left = np.array(tree["left_children"], dtype=np.intp)
    leaf = left < 0
    conditions = np.array(tree["split_conditions"], dtype=np.float32)
    # Left is below the condition, and not at it.
    below = np.nextafter(conditions, np.float32(-np.inf)).astype(np.float64)
    return Forest(
        column=np.where(leaf, LEAF, np.array(tree["split_indices"])).astype(np.intp),
        threshold=below,
        missing_left=np.array(tree["default_left"], dtype=bool),
        left=left,
        right=np.array(tree["right_children"], dtype=np.intp),
        value=_at(np.where(leaf, conditions, 0.0), output, n_outputs),
        roots=np.zeros(1, dtype=np.intp),
    )


def read_catboost(model: Any) -> Forest:
    """Read CatBoost's JSON: trees that ask the same at every node of a level."""
    with tempfile.TemporaryDirectory(prefix="automl-remote-") as folder:
        path = Path(folder, "model.json")
        model.save_model(str(path), format="json")
        content = json.loads(path.read_text(encoding="utf-8"))
    if "oblivious_trees" not in content:
        raise Unreadable("trees of another policy")
    info = content["features_info"]["float_features"]
    columns = {one["feature_index"]: one["flat_feature_index"] for one in info}
    missing_left = {one["feature_index"]: one["nan_value_treatment"] != "AsTrue" for one in info}
    scale = content["scale_and_bias"][0]
    return joined(
        [_oblivious(tree, columns, missing_left, scale) for tree in content["oblivious_trees"]]
    )


def _oblivious(
    tree: Mapping[str, Any],
    columns: Mapping[int, int],
    missing_left: Mapping[int, bool],
    scale: float,
) -> Forest:
    splits = tree["splits"] or []
    if any(split["split_type"] != "FloatFeature" for split in splits):
        raise Unreadable("categories")
    depth = len(splits)
    level = np.repeat(np.arange(depth), 1 << np.arange(depth))  # node i has 2 i + 1 and 2 i + 2
    n_inner, n_leaves = len(level), 1 << depth
    asked = [split["float_feature_index"] for split in splits]
    leaves = np.asarray(tree["leaf_values"], dtype=np.float64).reshape(n_leaves, -1) * scale
    # The first split is the lowest bit of a leaf's number, and the highest of its place here.
    place = np.arange(n_leaves)
    number = sum(((place >> (depth - 1 - bit)) & 1) << bit for bit in range(depth))
    inner = np.arange(n_inner)
    pad = np.zeros(n_leaves, dtype=np.intp)
    borders = np.array([split["border"] for split in splits])
    column = np.array([columns[one] for one in asked], dtype=np.intp)
    to_left = np.array([missing_left[one] for one in asked], dtype=bool)
    value = np.zeros((n_inner + n_leaves, leaves.shape[1]))
    value[n_inner:] = leaves[number]
    return Forest(
        column=np.append(column[level], np.full(n_leaves, LEAF)),
        threshold=np.append(borders[level], pad).astype(np.float64),
        missing_left=np.append(to_left[level], pad != 0).astype(bool),
        left=np.append(2 * inner + 1, pad),
        right=np.append(2 * inner + 2, pad),
        value=value,
        roots=np.zeros(1, dtype=np.intp),
    )
