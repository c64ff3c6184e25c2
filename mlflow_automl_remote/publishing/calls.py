"""How a call to MLflow is made: without noise, without hanging, and with two kinds of failure."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import requests
from mlflow.exceptions import MlflowException

from mlflow_automl_remote.errors import PublishFailed
from mlflow_automl_remote.publishing.text import one_line

_ENVIRONMENT: Final[Mapping[str, str]] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_DEFAULT_TIMEOUT_S: Final = "60"
_STORE_WIDE: Final = frozenset(
    (
        "CUSTOMER_UNAUTHORIZED",
        "PERMISSION_DENIED",
        "REQUEST_LIMIT_EXCEEDED",
        "TEMPORARILY_UNAVAILABLE",
        "UNAUTHENTICATED",
    )
)
_WRITTEN_TWICE: Final = ("IntegrityError", "UniqueViolation")
"""How the drivers of databases call it; a server passes only their message on."""


class StoreUnreachable(PublishFailed):
    """The store did not answer, or answers nobody; whether the call was carried out is unknown."""


class StoreRefused(PublishFailed):
    """The store answered, and did not carry out this one call."""


class StoreConflict(StoreRefused):
    """Another client wrote the same at the same moment; made again, the call finds it written."""


class RunDeleted(StoreRefused):
    """A person has deleted the run in MLflow; it is neither written to nor created again."""


class _Quiet:
    """How many threads are quiet, and what the first of them has to be set back by the last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_inside = 0
        self.before: dict[str, str | None] = {}


_quiet: Final = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Set MLflow up so that no call prints, repeats itself or hangs; then set it back."""
    wanted = dict(_ENVIRONMENT)
    if "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ:
        wanted["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _DEFAULT_TIMEOUT_S
    with _quiet.lock:
        if _quiet.n_inside == 0:
            _quiet.before = {name: os.environ.get(name) for name in wanted}
            os.environ.update(wanted)
        _quiet.n_inside += 1
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.n_inside -= 1
            if _quiet.n_inside == 0:
                _set_back(_quiet.before)


def _set_back(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextmanager
def translated() -> Iterator[None]:
    """Turn what MLflow and artifact stores raise into `StoreUnreachable` and `StoreRefused`."""
    try:
        yield
    except Exception as error:  # artifact stores raise the types of many a cloud SDK
        message = f"MLflow did not take a call: {one_line(str(error), 500)}"
        if _is_store_wide(error):
            raise StoreUnreachable(f"{message} Publishing again goes on from here.") from error
        if any(word in str(error) for word in _WRITTEN_TWICE):
            raise StoreConflict(message) from error
        raise StoreRefused(message) from error


def _is_store_wide(error: Exception) -> bool:
    """Whether other calls would fail as this one did."""
    if isinstance(error, MlflowException):
        if error.error_code in _STORE_WIDE:
            return True
        # MLflow keeps the cause of a failed request only as the context of its own exception.
        lost = isinstance(error.__context__, requests.RequestException | OSError)
        return lost and "too many 500 error responses" not in str(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in (401, 403, 429, 502, 503, 504)
    return isinstance(error, OSError)
