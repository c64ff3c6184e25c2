"""A decision as Markdown for MLflow, lines for a terminal and JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.promotion.evidence import Measured
from mlflow_automl_remote.promotion.gates import Result, Verdict
from mlflow_automl_remote.promotion.registering import moment
from mlflow_automl_remote.publishing.explained import escaped
from mlflow_automl_remote.publishing.text import one_line

if TYPE_CHECKING:
    from mlflow_automl_remote.promotion.deciding import Decision

MAX_CELL: Final = 300
_SIGNS: Final = {Verdict.PASSED: "passed", Verdict.FAILED: "**failed**"}
_LINE: Final = "{:<22} {:<7} {:>16} {:>16}  {:<22}  {}"


def markdown(decision: Decision) -> str:
    """Write the report of a decision."""
    blocks = (_headline(decision), _gates(decision), _measured(decision), _groups(decision))
    notes = "\n".join(f"> {escaped(note, 600)}" for note in decision.notes)
    return "\n\n".join(block for block in (*blocks, notes) if block) + "\n"


def _headline(decision: Decision) -> str:
    version, incumbent = decision.version, decision.incumbent
    name = f"version {version.number}" if version else f"iteration {decision.candidate.number}"
    lines = [f"## {decision.outcome.capitalize()}: {name} as '{escaped(decision.alias)}'", ""]
    against = f"version {incumbent.number}" if incumbent else "nothing: no version had the alias"
    lines.append(
        f"{moment(decision.at_ms)} by {escaped(decision.by)}, against {against}. "
        f"{escaped(decision.candidate.pipeline)}, {escaped(decision.metric)}."
    )
    if decision.forced:
        lines += ["", f"**Forced**, in spite of {escaped(', '.join(decision.failed), 300)}: "]
        lines[-1] += escaped(decision.forced, 600)
    return "\n".join(lines)


def _gates(decision: Decision) -> str:
    if not decision.results:
        return "No gate was asked for."
    lines = [
        "| gate | | challenger | incumbent | needed | |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for one in decision.results:
        cells = (one.challenger, one.incumbent, one.needed, one.why)
        shown = " | ".join(escaped(cell, MAX_CELL) for cell in cells)
        lines.append(f"| {escaped(one.gate)} | {_SIGNS[one.verdict]} | {shown} |")
    return "\n".join(lines)


def _measured(decision: Decision) -> str:
    evidence = decision.evidence
    if evidence is None or evidence.incumbent is None or not evidence.rows:
        return ""
    lines = [
        f"Both were scored on the same {evidence.n_rows} {escaped(evidence.rows)} rows"
        + (f", means over {evidence.n_folds} folds." if evidence.n_folds > 1 else "."),
        "",
        "| metric | challenger | incumbent |",
        "| --- | ---: | ---: |",
    ]
    known = sorted(set(evidence.challenger.metrics) | set(evidence.incumbent.metrics))
    for metric in known:
        pair = [_value(one, metric) for one in (evidence.challenger, evidence.incumbent)]
        lines.append(f"| {escaped(metric)} | {pair[0]} | {pair[1]} |")
    return "\n".join(lines) if known else lines[0]


def _value(model: Measured, metric: str) -> str:
    value = model.metrics.get(metric)
    return "" if value is None else f"{value:.6g}"


def _groups(decision: Decision) -> str:
    evidence = decision.evidence
    if evidence is None or not evidence.groups:
        return ""
    lines = ["| group | rows | challenger | incumbent |", "| --- | ---: | ---: | ---: |"]
    for one in evidence.groups:
        pair = ["" if each is None else f"{each:.6g}" for each in (one.challenger, one.incumbent)]
        lines.append(f"| {escaped(one.value)} | {one.n_rows} | {pair[0]} | {pair[1]} |")
    return "\n".join(lines)


def lines(decision: Decision) -> Iterator[str]:
    """Write a decision for a terminal."""
    if decision.results:
        yield _LINE.format("GATE", "", "CHALLENGER", "INCUMBENT", "NEEDED", "").rstrip()
    for one in decision.results:
        yield _line(one)
    for note in decision.notes:
        yield f"Note: {note}"
    yield conclusion(decision)


def _line(one: Result) -> str:
    cells = (one.gate, one.verdict, one.challenger, one.incumbent, one.needed, one.why)
    return _LINE.format(*(one_line(str(cell), MAX_CELL) for cell in cells)).rstrip()


def conclusion(decision: Decision) -> str:
    """Say in one line what came of it."""
    what = f"iteration {decision.candidate.number} ({decision.candidate.pipeline})"
    if decision.version is not None:
        what = f"version {decision.version.number} of {decision.name}, {what}"
    alias = f"'{decision.alias}'"
    copied = f" Copied to {decision.copied_to}." if decision.copied_to else ""
    would = "would be " if decision.is_dry else "is "
    if decision.outcome == "unchanged":
        return f"Unchanged: {what}, has {alias} already.{copied}"
    if decision.outcome == "refused":
        return f"Refused: {what}, {would}not {alias}; not passed: {', '.join(decision.failed)}."
    before = decision.incumbent
    instead = f" in place of version {before.number}" if before else ", the first one"
    forced = f" Forced: {decision.forced}." if decision.forced else ""
    return f"Promoted: {what}, {would}{alias}{instead}.{forced}{copied}"


def as_json(decision: Decision) -> dict[str, object]:
    """Give a decision as JSON: every number that it rests on."""
    version, incumbent = decision.version, decision.incumbent
    return {
        "outcome": decision.outcome.value,
        "name": decision.name,
        "alias": decision.alias,
        "version": version.number if version else None,
        "incumbent": incumbent.number if incumbent else None,
        "iteration": decision.candidate.number,
        "model_id": decision.candidate.model_id,
        "metric": decision.metric,
        "by": decision.by,
        "at": moment(decision.at_ms),
        "forced": decision.forced,
        "gates": [asdict(one) for one in decision.results],
        "evidence": None if decision.evidence is None else asdict(decision.evidence),
        "notes": list(decision.notes),
    }
