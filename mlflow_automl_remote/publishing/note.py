"""The description of the parent run: a leaderboard and what to do with it, as Markdown."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Final

from mlflow_automl_remote.publishing.explained import escaped as _escaped
from mlflow_automl_remote.publishing.explained import paragraph
from mlflow_automl_remote.publishing.mapping import counts
from mlflow_automl_remote.publishing.text import one_line
from mlflow_automl_remote.publishing.view import Row, View
from mlflow_automl_remote.states import IterationState

MAX_NOTE: Final = 7_800  # MLflow cuts a tag off at 8,000
N_ROWS: Final = 10
N_REASONS: Final = 5

_CALL: Final = {
    True: 'model.predict(X, params={"predict_method": "predict_proba"})  # without: labels\n',
    False: "model.predict(X)\n",
}


def to_markdown(view: View, experiment_id: str) -> str:
    """Write the description."""
    table = partial(_table, experiment_id=experiment_id)
    parts = (_headline, _best, table, _findings, _failures, _footer)
    blocks = [block for part in parts if (block := part(view))]
    while len(note := "\n\n".join(blocks)) > MAX_NOTE:
        blocks.pop(-2)
    return note + "\n"


def _headline(view: View) -> str:
    state = view.state
    n_in_state = ", ".join(f"{n} {name.removeprefix('n_')}" for name, n in counts(state).items())
    target = one_line(view.facts.target, 80).replace("`", "'")  # as code, or it becomes a link
    line = f"**{state.status.value}** on `{target}`"
    line += f" · {n_in_state or 'no iterations yet'}"
    data = state.data
    if data is not None:
        line += f" · {data.n_rows} rows, {data.n_columns} columns"
    if state.ended_by:
        line += f"\n\n{_escaped(state.ended_by, 300)}"
    if state.reason:
        line += f"\n\n> {_escaped(state.reason, 600)}"
    return line.replace("timed_out", "timed out").replace("out_of_memory", "out of memory")


def _best(view: View) -> str:
    row = next(view.rows(), None)
    if row is None or row.rank is None:
        return ""
    one = row.iteration
    text = (
        f"### Best: {_escaped(one.pipeline)}\n\n"
        f"{_escaped(view.primary_metric)} **{_score(row)}** in iteration {one.number}."
    )
    if one.standard_error is not None:
        text += f" Standard error over the folds: {one.standard_error:.2g}."
    if one.predict_ms_per_row is not None:
        text += f" It predicts a row in {one.predict_ms_per_row:.3g} ms"
        quick = view.state.optimize_for == "latency"
        text += ", the fastest of those near the best score." if quick else "."
    tested = one.test_metrics.get(view.primary_metric)
    if tested is not None:
        text += f" On rows that nothing was chosen by: **{tested:.5g}**."
    if row.model_id:
        text += (
            "\n\n```python\nimport mlflow\n\n"
            f'model = mlflow.pyfunc.load_model("models:/{row.model_id}")\n'
            f"{_CALL[view.state.data is not None and view.state.data.n_classes is not None]}```"
        )
    if view.state.explanation is not None:
        text += f"\n\n{paragraph(view.state.explanation)}"
    if view.state.comparison is not None and not view.state.comparison.reason:
        text += " Explained models side by side: `explanation/comparison.html`."
    return text


def _table(view: View, experiment_id: str) -> str:
    rows = [row for row in view.rows() if row.rank is not None][:N_ROWS]
    if not rows:
        return ""
    head = f"| # | iteration | pipeline | {_escaped(view.primary_metric)} | ms/row | duration |"
    lines = [head, "| ---: | ---: | --- | ---: | ---: | ---: |"]
    for row in rows:
        one = row.iteration
        cells = (
            str(row.rank),
            _link(str(one.number), row, experiment_id),
            _escaped(one.pipeline),
            _score(row),
            "" if one.predict_ms_per_row is None else f"{one.predict_ms_per_row:.3g}",
            f"{one.duration_s:.1f} s" if one.duration_s is not None else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _link(text: str, row: Row, experiment_id: str) -> str:
    return f"[{text}](#/experiments/{experiment_id}/runs/{row.run_id})" if row.run_id else text


def _findings(view: View) -> str:
    """Tell what a person should know about the data: warnings only."""
    data = view.state.data
    found = [one for one in data.guardrails if one.severity == "warning"] if data else []
    lines = [f"- {_escaped(one.text, 200)}" for one in found[:N_REASONS]]
    if len(found) > N_REASONS:
        lines.append(f"- and {len(found) - N_REASONS} others, see `overview.html`")
    return "\n".join(["### The data", "", *lines]) if lines else ""


def _failures(view: View) -> str:
    """Tell the reasons why iterations have no model, the most frequent first."""
    reasons = Counter(
        (row.iteration.state, row.iteration.reason)
        for row in view.rows()
        if row.iteration.state not in (IterationState.COMPLETED, IterationState.RUNNING)
    )
    if not reasons and not view.unpublished:
        return ""
    lines = ["### Without a model", ""]
    lines += [
        f"- {n} {state.value.lower().replace('_', ' ')}: {_escaped(reason, 200) or 'no reason'}"
        for (state, reason), n in reasons.most_common(N_REASONS)
    ]
    if len(reasons) > N_REASONS:
        lines.append(f"- and {len(reasons) - N_REASONS} other reasons, see `leaderboard.html`")
    lines += [
        f"- iteration {number} is not in MLflow: {_escaped(reason, 200)}"
        for number, reason in sorted(view.unpublished.items())[:N_REASONS]
    ]
    return "\n".join(lines)


def _footer(view: View) -> str:
    return (
        "All iterations: `leaderboard.html` (sort, filter), `leaderboard.csv`; data, times and "
        "settings: `overview.html`; all in the artifacts. "
        f"Sweep `{view.facts.sweep_id}`."
    )


def _score(row: Row) -> str:
    return "" if row.iteration.score is None else f"{row.iteration.score:.5g}"
