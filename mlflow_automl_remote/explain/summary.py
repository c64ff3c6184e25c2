"""The six parts of an explanation, and the folder of files that holds them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Explanation, Floats

MAX_JSON_BYTES: Final = 5_000_000
BYTES_PER_NUMBER: Final = 14
N_DIGITS: Final = 6
FORMAT_VERSION: Final = 1


class SixParts(NamedTuple):
    """What users of `explain_model` unpack, in its order and with its sorting.

    Attributes:
        shap_values: (n, d) for regression; for classification one (n, d) table per class.
        expected_values: The base value of each class; one for regression.
        overall_summary: Mean |SHAP value| per feature, averaged over classes, descending; (d,).
        overall_imp: Feature names in that order; (d,).
        per_class_summary: Mean |SHAP value| per class, each row descending by itself; (C, d). None
            for regression.
        per_class_imp: Feature names in those orders; (C, d). None for regression.
    """

    shap_values: Floats | list[Floats]
    expected_values: list[float]
    overall_summary: list[float]
    overall_imp: list[str]
    per_class_summary: list[list[float]] | None
    per_class_imp: list[list[str]] | None


def importances(explanation: Explanation) -> Floats:
    """Give the mean |SHAP value| per output and feature, (outputs, d)."""
    means: Floats = np.abs(explanation.per_output()).mean(axis=0).T
    return means


def descending(importance: Floats) -> NDArray[np.intp]:
    """Order features by importance, equal ones as they stand."""
    return np.argsort(-importance, kind="stable")


def six_parts(explanation: Explanation) -> SixParts:
    """Summarise an explanation as six parts, most important feature first."""
    per_class = importances(explanation)
    overall, names = _ranked(per_class.mean(axis=0), explanation.feature_names)
    if explanation.class_names is None:
        return SixParts(
            explanation.values, explanation.base_values.tolist(), overall, names, None, None
        )
    ranked = [_ranked(row, explanation.feature_names) for row in per_class]
    return SixParts(
        shap_values=[explanation.values[:, :, k] for k in range(len(ranked))],
        expected_values=explanation.base_values.tolist(),
        overall_summary=overall,
        overall_imp=names,
        per_class_summary=[values for values, _ in ranked],
        per_class_imp=[names for _, names in ranked],
    )


def _ranked(importance: Floats, names: tuple[str, ...]) -> tuple[list[float], list[str]]:
    order = descending(importance)
    return importance[order].tolist(), [names[i] for i in order]


def write(explanation: Explanation, folder: Path) -> None:
    """Write an explanation as files, replacing those of an earlier one.

    `summary.json` holds the six parts and how they were made, `values.npz` all numbers in full
    precision; `beeswarm.png`, `bar.png`, `dependence.png` and `waterfall.png` are pictures,
    `explanation.html` is an interactive page that needs nothing else.

    Args:
        explanation: What to write.
        folder: Made when it is missing.
    """
    from mlflow_automl_remote.explain.dependence import draw_dependence, draw_waterfall
    from mlflow_automl_remote.explain.page import page
    from mlflow_automl_remote.explain.plots import draw_bar, draw_beeswarm

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(_to_json(explanation), encoding="utf-8")
    _write_npz(explanation, folder / "values.npz")
    draw_beeswarm(explanation, folder / "beeswarm.png")
    draw_bar(explanation, folder / "bar.png")
    draw_dependence(explanation, folder / "dependence.png")
    draw_waterfall(explanation, folder / "waterfall.png")
    (folder / "explanation.html").write_text(page(explanation), encoding="utf-8")


def _to_json(explanation: Explanation) -> str:
    from mlflow_automl_remote.explain.findings import findings, stability

    parts = six_parts(explanation)
    fits = explanation.values.size * BYTES_PER_NUMBER <= MAX_JSON_BYTES
    content = {
        "format_version": FORMAT_VERSION,
        "task": "regression" if explanation.class_names is None else "classification",
        "pipeline": explanation.pipeline,
        "explainer": explanation.explainer,
        "output_space": explanation.output_space,
        "rows": explanation.rows.tolist(),
        "n_rows": len(explanation.rows),
        "n_requested": explanation.n_requested,
        "n_background": explanation.n_background,
        "seed": explanation.seed,
        "elapsed_s": round(explanation.elapsed_s, 3),
        "standard_error": explanation.standard_error,
        "complete": explanation.complete,
        "feature_names": explanation.feature_names,
        "class_names": explanation.class_names,
        "levels": {
            explanation.feature_names[at]: texts for at, texts in explanation.levels.items()
        },
        "findings": [dataclasses.asdict(finding) for finding in findings(explanation)],
        "stability": stability(explanation),
        **parts._asdict(),
        "shap_values_in": "summary.json" if fits else "values.npz",
        "shap_values": _as_lists(parts.shap_values) if fits else _pointer(explanation),
    }
    return json.dumps(content, allow_nan=False, ensure_ascii=False)


def _pointer(explanation: Explanation) -> dict[str, object]:
    """Say where the values are when they are too many for JSON."""
    return {
        "file": "values.npz",
        "array": "shap_values",
        "shape": list(explanation.values.shape),
        "axes": ["row", "feature", "class"][: explanation.values.ndim],
    }


def _as_lists(values: Floats | list[Floats]) -> list[object]:
    table = np.asarray(values)
    scale = 10.0 ** (N_DIGITS - 1 - np.floor(np.log10(np.maximum(np.abs(table), 1e-300))))
    rounded = np.where(table == 0, 0.0, np.round(table * scale) / scale)
    numbers: list[object] = np.where(np.isfinite(rounded), rounded, table).tolist()
    return numbers


def _write_npz(explanation: Explanation, path: Path) -> None:
    names = np.array(explanation.feature_names, dtype=np.str_)
    classes = np.array(explanation.class_names or (), dtype=np.str_)
    np.savez_compressed(
        path,
        shap_values=explanation.values,
        expected_values=explanation.base_values,
        data=explanation.data,
        rows=explanation.rows,
        feature_names=names,
        class_names=classes,
    )
