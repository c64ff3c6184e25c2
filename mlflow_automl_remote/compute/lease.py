"""The right to publish a sweep, so that of several clients one writes into MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import PurePosixPath

    from mlflow_automl_remote.compute.control import Control

TAKE_OVER_S: Final = 10.0
"""For the helper of another client to end."""


class Lease:
    """The right to publish a sweep, which one client has at a time; it ends with its connection.

    Args:
        control: A helper that answers nobody else meanwhile.
        path: The lock on the target.
        client: Names the client, whose own older connections may be dead without the target's
            knowing; it takes the right from them.
    """

    def __init__(self, control: Control, path: PurePosixPath, client: str) -> None:
        self._control = control
        self._path = path
        self._client = client

    def ask(self, *, take_over: bool = False) -> bool:
        """Take the right if nobody has it, and say whether it is ours.

        Args:
            take_over: Whether to take it from whoever has it.

        Raises:
            ConnectionLost: The connection broke, or somebody has taken the right over.
        """
        reply = self._control.request(
            "lease",
            path=str(self._path),
            client=self._client,
            take_over=take_over,
            wait_s=TAKE_OVER_S,
        )[0]
        return bool(reply["held"])
