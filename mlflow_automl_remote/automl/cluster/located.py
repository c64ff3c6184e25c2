"""Pickles in which paths below a folder are kept relative to it: nodes have it elsewhere."""

from __future__ import annotations

import io
import pickle
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import cloudpickle

_root: ContextVar[Path] = ContextVar("root")


# Only a subclass can see each value, and cloudpickle has no types for mypy to look at.
class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, root: Path) -> None:
        super().__init__(file)
        self._root = root

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Path) and value.is_relative_to(self._root):
            return _below_root, (value.relative_to(self._root).as_posix(),)
        return super().reducer_override(value)


def _below_root(relative: str) -> Path:
    return _root.get() / relative


def dumps(value: object, root: Path) -> bytes:
    """Pickle a value; its paths below `root` are below that of whoever loads it.

    Raises:
        Exception: It cannot be pickled.
    """
    file = io.BytesIO()
    _Pickler(file, root).dump(value)
    return file.getvalue()


def loads(data: bytes, root: Path) -> Any:
    """Load what `dumps` wrote.

    Raises:
        Exception: It cannot be loaded.
    """
    token = _root.set(root)
    try:
        return pickle.loads(data)
    finally:
        _root.reset(token)
