"""The checks on what get_data() returned, and the dataset on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.errors import DataError

X = np.arange(24.0).reshape(12, 2)
Y = np.array([0, 1, 2] * 4)


def _with(row: int, column: int, value: float) -> np.ndarray:
    changed = X.copy()
    changed[row, column] = value
    return changed


REFUSED = [
    ([1, 2], "must return a dict with 'X' and 'y'. Got a list instead"),
    ({"X": X}, "'y' is missing"),
    ({"y": Y}, "'X' is missing"),
    ({"X": X, "y": Y, "weight": Y}, "unknown keys: weight. Known keys are X, y, X_valid"),
    ({"X": None, "y": Y}, "None for 'X'"),
    ({"X": X, "y": None}, "None for 'y'"),
    ({"X": X[:-1], "y": Y}, "X has 11 rows and y has 12"),
    ({"X": X[:1], "y": Y[:1]}, "1 rows, fewer than the 3 folds"),
    ({"X": X[:0], "y": Y[:0]}, "X is empty: it has 0 rows and 2 columns"),
    ({"X": X.reshape(2, 2, 6), "y": Y}, "of shape (2, 2, 6)"),
    ({"X": [[1, 2], [3]], "y": Y}, "rows of equal length"),
    ({"X": _with(3, 1, np.inf), "y": Y}, "Column 1 of X has an infinite value in row 3"),
    (
        {"X": pd.DataFrame({"age": X[:, 0], "parts": [[1, 2]] * 12}), "y": Y},
        "Column 'parts' of X holds values of the type list",
    ),
    (
        {"X": pd.DataFrame({"age": [np.inf, *X[1:, 0]]}), "y": Y},
        "Column 'age' of X has an infinite value in row 0",
    ),
    ({"X": pd.DataFrame({"a": ["b"] * 12}), "y": Y}, "No column of X is left to learn from"),
    ({"X": np.full((12, 2), np.nan), "y": Y}, "No column of X is left to learn from"),
    ({"X": sparse.csr_matrix(_with(3, 1, np.nan)), "y": Y}, "values that are missing or inf"),
    ({"X": sparse.csr_matrix(X.astype(complex)), "y": Y}, "must hold numbers. Got complex128"),
    ({"X": X.astype(complex), "y": Y}, "complex numbers"),
    (
        {"X": pd.DataFrame(X, columns=["a", "a"]), "y": Y},
        "more than one column named 'a'",
    ),
    ({"X": X, "y": [None] * 12}, "y has no values: every label is missing"),
    ({"X": X, "y": [np.inf, *Y[1:]]}, "infinite value in row 0"),
    ({"X": X, "y": np.ones((12, 2))}, "one value per row. Got an array of shape (12, 2)"),
    ({"X": X, "y": np.ones(12)}, "only one class (1.0)"),
    ({"X": X, "y": [0] * 10 + [1] * 2}, "Class 1 of y has 2 rows, fewer than the 3 folds"),
    ({"X": X, "y": np.linspace(0, 1, 12)}, "not a whole number; set task to 'regression'"),
    ({"X": X, "y": np.array([0, "a"] * 6, dtype=object)}, "types int, str"),
    ({"X": X, "y": pd.date_range("2020", periods=12)}, "whole numbers, text or bool"),
    ({"X": np.zeros((60, 1)), "y": np.arange(60)}, "60 different labels in 60 rows"),
]


@pytest.mark.parametrize(("raw", "message"), REFUSED)
def test_data_that_cannot_be_trained_on_is_refused_in_one_line(raw: object, message: str) -> None:
    """The message names what was found, and is one line."""
    with pytest.raises(DataError) as caught:
        data.check(raw, "classification", n_folds=3)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a"] * 12, "must be numeric for regression"),
        ([np.inf] * 12, "infinite value in row 0"),
        ([2] * 12, "y is 2.0 in every row"),
    ],
)
def test_targets_of_a_regression_are_finite_numbers(y: object, message: str) -> None:
    """Text and infinities are refused."""
    with pytest.raises(DataError, match=message):
        data.check({"X": X, "y": y}, "regression")


@pytest.mark.parametrize(
    "y",
    [
        Y,
        Y.tolist(),
        pd.Series(Y),
        pd.DataFrame({"label": Y}),
        pd.Series(Y.astype(str)).astype("category"),
        np.array(["cat", "dog", "owl"] * 4, dtype=object),
        np.array([True, False] * 6),
        Y.astype(float),
    ],
)
def test_labels_of_every_usual_type_survive_the_disk(y: object, tmp_path: Path) -> None:
    """Labels come back equal, and of a type that needs no pickle."""
    checked = data.check({"X": X, "y": y}, "classification", n_folds=3)
    data.save(checked, tmp_path)
    opened = data.open_dataset(tmp_path)
    assert np.asarray(y).ravel().tolist() == opened.y.tolist()
    assert opened.y.dtype.kind in "biufU"
    assert checked.digest == opened.digest
    assert opened.n_rows == 12
    assert opened.smallest_class in (4, 6)


def test_an_opened_dataset_shares_its_pages_and_cannot_be_changed(tmp_path: Path) -> None:
    """Arrays are read-only views of the files."""
    data.save(data.check({"X": X, "y": Y}, "classification"), tmp_path)
    opened = data.open_dataset(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        opened.X[0, 0] = 1
    assert type(opened.X) is np.ndarray
    assert not opened.X.flags.owndata


def test_columns_keep_their_names_and_types_become_numbers(tmp_path: Path) -> None:
    """Nullable, bool and float columns become one float array; an array has no names."""
    table = pd.DataFrame({"n": pd.array([1] * 12, dtype="Int64"), "b": [True] * 12, "f": X[:, 0]})
    checked = data.check({"X": table, "y": Y}, "classification")
    data.save(checked, tmp_path)
    opened = data.open_dataset(tmp_path)
    assert opened.feature_names == ("n", "b", "f")
    features = opened.features()
    assert isinstance(features, pd.DataFrame)
    assert list(features.columns) == ["n", "b", "f"]
    assert opened.X.dtype == np.float64
    assert data.check({"X": X, "y": Y}, "classification").feature_names is None


def test_one_column_may_come_as_a_series_or_a_flat_array() -> None:
    """Both are one feature."""
    flat = data.check({"X": X[:, 0], "y": Y}, "classification")
    named = data.check({"X": pd.Series(X[:, 0], name="a"), "y": Y}, "classification")
    assert (flat.n_features, named.n_features) == (1, 1)
    assert named.feature_names == ("a",)


def test_the_digest_changes_with_any_value_label_or_name() -> None:
    """Equal data has an equal digest of at most 32 digits, which MLflow accepts."""
    digests = {
        data.check({"X": features, "y": labels}, "classification").digest
        for features, labels in (
            (X, Y),
            (X.copy(), Y.tolist()),
            (_with(0, 0, 9.0), Y),
            (X, Y[::-1]),
            (pd.DataFrame(X, columns=["a", "b"]), Y),
        )
    }
    assert len(digests) == 4
    assert {len(digest) for digest in digests} == {32}


def test_a_folder_without_a_dataset_is_named(tmp_path: Path) -> None:
    """Opening it is an error of ours, with the path."""
    with pytest.raises(DataError, match=str(tmp_path)):
        data.open_dataset(tmp_path)


TABLE = pd.DataFrame(
    {
        "age": [22, 38, None, 35] * 6,
        "town": ["Rome", "Oslo", None, "Bonn"] * 6,
        "born": pd.date_range("2001", periods=24, freq="31D").astype(str),
        "vip": [True, False, True, None] * 6,
        "note": [f"seen {n} times in the old house" for n in range(24)],
        "code": [f"k{n}" for n in range(24)],
        "same": ["x"] * 24,
        "none": [None] * 24,
        "price": ["1.5", "NA", "2", "?"] * 6,
    }
)
LABELS = ["no", "yes"] * 12
KINDS = {
    "age": "number",
    "town": "category",
    "born": "date",
    "vip": "boolean",
    "note": "text",
    "code": "category",
    "same": "category",
    "none": "number",
    "price": "number",
}


def test_every_kind_of_column_is_found_and_what_is_of_no_use_is_left_out(tmp_path: Path) -> None:
    """Kinds, gaps and reasons are in the schema; the table comes back from the disk as it was."""
    checked = data.check({"X": TABLE, "y": LABELS}, "classification")
    assert {column.name: column.kind for column in checked.columns} == KINDS
    gaps = {column.name: column.n_missing for column in checked.columns}
    assert tuple(gaps[n] for n in ("age", "town", "vip", "price", "none")) == (6, 6, 6, 12, 24)
    assert {"code", "same", "none"} == {c.name for c in checked.columns if c.dropped_reason}
    assert checked.feature_names == ("age", "town", "born", "vip", "note", "price")
    data.save(checked, tmp_path)
    opened = data.open_dataset(tmp_path)
    assert opened.is_table
    pd.testing.assert_frame_equal(checked.X, opened.X)
    assert checked.columns == opened.columns
    assert [c.name for c in opened.x_columns] == list(opened.X.columns)
    example = opened.example(3)
    assert example["town"].tolist()[:2] == ["Rome", "Oslo"]
    assert example["price"].tolist() == ["1.5", None, "2"]  # as callers of a model have it
    assert example["born"].tolist()[0] == "2001-01-01"
    assert len(opened.rows(np.array([1, 5]))) == 2


def test_whole_numbers_and_truth_values_are_shown_as_such_though_they_are_kept_as_others() -> None:
    """A category of numbers too, which is kept as text; but not where there are gaps."""
    table = pd.DataFrame(
        {
            "rooms": range(24),
            "vip": [True, False] * 12,
            "shop": [3, 17] * 12,
            "rate": [0.5, 1.5] * 12,
            "floor": pd.array([1, None] * 12, dtype="Int64"),
        }
    )
    kinds = {"shop": "category", "rate": "category"}
    raw = {"X": table, "y": LABELS}
    checked = data.check_all(raw, "classification", featurization=kinds)
    example = checked.dataset.example(4)
    assert {name: str(example[name].dtype) for name in example} == {
        "rooms": "int64",
        "vip": "bool",
        "shop": "int64",
        "rate": "float64",
        "floor": "float64",
    }
    assert example["shop"].tolist() == [3, 17, 3, 17]


def test_a_table_on_disk_is_mapped_and_not_copied(tmp_path: Path) -> None:
    """Numbers and codes of an opened table are views of the file."""
    data.save(data.check({"X": TABLE, "y": LABELS}, "classification"), tmp_path)
    table = data.open_dataset(tmp_path).X
    assert not table["age"].to_numpy().flags.writeable
    assert not table["town"].cat.codes.to_numpy().flags.owndata


@pytest.mark.parametrize(
    "container",
    [
        lambda table: table,
        lambda table: pl.from_pandas(table),
        lambda table: pl.from_pandas(table).lazy(),
        lambda table: pa.Table.from_pandas(table),
        lambda table: table.astype({"town": "category"}),
        lambda table: table.convert_dtypes(),
        lambda table: table.convert_dtypes(dtype_backend="pyarrow"),
    ],
)
def test_tables_of_every_library_are_the_same_data(container: object) -> None:
    """pandas with any types, polars and pyarrow give one digest."""
    wanted = ["age", "town", "note", "born"]
    expected = data.check({"X": TABLE[wanted], "y": LABELS}, "classification")
    got = data.check({"X": container(TABLE[wanted]), "y": LABELS}, "classification")
    assert list(map(str, expected.X.dtypes)) == list(map(str, got.X.dtypes))
    assert [c.n_missing for c in expected.columns] == [c.n_missing for c in got.columns]


@pytest.mark.parametrize(
    "y", [pl.Series("y", LABELS), pa.chunked_array([LABELS]), pd.array(LABELS, dtype="string")]
)
def test_labels_of_every_library_are_the_same(y: object) -> None:
    """polars, pyarrow and nullable text become plain text."""
    got = data.check({"X": np.arange(24), "y": y}, "classification").y
    assert (got.tolist(), got.dtype.kind) == (LABELS, "U")


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.coo_matrix, sparse.csc_array])
def test_a_sparse_matrix_stays_sparse(kind: object, tmp_path: Path) -> None:
    """Of any format, it is mapped as rows."""
    data.save(data.check({"X": kind(X), "y": Y}, "classification"), tmp_path)
    opened = data.open_dataset(tmp_path)
    assert opened.is_sparse
    assert not opened.X.data.flags.writeable
    np.testing.assert_array_equal(X[[2, 0]], opened.rows(np.array([2, 0])).toarray())


def test_an_array_of_mixed_objects_is_a_table_without_names() -> None:
    """Columns that no model sees stay in it: rows to predict come as such arrays too."""
    mixed = np.array([[n, "ab"[n % 2], "same"] for n in range(12)], dtype=object)
    checked = data.check({"X": mixed, "y": Y}, "classification")
    assert checked.feature_names is None
    assert checked.X.shape == (12, 3)
    assert [c.kind for c in checked.columns] == ["number", "category", "category"]
    assert [c.dropped_reason for c in checked.columns][:2] == [None, None]


def test_numbers_with_gaps_are_accepted_unless_featurization_is_off() -> None:
    """NaN stays in the array for the preprocessor; without one it is refused."""
    raw = {"X": _with(3, 1, np.nan), "y": Y}
    assert np.isnan(data.check(raw, "classification").X).sum() == 1
    for table in (raw["X"], pd.DataFrame(raw["X"], columns=["a", "b"])):
        with pytest.raises(DataError, match=r"has 1 missing values \(first in row 3\)"):
            data.check_all({"X": table, "y": Y}, "classification", featurization="off")
    with pytest.raises(DataError, match="Column 'town' of X is not numeric"):
        data.check_all({"X": TABLE[["town"]], "y": LABELS}, "classification", featurization="off")


def test_the_user_may_say_what_a_column_is() -> None:
    """Numbers as categories, and a column that no model shall see."""
    table = pd.DataFrame({"zip": [10115, 20095, 10115] * 4, "secret": range(12)})
    checked = data.check_all(
        {"X": table, "y": Y},
        "classification",
        featurization={"zip": "category", "secret": "drop"},
    ).dataset
    assert checked.feature_names == ("zip",)
    assert list(checked.X["zip"].cat.categories) == ["10115", "20095"]
    with pytest.raises(DataError, match=r"no column named 'zap'\. Did you mean 'zip'"):
        data.check_all({"X": table, "y": Y}, "classification", featurization={"zap": "text"})
    with pytest.raises(DataError, match="Column 'town' holds no number"):
        data.check_all(
            {"X": pd.DataFrame({"town": ["a"] * 12, "n": X[:, 0]}), "y": Y},
            "classification",
            featurization={"town": "number"},
        )


def test_rows_without_a_label_are_left_out_everywhere() -> None:
    """Features, weights and folds stay in step; whole numbers are whole again."""
    labels = [np.nan, *Y[1:].astype(float)]
    checked = data.check_all(
        {
            "X": X,
            "y": labels,
            "sample_weight": np.arange(12.0),
            "cv_splits_indices": [([0, 1, 2, 3, 4], [5, 6]), ([5, 6], [0, 1])],
        },
        "classification",
    )
    dataset = checked.dataset
    assert (checked.n_unlabelled, dataset.n_rows) == (1, 11)
    assert dataset.y.dtype.kind == "i"
    assert dataset.sample_weight is not None
    assert dataset.sample_weight[0] == 1
    assert dataset.cv_splits is not None
    assert [rows.tolist() for rows in dataset.cv_splits[0]] == [[0, 1, 2, 3], [4, 5]]
    with pytest.raises(DataError, match="y has 1 missing values"):
        data.check_all({"X": X, "y": labels}, "classification", exclude_nan_labels=False)


FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"X": X}, "'X', which needs 'y'"),
        ({"X": X, "y": Y, "X_valid": X}, "'X_valid', which needs 'y_valid'"),
        ({"X": X, "y": Y, "y_valid": Y}, "'y_valid', which needs 'X_valid'"),
        ({"X": X, "y": Y, "sample_weight_valid": Y}, "which needs 'y_valid'"),
        ({"data_train": FRAME}, "'data_train', which needs 'label'"),
        ({"label": "y"}, "'label', which needs 'data_train'"),
        ({"X": X, "y": Y, "columns": ["a"]}, "both 'columns' and 'X'"),
        ({"X": X, "y": Y, "data_train": FRAME, "label": "y"}, "both 'data_train' and 'X'"),
        ({"data_train": FRAME, "label": "y", "y": Y}, "both 'data_train' and 'y'"),
        (
            {"data_train": FRAME, "label": "y", "X_valid": X, "y_valid": Y},
            "both 'data_train' and 'X_valid'",
        ),
        (
            {"data_train": FRAME, "label": "y", "sample_weight": Y},
            "both 'data_train' and 'sample_weight'",
        ),
        (
            {"X": X, "y": Y, "X_valid": X, "y_valid": Y, "cv_splits_indices": [([0], [1])]},
            "both 'cv_splits_indices' and 'X_valid'",
        ),
        ({"data_train": FRAME, "label": "z"}, "data_train has no column named 'z'"),
        ({"data_train": FRAME, "label": "y", "columns": ["c"]}, "no column named 'c'"),
        ({"data_train": X, "label": "y"}, "data_train must be a table. Got a ndarray"),
        ({"X": X, "y": Y, "sample_weight": Y[:3]}, "sample_weight has 3 values for 12 rows"),
        ({"X": X, "y": Y, "sample_weight": -X[:, 0]}, "at least 0. Got -2.0 in row 1"),
        ({"X": X, "y": Y, "sample_weight": Y * 0}, "sample_weight is 0 in every row"),
        ({"X": X, "y": Y, "X_valid": X[:, :1], "y_valid": Y}, "X_valid has 1 columns and X has 2"),
        ({"X": X, "y": Y, "X_valid": X[:3], "y_valid": Y}, "X_valid has 3 rows and y_valid has"),
        ({"X": X, "y": Y, "X_valid": X, "y_valid": Y + 1}, "y_valid has the label '3'"),
        ({"X": X, "y": Y, "X_valid": X, "y_valid": [None] * 12}, "y_valid has 12 missing values"),
        ({"X": X, "y": Y, "cv_splits_indices": []}, "cv_splits_indices is empty"),
        ({"X": X, "y": Y, "cv_splits_indices": [1, 2]}, "must be a list of pairs"),
        ({"X": X, "y": Y, "cv_splits_indices": [([0], [12])]}, "names row 12; rows are numbered"),
        ({"X": X, "y": Y, "cv_splits_indices": [([0], [])]}, "neither of them empty"),
        ({"X": X, "y": Y, "cv_splits_indices": [([0, 1], [1])]}, "fits on row 1 and scores it"),
    ],
)
def test_keys_that_do_not_fit_each_other_are_refused(raw: object, message: str) -> None:
    """Each rule has a message of one line with both keys."""
    with pytest.raises(DataError) as caught:
        data.check(raw, "classification")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_table_with_a_label_column_is_split() -> None:
    """Other columns than those listed are not seen."""
    raw = {"data_train": FRAME, "label": "y", "columns": ["b"], "X": None}
    checked = data.check(raw, "classification")
    assert (("b",), Y.tolist()) == (checked.feature_names, checked.y.tolist())
    assert data.check({"data_train": FRAME, "label": "y"}, "classification").n_features == 2


def test_a_validation_set_is_stored_as_the_training_set_is(tmp_path: Path) -> None:
    """Columns are found by name and read as the kind that they have in X."""
    valid = TABLE.iloc[:4][["price", "town", "age", "born", "vip", "note"]].assign(town=7)
    checked = data.check(
        {
            "X": TABLE,
            "y": LABELS,
            "X_valid": valid,
            "y_valid": LABELS[:4],
            "sample_weight": np.ones(24),
            "sample_weight_valid": np.ones(4),
        },
        "classification",
    )
    data.save(checked, tmp_path)
    opened = data.open_dataset(tmp_path)
    assert opened.X_valid is not None
    assert list(opened.X.columns) == list(opened.X_valid.columns)
    assert opened.X_valid["town"].tolist() == ["7"] * 4
    assert opened.y_valid is not None
    assert opened.y_valid.tolist() == LABELS[:4]
    assert opened.sample_weight_valid is not None


def test_categories_that_no_row_has_do_not_count() -> None:
    """A category type may list more than there is."""
    town = pd.Categorical(["a"] * 12, categories=["a", "b", "c"])
    X = pd.DataFrame({"town": town, "n": np.arange(12)})
    checked = data.check({"X": X, "y": Y}, "classification")
    assert [column.n_unique for column in checked.columns] == [1, 12]
    assert checked.feature_names == ("n",)
