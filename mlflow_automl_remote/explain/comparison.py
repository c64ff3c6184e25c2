"""Lays the importances of several explained models side by side: do the good models agree?"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote import pages
from mlflow_automl_remote.explain.explanation import Floats
from mlflow_automl_remote.explain.findings import rank_correlation

MAX_FEATURES: Final = 60
MAX_NAME: Final = 300
AGREE: Final = 0.8
DIFFER: Final = 0.5


def write(folders: Sequence[Path], labels: Sequence[str], folder: Path) -> None:
    """Write `comparison.json` and `comparison.html`.

    Args:
        folders: What `summary.write` wrote, the best model first.
        labels: One per folder.
        folder: Made when it is missing.
    """
    names, shares = _read(folders)
    folder.mkdir(parents=True, exist_ok=True)
    agreement = np.array([[rank_correlation(a, b) for b in shares] for a in shares])
    content = {
        "models": list(labels),
        "features": names,
        "importance_shares": np.round(shares, 6).tolist(),
        "rank_correlation": np.round(agreement, 4).tolist(),
    }
    (folder / "comparison.json").write_text(
        json.dumps(content, ensure_ascii=False), encoding="utf-8"
    )
    (folder / "comparison.html").write_text(
        _page(names, shares, agreement, labels), encoding="utf-8"
    )


def _read(folders: Sequence[Path]) -> tuple[list[str], Floats]:
    """Give features, the most important first, and their shares, (models, features)."""
    found = []
    for folder in folders:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        found.append(dict(zip(summary["overall_imp"], summary["overall_summary"], strict=True)))
    names = list(dict.fromkeys(name for one in found for name in one))
    sizes = np.array([[one.get(name, 0.0) for name in names] for one in found])
    shares = sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1e-300)
    order = np.argsort(-shares.mean(axis=0), kind="stable")
    return [names[at] for at in order], shares[:, order]


def _page(names: list[str], shares: Floats, agreement: Floats, labels: Sequence[str]) -> str:
    static = files(__package__) / "static"
    style = (static / "comparison.css").read_text(encoding="utf-8")
    ranks = np.argsort(np.argsort(-shares, axis=1, kind="stable"), axis=1) + 1
    head = "".join(f'<th scope="col">{_escaped(label)}</th>' for label in labels)
    largest = max(float(shares.max()), 1e-300)
    rows = "\n".join(
        f'<tr><th scope="row" title="{_escaped(name)}">{_escaped(name)}</th>'
        + "".join(
            _cell(float(share), int(rank), largest)
            for share, rank in zip(shares[:, at], ranks[:, at], strict=True)
        )
        + "</tr>"
        for at, name in enumerate(names[:MAX_FEATURES])
    )
    hidden = len(names) - MAX_FEATURES
    more = (
        f"<p class=hint>{hidden} less important features are not shown.</p>" if hidden > 0 else ""
    )
    body = (
        f"<h1>Do the good models agree?</h1><p>{_verdict(agreement)}</p>"
        '<div class="scroll"><table><thead><tr><th scope="col">Feature</th>'
        f"{head}</tr></thead><tbody>{_agreement_row(agreement)}{rows}</tbody></table></div>{more}"
        "<p class=hint>Share of all importance (mean |SHAP value|), and rank within the model. "
        "Agreement is the rank correlation with the first model: 1 is the same order, 0 none.</p>"
    )
    return pages.document("Models side by side", style, body)


def _cell(share: float, rank: int, largest: float) -> str:
    return (
        f'<td><span class="rank">{rank}</span><span class="bar">'
        f'<i style="width:{100 * share / largest:.1f}%"></i></span>'
        f'<span class="share">{100 * share:.1f} %</span></td>'
    )


def _agreement_row(agreement: Floats) -> str:
    cells = "".join(
        f'<td class="agreement">{"first" if at == 0 else f"{value:.2f}"}</td>'
        for at, value in enumerate(agreement[0])
    )
    return f'<tr class="agreement"><th scope="row">Agreement</th>{cells}</tr>'


def _verdict(agreement: Floats) -> str:
    lowest = float(agreement.min())
    if lowest >= AGREE:
        return f"Yes: they rank the features much alike (rank correlation {lowest:.2f} or more)."
    if lowest >= DIFFER:
        return f"Mostly: they share the main features (rank correlation {lowest:.2f} or more)."
    return (
        f"Not all of them: two rank the features differently (rank correlation {lowest:.2f})."
        " Models that score alike for different reasons are worth a second look."
    )


def _escaped(text: str) -> str:
    return html.escape(text[:MAX_NAME])
