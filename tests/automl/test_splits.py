"""Which rows are fitted on and which score: by the settings, or by the size of the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_automl_remote.automl import data, predictions
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.splits import SUBSAMPLE_ROWS, Splits, hold_out, make_splits
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError


def _dataset(n_rows: int, n_classes: int = 2, **more: object) -> Dataset:
    y = np.arange(n_rows) % n_classes
    return data.check(
        {"X": np.arange(n_rows, dtype=float).reshape(-1, 1), "y": y} | more, "classification"
    )


def _splits(dataset: Dataset, **settings: object) -> Splits:
    return make_splits(dataset, AutoMLConfig.parse({"task": dataset.task} | settings))


@pytest.mark.parametrize(
    ("n_rows", "n_folds", "description"),
    [
        (200, 10, "10-fold cross-validation"),
        (999, 10, "10-fold cross-validation"),
        (1_000, 3, "3-fold cross-validation"),
        (20_000, 3, "3-fold cross-validation"),
        (20_001, 1, "hold-out of 10%"),
    ],
)
def test_without_settings_the_size_decides(n_rows: int, n_folds: int, description: str) -> None:
    """Many folds for few rows, one hold-out for many."""
    splits = _splits(_dataset(n_rows))
    assert (n_folds, description) == (splits.n_folds, splits.description)


def test_a_rare_class_gets_fewer_folds_when_nobody_asked_for_a_number() -> None:
    """Every fold has to score a row of it."""
    y = np.array([0] * 100 + [1] * 4)
    dataset = data.check({"X": np.ones((104, 1)), "y": y}, "classification")
    assert _splits(dataset).n_folds == 4


def test_folds_score_each_row_once_and_depend_on_the_seed_alone() -> None:
    """Fit and score share no row."""
    dataset = _dataset(100)
    splits, again, other = (_splits(dataset, n_cross_validations=4, seed=s) for s in (1, 1, 2))
    assert splits.scores_once
    scored = np.concatenate([score for _, score in splits.folds])
    assert list(range(100)) == sorted(scored)
    for (fit, score), (fit_again, _) in zip(splits.folds, again.folds, strict=True):
        assert not set(fit) & set(score)
        assert fit.tolist() == fit_again.tolist()
    assert splits.folds[0][1].tolist() != other.folds[0][1].tolist()


def test_validation_size_holds_out_once_and_with_folds_again_and_again() -> None:
    """Monte-Carlo splits differ, and may score a row twice."""
    dataset = _dataset(200)
    once = _splits(dataset, validation_size=0.25)
    assert (once.n_folds, len(once.folds[0][1])) == (1, 50)
    splits = _splits(dataset, validation_size=0.25, n_cross_validations=6)
    assert splits.description == "6 random splits with 25% held out"
    assert not splits.scores_once
    assert len({tuple(score) for _, score in splits.folds}) == 6


def test_own_folds_come_from_the_settings_or_the_data_and_are_checked() -> None:
    """Rows that do not exist, and two ways to split, are refused."""
    dataset = _dataset(10)
    splits = _splits(dataset, cv_splits_indices=[[[0, 1, 2, 3], [4, 5]], [[4, 5], [0, 1]]])
    assert splits.folds[0][1].tolist() == [4, 5]
    with pytest.raises(DataError, match="rows from 0 to 9"):
        _splits(dataset, cv_splits_indices=[[[0, 1], [10]]])
    with pytest.raises(DataError, match="fits on row 1 and scores it too"):
        _splits(dataset, cv_splits_indices=[[[0, 1], [1]]])
    given = _dataset(10, cv_splits_indices=[[np.arange(6), np.arange(6, 10)]])
    assert _splits(given).description == "1 own folds"
    with pytest.raises(DataError, match="one way to split"):
        _splits(given, n_cross_validations=3)
    with pytest.raises(DataError, match="one way to split"):
        _splits(given, test_size=0.5)


def test_a_validation_set_is_the_one_fold() -> None:
    """All rows of X are fitted on; folds beside it are refused."""
    dataset = _dataset(20, X_valid=np.ones((6, 1)), y_valid=np.array([0, 1] * 3))
    splits = _splits(dataset)
    assert splits.on_valid
    assert [(len(fit), len(score)) for fit, score in splits.folds] == [(20, 6)]
    assert splits.description == "validation set of 6 rows"
    with pytest.raises(DataError, match="'X_valid' and also 'n_cross_validations'"):
        _splits(dataset, n_cross_validations=3)


def test_test_rows_are_in_no_fold_and_not_in_the_final_fit() -> None:
    """They are drawn evenly over the classes."""
    dataset = _dataset(200, n_classes=4)
    splits = _splits(dataset, test_size=0.2)
    assert len(splits.test) == 40
    assert np.bincount(dataset.y[splits.test]).tolist() == [10] * 4
    assert splits.train is not None
    for rows in [splits.train, *(part for fold in splits.folds for part in fold)]:
        assert not set(rows) & set(splits.test)


def test_subsampling_learns_from_so_many_rows_only() -> None:
    """Another seed takes other rows; small data is left whole."""
    dataset = _dataset(SUBSAMPLE_ROWS + 10_000)
    splits = _splits(dataset, enable_subsampling=True)
    other = _splits(dataset, enable_subsampling=True, subsample_seed=9)
    assert splits.train is not None
    assert other.train is not None
    assert abs(len(splits.train) - SUBSAMPLE_ROWS) <= 1
    assert splits.train.tolist() != other.train.tolist()
    assert _splits(dataset).train is None
    assert splits.description == "hold-out of 10%, of a sample of 50,000 of 60,000 rows"
    assert _splits(_dataset(100), enable_subsampling=True).train is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=80),
    st.floats(0.01, 0.99),
    st.integers(0, 100),
)
def test_a_hold_out_keeps_every_class_and_takes_about_its_share(
    labels: list[int], share: float, seed: int
) -> None:
    """Whatever the classes: parts share no row, and no class is lost to the fit."""
    y, rows = np.array(labels), np.arange(len(labels))
    stay, drawn = hold_out(y, rows, share, np.random.default_rng(seed), "classification")
    assert sorted([*stay, *drawn]) == rows.tolist()
    assert set(y[stay]) == set(y)
    assert len(drawn) <= share * len(y) + 1


@pytest.mark.parametrize("more", [{}, {"validation_size": 0.3}])
def test_predictions_come_back_fold_by_fold(more: dict[str, object], tmp_path: object) -> None:
    """Also where a row is scored in several folds."""
    dataset = _dataset(30)
    splits = _splits(dataset, n_cross_validations=4, **more)
    rng = np.random.default_rng(0)
    per_fold = [rng.random((len(score), 2)) for _, score in splits.folds]
    predictions.save(tmp_path, per_fold, dataset, splits)
    loaded = predictions.load(tmp_path, splits)
    assert np.array_equal(np.concatenate(per_fold), loaded)
