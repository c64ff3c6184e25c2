"""Makes the folder of a model, as a target wrote it, that of one logged model. Loads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import yaml

from mlflow_automl_remote.errors import ArtifactRefused
from mlflow_automl_remote.journal.events import ArtifactFile

_MLMODEL: Final = "MLmodel"
_MAX_MLMODEL_BYTES: Final = 4 * 1024 * 1024


def stage(files: Sequence[ArtifactFile], source: Path, target: Path, prefix: str = "") -> None:
    """Lay files out below another folder, without moving them.

    Args:
        files: Which files of `source`.
        source: Where they lie under their paths.
        target: Where they are to lie.
        prefix: Folder in their paths that is left out; a file outside it keeps its whole path.

    Raises:
        ArtifactRefused: A path leads out of its folder.
    """
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in file.path:
            raise ArtifactRefused(f"The file name {file.path!r} leads out of its folder.")
        inner = path.relative_to(prefix) if prefix and path.is_relative_to(prefix) else path
        place = target.joinpath(*inner.parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(source.joinpath(*path.parts), place)


def adopt(folder: Path, *, model_id: str, run_id: str, location: str) -> None:
    """Write into a folder's MLmodel which logged model it is, as MLflow's own `log_model` does.

    Raises:
        ArtifactRefused: There is no MLmodel, or it is not one.
    """
    path = folder / _MLMODEL
    try:
        if path.stat().st_size > _MAX_MLMODEL_BYTES:
            raise ArtifactRefused(f"MLmodel is longer than {_MAX_MLMODEL_BYTES} bytes.")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ArtifactRefused(f"The model has no readable MLmodel: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("flavors"), dict):
        raise ArtifactRefused("The model's MLmodel is not a description of a model.")
    content |= {
        "artifact_path": location,
        "model_id": model_id,
        "model_uuid": model_id,
        "run_id": run_id,
    }
    path.unlink()  # it may be a second name of the file that was fetched
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def _link_or_copy(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # another disk, or a disk without links
        shutil.copyfile(source, place)
