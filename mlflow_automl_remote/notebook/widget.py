"""The live widget: sends what has changed, answers what is clicked. Needs the extra `widget`."""

from __future__ import annotations

import base64
import threading
import time
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

from mlflow_automl_remote.errors import AutoMLRemoteError
from mlflow_automl_remote.notebook import content
from mlflow_automl_remote.notebook.shown import Details

if TYPE_CHECKING:
    from mlflow_automl_remote.journal.replay import Iteration, SweepState
    from mlflow_automl_remote.notebook.shown import Shown

UPDATE_S: Final = 0.5
"""From one message to the browser to the next, at least."""


def _static(name: str) -> str:
    return resources.files(__package__).joinpath(f"static/{name}").read_text(encoding="utf-8")


def _heed_while_cells_run(comm: Any) -> None:
    """Let clicks go where the browser sends them: to the subshell that it has for widgets.

    ipykernel 7.4 sends them to where the widget was made or last written from, which is the main
    shell, and there they wait for the end of the cell that runs. Other kernels do not look.
    """
    comm._reply_subshell_for = lambda _, asked: asked


class SweepWidget(anywidget.AnyWidget):
    """A sweep in a notebook, as it grows.

    Args:
        sweep: What is shown.
    """

    _esm = _static("widget.js")
    _css = _static("widget.css")
    head: Any = traitlets.Dict().tag(sync=True)
    rows: Any = traitlets.List().tag(sync=True)
    importance: Any = traitlets.List().tag(sync=True)

    def __init__(self, sweep: Shown) -> None:
        self._sweep = sweep
        self._metrics: list[str] = []
        self._sent: dict[int, Iteration] = {}
        self._lock = threading.Lock()
        self._due = 0.0
        self._timer: threading.Timer | None = None
        self._merges = False
        super().__init__()
        _heed_while_cells_run(self.comm)
        self._send_now()
        self.on_msg(self._receive)
        self._end = sweep.watch(self._changed)
        self._changed(sweep.state)

    def close(self) -> None:
        """Show nothing more; no thread of this widget is left."""
        self._end()
        if self._timer is not None:
            self._timer.cancel()
        super().close()

    def _should_send_property(self, key: str, value: object) -> bool:
        """Keep the rows to ourselves when the browser is told only of those that changed."""
        if key == "rows" and self._merges:
            return False
        return bool(super()._should_send_property(key, value))

    def _changed(self, state: SweepState) -> None:
        """Send a state, at once or when the browser has had time for the one before."""
        wait_s = self._due - time.monotonic()
        if wait_s <= 0 or state.status.is_finished:
            self._send_now()
        elif self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(wait_s, self._send_now)
            self._timer.daemon = True
            self._timer.start()

    def _send_now(self) -> None:
        with self._lock:
            self._due = time.monotonic() + UPDATE_S
            state = self._sweep.state
            metrics = content.metric_names(state)
            changed = [
                one
                for number, one in state.iterations.items()
                if metrics != self._metrics or self._sent.get(number) is not one
            ]
            self._send_rows(state, metrics, changed)
            self.head = content.head(state, metrics, self._sweep)
            self.importance = content.importance(state)

    def _send_rows(self, state: SweepState, metrics: list[str], changed: list[Iteration]) -> None:
        if not changed:
            return
        is_whole = metrics != self._metrics or len(changed) == len(state.iterations)
        self._metrics = metrics
        self._sent = dict(state.iterations)
        rows = [content.row(one, metrics) for one in changed]
        if is_whole:
            self.rows = rows
            return
        merged = {one[0]: one for one in self.rows} | {one[0]: one for one in rows}
        self._merges = True
        try:
            self.rows = list(merged.values())
        finally:
            self._merges = False
        self.send({"type": "rows", "rows": rows})

    def _receive(self, _: object, message: dict[str, Any], __: object) -> None:
        """Answer in a thread: what is asked for may have to come from the target."""
        answers = {"detail": self._tell, "cancel": self._cancel}
        answer = answers.get(str(message.get("type")))
        if answer is not None:
            threading.Thread(target=answer, args=(message.get("iteration"),), daemon=True).start()

    def _tell(self, number: int) -> None:
        try:
            found = self._sweep.details(number)
        except AutoMLRemoteError as error:
            found = Details(log=str(error))
        picture = base64.b64encode(found.picture).decode()
        log = content.tail(found.log)
        told = {"type": "detail", "iteration": number, "log": log}
        self.send(told | {"url": found.url, "picture": picture})

    def _cancel(self, number: int | None) -> None:
        try:
            said = self._sweep.cancel(number)
        except AutoMLRemoteError as error:
            said = str(error)
        self.send({"type": "said", "text": said})
