"""The checks on what get_data() returned, and the dataset on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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
    ({"X": X, "y": Y, "weight": Y}, "unknown keys: weight. Known keys are X, y."),
    ({"X": None, "y": Y}, "None for 'X'"),
    ({"X": X, "y": None}, "None for 'y'"),
    ({"X": X[:-1], "y": Y}, "X has 11 rows and y has 12"),
    ({"X": X[:1], "y": Y[:1]}, "1 rows, fewer than the 3 folds"),
    ({"X": X[:0], "y": Y[:0]}, "X is empty: it has 0 rows and 2 columns"),
    ({"X": X.reshape(2, 2, 6), "y": Y}, "of shape (2, 2, 6)"),
    ({"X": [[1, 2], [3]], "y": Y}, "rows of equal length"),
    ({"X": _with(3, 1, np.nan), "y": Y}, "Column 1 of X has 1 missing values (first in row 3)"),
    ({"X": _with(3, 1, np.inf), "y": Y}, "Column 1 of X has an infinite value in row 3"),
    (
        {"X": pd.DataFrame({"age": X[:, 0], "town": ["a"] * 12}), "y": Y},
        "Column 'town' of X is not numeric (str)",
    ),
    (
        {"X": pd.DataFrame({"at": pd.date_range("2020", periods=12)}), "y": Y},
        "Column 'at' of X is not numeric (datetime64",
    ),
    ({"X": [[1, "a"]] * 12, "y": Y}, "Column 0 of X is not numeric"),
    (
        {"X": np.array([[1, "a"]] * 12, dtype=object), "y": Y},
        "Column 1 of X is not numeric (str)",
    ),
    ({"X": X.astype(complex), "y": Y}, "Column 0 of X is not numeric"),
    (
        {"X": pd.DataFrame(X, columns=["a", "a"]), "y": Y},
        "more than one column named 'a'",
    ),
    ({"X": X, "y": [None, *Y[1:]]}, "y has 1 missing values (first in row 0)"),
    ({"X": X, "y": [np.nan, *Y[1:]]}, "y has 1 missing values"),
    ({"X": X, "y": [np.inf, *Y[1:]]}, "infinite value in row 0"),
    ({"X": X, "y": np.ones((12, 2))}, "one value per row. Got an array of shape (12, 2)"),
    ({"X": X, "y": np.ones(12)}, "only one class (1.0)"),
    ({"X": X, "y": [0] * 10 + [1] * 2}, "Class 1 of y has 2 rows, fewer than the 3 folds"),
    ({"X": X, "y": np.linspace(0, 1, 12)}, "not a whole number; set task to 'regression'"),
    ({"X": X, "y": np.array([0, "a"] * 6, dtype=object)}, "types int, str"),
    ({"X": X, "y": pd.date_range("2020", periods=12)}, "whole numbers, text or bool"),
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
    """Nullable, bool and float columns become one float table; an array has no names."""
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
