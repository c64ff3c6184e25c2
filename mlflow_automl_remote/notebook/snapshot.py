"""A sweep at one moment, as a table in HTML and as text: what is shown where no widget is."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import resources
from typing import Final

from mlflow_automl_remote import live_table, terminal
from mlflow_automl_remote.journal.replay import Iteration, SweepState

MAX_ROWS: Final = 200
"""The latest iterations are shown; all of them are in the leaderboard."""
_HEADS: Final = ("Iteration", "Pipeline", "State", "Duration", "Score", "Best", "Reason")
_NUMBERS: Final = frozenset(("Iteration", "Duration", "Score", "Best"))


def as_html(state: SweepState) -> str:
    """Write a sweep as HTML; all text of the target is escaped."""
    css = resources.files(__package__).joinpath("static/snapshot.css").read_text(encoding="utf-8")
    heads = "".join(f"<th scope=col{_kind(head)}>{head}</th>" for head in _HEADS)
    rows = "".join(_row(one, state) for one in _shown(state))
    return (
        f'<div class="automl-remote"><style>{css}</style><p>{escape(headline(state))}</p>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def as_text(state: SweepState) -> str:
    """Write a sweep as plain text."""
    lines = [headline(state), "  ".join(_HEADS)]
    lines += [terminal.clean("  ".join(_cells(one))).rstrip() for one in _shown(state)]
    return "\n".join(lines)


def headline(state: SweepState) -> str:
    """Say in a line where a sweep stands."""
    total = state.started.settings.get("iterations") if state.started else None
    running = sum(not one.state.is_finished for one in state.iterations.values())
    parts = [str(state.status), f"{len(state.finished)} of {total or '?'} iterations"]
    if running and not state.status.is_finished:
        parts.append(f"{running} running")
    if state.best is not None and state.started is not None:
        best = state.best
        parts.append(
            f"best: {state.started.primary_metric} {live_table.score(best.score)} "
            f"(iteration {best.number}, {best.pipeline})"
        )
    if state.reason:
        parts.append(state.reason)
    return terminal.clean(" - ".join(parts))


def _shown(state: SweepState) -> Iterator[Iteration]:
    numbers = sorted(state.iterations)[-MAX_ROWS:]
    return (state.iterations[number] for number in numbers)


def _cells(one: Iteration) -> tuple[str, ...]:
    return (
        str(one.number),
        one.pipeline,
        one.state.value,
        live_table.duration(one.duration_s),
        "" if one.score is None else live_table.score(one.score),
        "" if one.best is None else live_table.score(one.best),
        one.reason,
    )


def _row(one: Iteration, state: SweepState) -> str:
    best = ' class="best"' if one.number == state.best_iteration else ""
    cells = "".join(
        f"<td{_kind(head)}>{escape(text)}</td>"
        for head, text in zip(_HEADS, _cells(one), strict=True)
    )
    return f"<tr{best}>{cells}</tr>"


def _kind(head: str) -> str:
    if head in _NUMBERS:
        return ' class="number"'
    return ' class="reason"' if head == "Reason" else ""
