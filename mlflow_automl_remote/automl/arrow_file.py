"""A table of a dataset as one Arrow file, mapped into memory without copying a column.

Codes of categories are stored as plain numbers with -1 for missing, as pandas has them: Arrow's
own dictionaries would have to be rewritten in every process. Imported only where there is a table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

_CATEGORIES: Final = b"categories"
_INDEX: Final = b"numbered"  # the names of the columns are 0, 1, ... as in an array


def write(table: pd.DataFrame, path: Path) -> None:
    """Write columns of the types of a `Dataset`."""
    arrays: list[Any] = []
    fields: list[Any] = []
    for at, name in enumerate(table.columns):
        array, about = _to_arrow(table.iloc[:, at])
        arrays.append(array)
        fields.append(pa.field(str(name), array.type, metadata=about))
    numbered = str(int(isinstance(table.columns, pd.RangeIndex))).encode()
    schema = pa.schema(fields, metadata={_INDEX: numbered})
    batch = pa.record_batch(arrays, schema=schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def read(path: Path) -> pd.DataFrame:
    """Give the table over the mapped pages of the file."""
    source = pa.memory_map(str(path), "r")
    batch = pa.ipc.open_file(source).get_batch(0)
    columns = {
        field.name: _to_pandas(batch.column(at), field.metadata or {})
        for at, field in enumerate(batch.schema)
    }
    table = pd.DataFrame(columns, copy=False)
    if batch.schema.metadata[_INDEX] == b"1":
        table.columns = pd.RangeIndex(table.shape[1])
    return table


def _to_arrow(column: pd.Series[Any]) -> tuple[Any, dict[bytes, bytes]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = json.dumps([str(each) for each in column.cat.categories])
        codes = np.ascontiguousarray(column.cat.codes.to_numpy())
        return pa.array(codes), {_CATEGORIES: categories.encode()}
    if column.dtype.kind == "M":
        return pa.array(column.to_numpy().view(np.int64)), {b"type": str(column.dtype).encode()}
    if column.dtype.kind == "f":
        return pa.array(np.ascontiguousarray(column.to_numpy()), from_pandas=False), {}
    return pa.array(column, type=pa.large_string(), from_pandas=True), {}


def _to_pandas(array: Any, about: dict[bytes, bytes]) -> Any:
    if _CATEGORIES in about:
        categories = pd.Index(json.loads(about[_CATEGORIES]), dtype="str")
        return pd.Categorical.from_codes(array.to_numpy(), categories, validate=False)
    if b"type" in about:
        return array.to_numpy().view(about[b"type"].decode())
    if pa.types.is_large_string(array.type):
        return array.to_pandas()
    return array.to_numpy()
