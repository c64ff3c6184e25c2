"""Whether those who call the incumbent can call the challenger as they do now."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlflow
import yaml

from mlflow_automl_remote.publishing.calls import StoreRefused, translated

Columns = list[dict[str, Any]]
"""MLflow's own JSON of a schema: `{"name": ..., "type": ..., "required": ...}` each."""

MAX_BYTES: Final = 4 * 1024 * 1024
_WIDER: Final[Mapping[str, frozenset[str]]] = {
    "integer": frozenset(("long", "double")),
    "float": frozenset(("double",)),
}
"""What MLflow accepts values of a type for, beside the type itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the MLmodel file of a model says.

    Attributes:
        inputs: Of its signature; None without one.
        outputs: Likewise.
        size_bytes: Of all its files; None if it is not told.
    """

    inputs: Columns | None
    outputs: Columns | None
    size_bytes: int | None


def read_description(uri: str, tracking_uri: str) -> Description:
    """Read the MLmodel file of a model, which is text; nothing else of it is fetched.

    Raises:
        PublishFailed: The model is gone, or the file is none.
    """
    with tempfile.TemporaryDirectory(prefix="automl-remote-") as folder:
        with translated():
            path = mlflow.artifacts.download_artifacts(
                f"{uri}/MLmodel", dst_path=folder, tracking_uri=tracking_uri
            )
        try:
            return _described(Path(path).read_bytes())
        except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
            raise StoreRefused(f"The MLmodel of {uri} cannot be read: {error}") from error


def _described(content: bytes) -> Description:
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES} bytes")
    told = yaml.safe_load(content)
    signature = told.get("signature") or {}
    size = told.get("model_size_bytes")
    return Description(
        inputs=_schema(signature.get("inputs")),
        outputs=_schema(signature.get("outputs")),
        size_bytes=int(size) if size else None,
    )


def _schema(text: str | None) -> Columns | None:
    columns = json.loads(text) if text else None
    return None if columns is None else [dict(column) for column in columns]


def differences(challenger: Description, incumbent: Description) -> list[str]:
    """Say in words what callers of the incumbent would stumble over; nothing if there is none."""
    if challenger.inputs is None or incumbent.inputs is None:
        whose = "challenger" if challenger.inputs is None else "incumbent"
        return [f"the {whose} has no signature"]
    found = _inputs(challenger.inputs, incumbent.inputs)
    before, now = _types(incumbent.outputs), _types(challenger.outputs)
    if before != now:
        found.append(f"the output is {now or 'not told'}, it was {before or 'not told'}")
    return found


def _inputs(challenger: Columns, incumbent: Columns) -> list[str]:
    if all("name" in one for one in (*challenger, *incumbent)):
        return _columns(
            {one["name"]: one for one in challenger}, {one["name"]: one for one in incumbent}
        )
    now, before = _types(challenger), _types(incumbent)
    return [] if now == before else [f"the input is {now}, it was {before}"]


def _columns(challenger: dict[str, Any], incumbent: dict[str, Any]) -> list[str]:
    found = [
        f"column '{name}' is new"
        for name, one in challenger.items()
        if name not in incumbent and one.get("required", True)
    ]
    for name, before in incumbent.items():
        now = challenger.get(name)
        if now is None:
            found.append(f"column '{name}' is gone")
        elif now["type"] != before["type"] and now["type"] not in _WIDER.get(before["type"], ()):
            found.append(f"column '{name}' is {now['type']}, it was {before['type']}")
        elif now.get("required", True) and not before.get("required", True):
            found.append(f"column '{name}' is required, it was optional")
    return found


def _types(columns: Columns | None) -> str:
    """Write types and shapes without the names."""
    return ", ".join(
        str(one["type"]) if "tensor-spec" not in one else _tensor(one["tensor-spec"])
        for one in columns or ()
    )


def _tensor(spec: Mapping[str, Any]) -> str:
    return f"{spec.get('dtype')} of shape {tuple(spec.get('shape', ()))}"
