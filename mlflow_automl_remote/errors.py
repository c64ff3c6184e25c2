"""Everything that this package raises on purpose, as one tree.

    AutoMLRemoteError
    ├── ConfigurationError (ValueError)    a setting or the backend config is wrong
    ├── DataError (ValueError)             the data that get_data() returned cannot be trained on
    ├── TransportError
    │   ├── ConnectFailed                  no route, refused, timed out
    │   ├── AuthenticationFailed           the machine does not accept this user or key
    │   ├── HostKeyNotVerifiable           unknown or changed host key
    │   ├── ConnectionLost                 the connection broke while in use
    │   └── CommandFailed                  a command on the target ended with an error
    ├── EnvironmentSetupFailed             the Python environment of the target could not be made
    ├── JournalError
    │   ├── JournalCorrupted               a line in the middle is damaged
    │   └── JournalFromNewerVersion        written by a newer version than this one
    ├── ArtifactRefused                    a file from the target has a bad name or checksum
    ├── LocalDiskFailed                    what a target sent cannot be written on this machine
    ├── SweepNotFound                      the run is not one of ours, or its workspace is gone
    ├── IterationNotFound                  there is no such iteration, or it has no model
    ├── AgentLost                          the agent died without a last event
    ├── SweepFailed                        the sweep ended without a model
    │   └── ClusterUnusable                no node of the Ray cluster can run iterations
    ├── PublishFailed                      MLflow could not be written; publishing again resumes
    ├── PromotionRefused                   a gate kept the model of a sweep from its alias
    └── PromotionFailed                    whether to promote it could not be found out

A failure of one iteration is a value (`states.IterationState`), never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence


class AutoMLRemoteError(Exception):
    """Base of all errors of this package; its text is written for the user.

    Examples:
        >>> from mlflow_automl_remote import AutoMLConfig
        >>> try:
        ...     AutoMLConfig.parse({"task": "classification", "iterations": 0})
        ... except AutoMLRemoteError as error:
        ...     print(error)
        The 'iterations' setting must be greater than or equal to 1. Got 0 instead.
    """


class ConfigurationError(AutoMLRemoteError, ValueError):
    """A setting or the backend config is wrong; nothing was contacted."""


class DataError(AutoMLRemoteError, ValueError):
    """The data that `get_data()` returned cannot be trained on."""


class TransportError(AutoMLRemoteError):
    """The target could not be reached or did not do what it was asked to."""


class ConnectFailed(TransportError):
    """No connection could be opened: no route, refused, or timed out."""


class AuthenticationFailed(TransportError):
    """The machine does not accept this user with these keys."""


class HostKeyNotVerifiable(TransportError):
    """The host key is unknown, or differs from the known one.

    Attributes:
        fingerprint: Of the key that the host showed, as `SHA256:...`.
        line: What known_hosts would have to say for an unknown key to be accepted; None for a key
            that must not be accepted, because it has changed or is revoked.
    """

    def __init__(self, message: str, *, fingerprint: str, line: str | None = None) -> None:
        super().__init__(message)
        self.fingerprint = fingerprint
        self.line = line


class ConnectionLost(TransportError):
    """The connection broke while in use; the job on the target may still be running."""


class CommandFailed(TransportError):
    """A command on the target ended with an error.

    Attributes:
        argv: The command, as a list.
        exit_status: Its exit status; -1 when it is unknown.
        stderr: The end of what it wrote to its standard error.
    """

    def __init__(
        self, message: str, *, argv: Sequence[str], exit_status: int, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.argv = tuple(argv)
        self.exit_status = exit_status
        self.stderr = stderr


class ProviderFailed(AutoMLRemoteError):
    """A machine could not be made, started, stopped or taken away."""


class EnvironmentSetupFailed(AutoMLRemoteError):
    """The Python environment of the target could not be made ready."""


class JournalError(AutoMLRemoteError):
    """The journal of a sweep cannot be read."""


class JournalCorrupted(JournalError):
    """A line in the middle of a journal is damaged.

    Attributes:
        line_number: The damaged line, counted from 1.
    """

    def __init__(self, message: str, *, line_number: int) -> None:
        super().__init__(message)
        self.line_number = line_number


class JournalFromNewerVersion(JournalError):
    """The journal was written by a newer version of this package than this one."""


class ArtifactRefused(AutoMLRemoteError):
    """A file of the target has a forbidden name, or not the contents it was recorded with."""


class LocalDiskFailed(AutoMLRemoteError):
    """What a target sent cannot be written on this machine; the sweep goes on."""


class SweepNotFound(AutoMLRemoteError):
    """The run is not a sweep of this package, or its workspace is gone."""


class IterationNotFound(AutoMLRemoteError):
    """There is no such iteration of the sweep, or it has no model."""


class AgentLost(AutoMLRemoteError):
    """The agent died without a last event; `automl-remote resume` goes on from its journal."""


class SweepFailed(AutoMLRemoteError):
    """The sweep ended without a model."""


class ClusterUnusable(SweepFailed):
    """The Ray cluster cannot be reached, or none of its nodes can run iterations."""


class PublishFailed(AutoMLRemoteError):
    """MLflow could not be written; publishing again goes on where it stopped."""


class PromotionRefused(AutoMLRemoteError):
    """The sweep has a model, and a gate kept it from its alias; the incumbent stays."""


class PromotionFailed(AutoMLRemoteError):
    """The sweep has a model, but it could not be found out whether to promote it."""
