"""Rows of any form (array, sparse matrix, table) as numbers that can be mixed column by column.

What comes out is a matrix, and a way back: any mix of its rows, column by column, can be given to
a pipeline again in the form that the rows had.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlflow_automl_remote.errors import DataError
from mlflow_automl_remote.explain.explanation import Floats

if TYPE_CHECKING:
    import pandas as pd
    from scipy import sparse

Ints = NDArray[np.intp]
Table: TypeAlias = "Floats | sparse.csr_matrix | pd.DataFrame"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """Explained rows and background rows as numbers.

    Attributes:
        X: Explained rows, (n, p).
        background: Background rows, (m, p).
        columns: Which column of the rows each of the p is.
        restore: Gives a matrix like these in the form that the rows had.
        is_sparse: Whether they had the form of a sparse matrix.
        is_plain: Whether the numbers are those of the rows; else they say where a value stands.
    """

    X: Floats
    background: Floats
    columns: Ints
    restore: Callable[[Floats], Any]
    is_sparse: bool = False
    is_plain: bool = True


def as_table(rows: Any, what: str) -> Table:
    """Check rows of a person: a table stays one, a sparse matrix gets rows, the rest is an array.

    Raises:
        DataError: It has no rows or no columns, or is of another shape.
    """
    if hasattr(rows, "tocsr"):
        rows = rows.tocsr()
    elif not hasattr(rows, "iloc"):
        rows = np.asarray(rows)
        rows = rows.astype(np.float64) if rows.dtype.kind in "biuf" else rows
    if len(rows.shape) != 2 or 0 in rows.shape:
        raise DataError(
            f"'{what}' must have rows and columns. Got the shape {tuple(rows.shape)} instead."
        )
    if not hasattr(rows, "iloc") and not hasattr(rows, "tocsr") and rows.dtype.kind != "f":
        import pandas as pd

        return pd.DataFrame(rows).infer_objects()
    table: Table = rows
    return table


def take(table: Table, rows: Any) -> Any:
    """Give rows of a table, in its form."""
    form: Any = table
    return form.iloc[rows] if is_frame(form) else form[rows]


def is_frame(table: object) -> bool:
    """Whether this is a pandas table."""
    return hasattr(table, "iloc")


def is_sparse(table: object) -> bool:
    """Whether this is a sparse matrix."""
    return hasattr(table, "tocsr")


def encode(X: Any, background: Any) -> Encoded:
    """Turn rows into numbers in the way that fits their form."""
    if is_sparse(X):
        return _encode_sparse(X, background)
    if not is_frame(X):
        whole = np.arange(X.shape[1])
        return Encoded(
            X=np.asarray(X, dtype=np.float64),
            background=np.asarray(background, dtype=np.float64),
            columns=whole,
            restore=lambda Z: Z,
        )
    if all(_is_plain(X[name]) for name in X.columns):
        return _encode_frame(X, background)
    return _encode_places(X, background)


def _encode_sparse(X: Any, background: Any) -> Encoded:
    """Leave out columns that are zero in all of these rows: nothing can come from them."""
    from scipy import sparse

    used = np.union1d(X.tocsr().indices, background.tocsr().indices).astype(np.intp)
    n_columns = X.shape[1]

    def restore(Z: Floats) -> Any:
        inner = sparse.csr_matrix(Z)
        shape = (len(Z), n_columns)
        return sparse.csr_matrix((inner.data, used[inner.indices], inner.indptr), shape=shape)

    return Encoded(
        X=X[:, used].toarray().astype(np.float64),
        background=background[:, used].toarray().astype(np.float64),
        columns=used,
        restore=restore,
        is_sparse=True,
    )


def _is_plain(column: Any) -> bool:
    """Whether a column is made of numbers, or of codes of categories that are numbered."""
    return column.dtype.kind in "fiub" or _is_coded(column)


def _is_coded(column: Any) -> bool:
    import pandas as pd

    return isinstance(column.dtype, pd.CategoricalDtype) and (
        column.dtype.categories.equals(pd.RangeIndex(len(column.dtype.categories)))
    )


def _encode_frame(X: Any, background: Any) -> Encoded:
    import pandas as pd

    coded = {at: X[name].dtype for at, name in enumerate(X.columns) if _is_coded(X[name])}
    names = X.columns

    def numbers(table: Any) -> Floats:
        parts = [
            np.where((codes := table[name].cat.codes.to_numpy()) < 0, np.nan, codes)
            if at in coded
            else table[name].to_numpy(dtype=np.float64)
            for at, name in enumerate(names)
        ]
        return np.column_stack(parts)

    def restore(Z: Floats) -> Any:
        columns = {
            at: pd.Categorical.from_codes(np.nan_to_num(Z[:, at], nan=-1).astype(int), dtype=kind)
            for at, kind in coded.items()
        }
        found = {at: columns.get(at, Z[:, at]) for at in range(len(names))}
        return pd.DataFrame(found, copy=False).set_axis(names, axis=1)

    return Encoded(
        X=numbers(X), background=numbers(background), columns=np.arange(len(names)),
        restore=restore,
    )  # fmt: skip


def _encode_places(X: Any, background: Any) -> Encoded:
    """Write for each cell the row that it comes from: this holds values of any kind."""
    import pandas as pd

    both = pd.concat([background, X], ignore_index=True)
    m, (n, d) = len(background), X.shape

    def restore(Z: Floats) -> Any:
        places = Z.astype(np.intp)
        found = {at: both.iloc[:, at].array.take(places[:, at]) for at in range(d)}
        return pd.DataFrame(found, copy=False).set_axis(both.columns, axis=1)

    place = np.arange(m + n, dtype=np.float64)[:, np.newaxis]
    return Encoded(
        X=np.tile(place[m:], (1, d)),
        background=np.tile(place[:m], (1, d)),
        columns=np.arange(d),
        restore=restore,
        is_plain=False,
    )
