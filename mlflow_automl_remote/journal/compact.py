"""Fold scores and file names of ended iterations in few bytes: a sweep may have 20,000 of them."""

from __future__ import annotations

import json
import math
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import overload

from mlflow_automl_remote.journal.events import ArtifactFile


@lru_cache(maxsize=16)
def _one_copy(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names of metrics, which are the same in all iterations of a sweep, once."""
    return names


class FoldScores(Mapping[str, tuple[float | None, ...]]):
    """The scores of each fold by metric, as numbers side by side; equal to a plain mapping.

    Args:
        rows: As many scores for each metric.
    """

    __slots__ = ("_n_folds", "_names", "_values")

    def __init__(self, rows: Mapping[str, tuple[float | None, ...]]) -> None:
        self._names = _one_copy(tuple(sys.intern(name) for name in rows))
        self._n_folds = len(next(iter(rows.values()), ()))
        self._values = array(
            "d", [math.nan if one is None else one for row in rows.values() for one in row]
        )

    def __getitem__(self, name: str) -> tuple[float | None, ...]:
        """Give the scores of a metric; None where it was not defined."""
        if name not in self._names:
            raise KeyError(name)
        at = self._names.index(name) * self._n_folds
        row = self._values[at : at + self._n_folds]
        return tuple(None if math.isnan(one) else one for one in row)

    def __iter__(self) -> Iterator[str]:
        """Give the names of the metrics."""
        return iter(self._names)

    def __len__(self) -> int:
        """Give the number of metrics."""
        return len(self._names)

    def __repr__(self) -> str:
        """Show them as the plain mapping would be shown."""
        return f"FoldScores({dict(self)})"


class PackedFiles(Sequence[ArtifactFile]):
    """Files as one compressed text, read anew each time: they are asked for once or twice."""

    __slots__ = ("_packed",)

    def __init__(self, files: Iterable[ArtifactFile]) -> None:
        rows = [(file.path, file.size_bytes, file.sha256) for file in files]
        self._packed = zlib.compress(json.dumps(rows).encode())

    def _files(self) -> tuple[ArtifactFile, ...]:
        rows = json.loads(zlib.decompress(self._packed))
        return tuple(
            ArtifactFile(path=path, size_bytes=size, sha256=digest) for path, size, digest in rows
        )

    @overload
    def __getitem__(self, at: int) -> ArtifactFile: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[ArtifactFile, ...]: ...
    def __getitem__(self, at: int | slice) -> ArtifactFile | tuple[ArtifactFile, ...]:
        """Give a file, or some."""
        return self._files()[at]

    def __iter__(self) -> Iterator[ArtifactFile]:
        """Give the files."""
        return iter(self._files())

    def __len__(self) -> int:
        """Give the number of files."""
        return len(self._files())

    def __eq__(self, other: object) -> bool:
        """Whether the files are the same, in the same order."""
        if isinstance(other, PackedFiles):
            return self._packed == other._packed
        return isinstance(other, tuple) and self._files() == other

    __hash__ = None  # type: ignore[assignment]  # as of any class that says what is equal

    def __repr__(self) -> str:
        """Show them as the plain tuple would be shown."""
        return f"PackedFiles({self._files()})"


def fold_scores(
    rows: Mapping[str, tuple[float | None, ...]],
) -> Mapping[str, tuple[float | None, ...]]:
    """Give scores in few bytes, or as they are where rows differ in length."""
    return FoldScores(rows) if len({len(row) for row in rows.values()}) == 1 else rows
