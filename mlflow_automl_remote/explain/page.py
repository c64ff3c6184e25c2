"""Packs an explanation into one interactive HTML page that needs no network and no storage."""

from __future__ import annotations

import base64
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote import pages
from mlflow_automl_remote.explain.explanation import Explanation, Floats
from mlflow_automl_remote.explain.summary import descending, importances

MAX_PACKED_BYTES: Final = 1_350_000
"""Of the packed numbers, so that the page stays under 2 MB."""
MAX_FEATURES: Final = 120
MAX_NAME: Final = 300
MIN_TEXT: Final = 8
MAX_TEXT_BYTES: Final = 400_000
"""Of the texts of categories, which are at most four bytes a character."""
FULL: Final = 32767

SCRIPTS: Final = ("model.js", "charts.js", "page.js")
"""In this order: each uses those before it."""


def page(explanation: Explanation) -> str:
    """Give the page as one HTML document.

    It shows the most important features (120 at most, the rest as one) and as many of the
    explained rows as fit 2 MB; the importances are those of all rows.
    """
    before, after = pages.frame(__package__, "Explanation", SCRIPTS)
    return before + pages.embedded(_content(explanation)) + after


def _content(explanation: Explanation) -> dict[str, object]:
    per_class = importances(explanation)
    shown = descending(per_class.mean(axis=0))[:MAX_FEATURES]
    n_hidden = len(explanation.feature_names) - len(shown)
    rows = _rows(explanation, len(shown) + (n_hidden > 0))
    values = explanation.per_output()[rows]
    table = values[:, shown]
    if n_hidden:
        others = values.sum(axis=1) - table.sum(axis=1)
        table = np.concatenate([table, others[:, np.newaxis]], axis=1)
    return {
        "pipeline": explanation.pipeline,
        "explainer": explanation.explainer,
        "space": explanation.output_space,
        "nExplained": len(explanation.rows),
        "nRequested": explanation.n_requested,
        "nBackground": explanation.n_background,
        "seed": explanation.seed,
        "elapsed": round(explanation.elapsed_s, 2),
        "standardError": float(f"{explanation.standard_error:.3g}"),
        "complete": explanation.complete,
        "classes": _names(explanation.class_names) if explanation.class_names else None,
        "features": _names(tuple(explanation.feature_names[i] for i in shown)),
        "nHidden": n_hidden,
        "importance": [[float(f"{v:.4g}") for v in row] for row in per_class[:, shown].tolist()],
        "base": explanation.base_values.tolist(),
        "rows": explanation.rows[rows].tolist(),
        "levels": _levels(explanation, shown),
        "data": _base64(explanation.data[rows][:, shown].T.astype("<f4")),
        **_packed(table),
    }


def _levels(explanation: Explanation, shown: NDArray[np.intp]) -> dict[str, list[str]]:
    """Give the texts of categories by place, shorter where they are many; none for dates."""
    found = {
        str(place): explanation.levels[int(at)]
        for place, at in enumerate(shown)
        if int(at) in explanation.levels
    }
    longest = max(MIN_TEXT, MAX_TEXT_BYTES // max(1, 4 * sum(map(len, found.values()))))
    return {place: [text[:longest] for text in texts] for place, texts in found.items()}


def _names(names: tuple[str, ...]) -> list[str]:
    return [name[:MAX_NAME] for name in names]


def _rows(explanation: Explanation, n_columns: int) -> NDArray[np.intp]:
    """Choose the rows that fit, at random."""
    n_rows, _, n_outputs = explanation.per_output().shape
    bytes_per_row = n_columns * (4 + 2 * n_outputs) * 4 / 3
    count = min(n_rows, max(1, int(MAX_PACKED_BYTES / bytes_per_row)))
    return np.sort(np.random.default_rng(explanation.seed).permutation(n_rows)[:count])


def _packed(table: Floats) -> dict[str, object]:
    """Pack values (n, d, outputs) as 16-bit parts of the largest of their feature and output."""
    by_output = table.transpose(2, 1, 0)
    scale = np.abs(by_output).max(axis=2, keepdims=True) / FULL
    parts = np.round(by_output / np.where(scale > 0, scale, 1)).astype("<i2")
    return {"values": _base64(parts), "scale": [float(f"{v:.7g}") for v in scale.ravel().tolist()]}


def _base64(array: NDArray[np.generic]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
