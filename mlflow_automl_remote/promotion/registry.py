"""The calls to MLflow's registry, and nothing else: versions, aliases, tags, copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mlflow_automl_remote.errors import ConfigurationError
from mlflow_automl_remote.publishing.calls import StoreRefused, StoreUnreachable, translated

_T = TypeVar("_T")
_PAGE_SIZE: Final = 200
_READY: Final = "READY"
_NOT_FOUND: Final = "RESOURCE_DOES_NOT_EXIST"
_EXISTS: Final = ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version as the registry has it.

    Attributes:
        source: Where its model is: `models:/m-...`, a run's artifact, or any address.
        run_id: The run that it came from; empty if unknown.
        is_ready: Whether it is finished.
    """

    name: str
    number: int
    source: str
    run_id: str
    is_ready: bool
    description: str
    created_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The address by which MLflow loads it."""
        return f"models:/{self.name}/{self.number}"

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


class Registry:
    """Versions of one registered model.

    Every method raises `StoreUnreachable` or `StoreRefused`, and nothing else of MLflow's.

    Args:
        client: The store.
        name: Of the registered model; need not be there yet.

    Raises:
        ConfigurationError: No model can have this name.
    """

    def __init__(self, client: MlflowClient, name: str) -> None:
        if not name.strip() or any(character in name for character in "/:'\"\\`"):
            raise ConfigurationError(
                "The name of a registered model must not be empty, and has no / : ' \" ` or \\. "
                f"Got {name!r} instead."
            )
        self._client = client
        self.name = name

    def ensure(self) -> None:
        """Make the registered model unless it is there."""
        with translated():
            try:
                self._client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code not in _EXISTS:
                    raise

    def tags(self) -> dict[str, str]:
        """Give the tags of the registered model; none if it is not there."""
        found = self._or_none(lambda: self._client.get_registered_model(self.name))
        return {} if found is None else dict(found.tags)

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the registered model."""
        self._twice(lambda: self._client.set_registered_model_tag(self.name, key, value))

    def delete_tag(self, key: str) -> None:
        """Remove a tag of the registered model; one that is not there is no error."""
        self._or_none(lambda: self._client.delete_registered_model_tag(self.name, key))

    def versions(self) -> list[Version]:
        """Give all versions that are not deleted, the newest first."""
        found: list[Version] = []
        token: str | None = None
        while True:
            with translated():
                page = self._client.search_model_versions(
                    f"name = '{self.name}'", max_results=_PAGE_SIZE, page_token=token
                )
            found += map(_version, page)
            token = page.token
            if not token:
                return sorted(found, key=lambda one: -one.number)

    def version(self, number: int) -> Version | None:
        """Give a version; None if there is none of that number, or it was deleted."""
        found = self._or_none(lambda: self._client.get_model_version(self.name, str(number)))
        return None if found is None else _version(found)

    def at(self, alias: str) -> Version | None:
        """Give the version that an alias points to; None if there is none."""
        found = self._or_none(lambda: self._client.get_model_version_by_alias(self.name, alias))
        return None if found is None else _version(found)

    def create(
        self, *, model_id: str, run_id: str, tags: Mapping[str, str], description: str
    ) -> Version:
        """Make a version of a logged model. Not repeatable: look for it before."""
        with translated():
            made = self._client.create_model_version(
                self.name,
                source=f"models:/{model_id}",
                run_id=run_id,
                tags=dict(tags),
                description=description,
                model_id=model_id,
            )
        return _version(made)

    def copy_here(self, source: Version) -> Version:
        """Make a version that is a copy of one of another registered model. Not repeatable."""
        with translated():
            return _version(self._client.copy_model_version(source.uri, self.name))

    def point(self, alias: str, version: Version) -> None:
        """Let an alias point to a version.

        Raises:
            StoreRefused: The version is not finished, or gone.
        """
        found = self.version(version.number)
        if found is None or not found.is_ready:
            raise StoreRefused(
                f"{version} is {'not there any more' if found is None else 'not finished'}; the "
                f"alias '{alias}' was not moved."
            )
        self._twice(
            lambda: self._client.set_registered_model_alias(self.name, alias, str(version.number))
        )

    def unpoint(self, alias: str) -> None:
        """Take an alias away; one that is not there is no error."""
        self._or_none(lambda: self._client.delete_registered_model_alias(self.name, alias))

    def annotate(
        self, version: Version, tags: Mapping[str, str], description: str | None = None
    ) -> None:
        """Set tags and the description of a version, where they are not so already."""
        for key, value in tags.items():
            if version.tags.get(key) != value:
                self._set_version_tag(version, key, value)
        if description is not None and version.description != description:
            self._twice(
                lambda: self._client.update_model_version(
                    self.name, str(version.number), description
                )
            )

    def _set_version_tag(self, version: Version, key: str, value: str) -> None:
        self._twice(
            lambda: self._client.set_model_version_tag(self.name, str(version.number), key, value)
        )

    def _or_none(self, call: Callable[[], _T]) -> _T | None:
        """Make a call; None where what it is about does not exist."""

        def asked() -> _T | None:
            try:
                return call()
            except MlflowException as error:
                if error.error_code == _NOT_FOUND or _is_unknown_alias(error):
                    return None
                raise

        return self._twice(asked)

    def _twice(self, call: Callable[[], _T]) -> _T:
        """Make a call that does no harm when it is made twice, a second time if it has to be."""
        try:
            with translated():
                return call()
        except StoreUnreachable:
            pass
        with translated():
            return call()


def _is_unknown_alias(error: MlflowException) -> bool:
    """Whether MLflow says of an alias or a version that there is none, as a wrong parameter."""
    return error.error_code == "INVALID_PARAMETER_VALUE" and "not found" in str(error).lower()


def _version(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        number=int(found.version),
        source=found.source or "",
        run_id=found.run_id or "",
        is_ready=found.status == _READY,
        description=found.description or "",
        created_ms=int(found.creation_timestamp or 0),
        tags=dict(found.tags),
    )
