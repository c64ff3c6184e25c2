"""Azure's `RunDetails`: shows a sweep as it grows."""

from __future__ import annotations

from mlflow_automl_remote.azure.run import AutoMLRun


class RunDetails:
    """Shows a sweep in a notebook.

    Args:
        run: The sweep.
    """

    def __init__(self, run: AutoMLRun) -> None:
        self._run = run

    def show(self) -> None:
        """Show it in the output of the cell; it goes on growing while the sweep does."""
        self._run.sweep.show()
