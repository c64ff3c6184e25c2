"""Puts a sweep into the output of a cell, and keeps it up to date while the sweep runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

from mlflow_automl_remote import terminal
from mlflow_automl_remote.notebook import snapshot

if TYPE_CHECKING:
    from mlflow_automl_remote.journal.replay import SweepState
    from mlflow_automl_remote.notebook.shown import Shown

UPDATE_S: Final = 0.5
"""From one table to the next, at least."""
ASIDE_S: Final = 5.0
"""The same below a widget."""


def show(sweep: Shown) -> None:
    """Show a sweep: a widget and a table in a notebook, a table as text elsewhere.

    The table is what a notebook that was saved still shows without a kernel.
    """
    ipython: Any = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        with terminal.view() as view:
            view.say(snapshot.as_text(sweep.state))
        return
    widget = _widget(sweep)
    if widget is not None:
        ipython.display.display(widget)
    _show_table(sweep, ipython.display.display, is_aside=widget is not None)


def _widget(sweep: Shown) -> Any:
    """Make the live widget; None without the extra."""
    try:
        from mlflow_automl_remote.notebook.widget import SweepWidget
    except ImportError:
        return None
    return SweepWidget(sweep)


def _show_table(sweep: Shown, display: Any, *, is_aside: bool) -> None:
    """Show a table that grows; below a widget it is folded, and grows less often."""
    interval_s = ASIDE_S if is_aside else UPDATE_S
    handle = display(_bundle(sweep.state, is_aside), raw=True, display_id=True)
    due = time.monotonic() + interval_s

    def update(state: SweepState) -> None:
        nonlocal due
        if time.monotonic() >= due or state.status.is_finished:
            due = time.monotonic() + interval_s
            handle.update(_bundle(state, is_aside), raw=True)
        if state.status.is_finished:
            end()

    end = sweep.watch(update)
    update(sweep.state)


def _bundle(state: SweepState, is_aside: bool) -> dict[str, str]:
    html = snapshot.as_html(state)
    if is_aside:
        html = f"<details><summary>As a plain table</summary>{html}</details>"
    return {"text/html": html, "text/plain": snapshot.as_text(state)}
