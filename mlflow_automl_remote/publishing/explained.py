"""What a person in a hurry reads of an explanation: a paragraph for the notes of runs."""

from __future__ import annotations

import html
import re
from typing import Final

from mlflow_automl_remote.journal.events import ExplanationFinished
from mlflow_automl_remote.publishing.text import one_line

MAX_NAME: Final = 60
MAX_EFFECT: Final = 160
STABLE: Final = 0.8
SHAKY: Final = 0.5
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
_SPACES: Final = {
    "probability": "probabilities",
    "margin": "margins (log-odds or distances to the boundary)",
    "value": "the predicted value",
}


def escaped(text: str, limit: int = 80) -> str:
    """Make text mean itself in Markdown."""
    return html.escape(_MARKDOWN.sub(r"\\\1", one_line(text, limit)), quote=False)


def paragraph(explanation: ExplanationFinished) -> str:
    """Say what matters to a model, which way, how surely, and how it was found out."""
    if explanation.reason:
        return f"Not explained: {escaped(explanation.reason, 300)}."
    if not explanation.findings:
        return "Explanation: in the artifacts under `explanation/`."
    features = [
        f"**{escaped(one.feature, MAX_NAME)}** {100 * one.share:.0f} %"
        + (f" ({escaped(one.effect, MAX_EFFECT)})" if one.effect else "")
        for one in explanation.findings
    ]
    text = f"What matters most: {'; '.join(features)}."
    return f"{text} {_stability(explanation.stability)}{_how(explanation)}"


def _stability(stability: float | None) -> str:
    if stability is None:
        return ""
    word = (
        "stable"
        if stability >= STABLE
        else "fairly stable"
        if stability >= SHAKY
        else "not stable"
    )
    return (
        f"The ranking is {word} over five parts of the rows (rank correlation {stability:.2f}). "
    )


def _how(explanation: ExplanationFinished) -> str:
    rows = f"{explanation.n_rows} rows"
    if explanation.n_rows < explanation.n_requested:
        rows += f" of {explanation.n_requested} before its time was over"
    space = _SPACES.get(explanation.output_space, escaped(explanation.output_space))
    error = explanation.standard_error
    sure = f", standard error of a value {error:.2g}" if error else ""
    return (
        f"SHAP by {escaped(explanation.explainer)} in {explanation.duration_s:.1f} s, {rows}, "
        f"values add up to {space}{sure}; more under `explanation/`."
    )
