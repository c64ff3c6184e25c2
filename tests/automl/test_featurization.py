"""The first step of pipelines over tables: what comes out, what leaks, what it does not know."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Literal

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from mlflow_automl_remote.automl import data, featurization, pipelines
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.featurization import preprocessor
from mlflow_automl_remote.automl.featurization.coded import CodesAsIntegers
from mlflow_automl_remote.automl.featurization.preprocessor import TablePreprocessor
from mlflow_automl_remote.automl.pipelines import PipelineSpec

Mode = Literal["dense", "native", "coded"]
MODES: tuple[Mode, ...] = ("dense", "native", "coded")
N = 120


def _table(n_rows: int = N, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 9, n_rows),
            "vip": rng.random(n_rows) < 0.5,
            "sex": rng.choice(["f", "m"], n_rows),
            "town": rng.choice(["Rome", "Oslo", "Bonn", "Bern"], n_rows),
            "shop": [f"s{number}" for number in rng.integers(0, 60, n_rows)],
            "since": pd.date_range("2020-01-05", periods=n_rows, freq="31h"),
            "note": [
                " ".join(rng.choice(["red", "old", "big", "new", "wet", "hot", "dry"], 5))
                + f" item {number}"
                for number in range(n_rows)
            ],
        }
    )
    table.loc[::7, "age"] = np.nan
    table.loc[::9, "town"] = None
    return table


def _dataset(table: pd.DataFrame | None = None, labels: object = None) -> Dataset:
    rng = np.random.default_rng(1)
    table = _table() if table is None else table
    y = rng.choice(["no", "yes"], len(table)) if labels is None else labels
    return data.check({"X": table, "y": y}, "classification")


def _fitted(mode: Mode, dataset: Dataset | None = None) -> tuple[TablePreprocessor, object]:
    dataset = dataset or _dataset()
    built = featurization.build_preprocessor(dataset, mode=mode, task=dataset.task, seed=0)
    assert built is not None
    return built, built.fit_transform(dataset.X, dataset.y)


def test_dense_output_has_no_gaps_and_a_name_for_every_number() -> None:
    """Each kind of column becomes what linear models can use."""
    built, out = _fitted("dense")
    names = built.get_feature_names_out().tolist()
    assert out.shape == (N, len(names))
    assert np.isfinite(out).all()
    assert len(set(names)) == len(names)
    expected = {"age", "age_missing", "vip", "sex_f", "town_Oslo", "town_missing", "shop_mean"}
    assert expected | {"shop_count", "since_days", "since_month", "note_text0"} <= set(names) | {
        "sex_f" if "sex_m" in names else ""
    }


def test_native_output_keeps_gaps_and_categories() -> None:
    """Categories come first as whole numbers, never missing; numbers keep NaN."""
    built, out = _fitted("native")
    names = built.get_feature_names_out().tolist()
    assert names[: built.n_codes] == ["sex", "town"]
    assert np.isnan(out[:, names.index("age")]).sum() == len(range(0, N, 7))
    codes = out[:, :2]
    np.testing.assert_array_equal(codes, codes.round())
    assert codes[0, 1] == 0  # missing


@pytest.mark.parametrize("mode", MODES)
def test_rows_to_predict_may_be_written_by_hand(mode: Mode) -> None:
    """Text for dates and categories, other orders and more columns give the same numbers."""
    built, _ = _fitted(mode)
    table = _table()[:3]
    by_hand = table.assign(
        since=table["since"].astype(str), more=1, vip=table["vip"].map({True: "true", False: 0})
    )[["more", "note", "since", "shop", "town", "sex", "vip", "age"]]
    np.testing.assert_array_equal(
        np.asarray(built.transform(table), dtype=float),
        np.asarray(built.transform(by_hand), dtype=float),
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("column", ["age", "vip", "sex", "town", "shop", "since", "note"])
@pytest.mark.parametrize("value", [None, "never seen", np.nan, pd.NA])
def test_what_was_never_seen_can_be_predicted(mode: Mode, column: str, value: object) -> None:
    """A whole column of it, and one row alone; dense output has no gaps even then."""
    built, _ = _fitted(mode)
    for n_rows in (1, 4):
        rows = _table()[:n_rows].astype({column: object})
        rows[column] = pd.Series([value] * n_rows, dtype=object)
        out = built.transform(rows)
        assert len(out) == n_rows
        assert out.shape[1] == len(built.get_feature_names_out())
        if mode == "dense":
            assert np.isfinite(out).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_towns", [4, 40])
def test_a_category_never_seen_is_not_a_missing_one(mode: Mode, n_towns: int) -> None:
    """A cabin that no row had says something else than no cabin, however categories are coded."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"town": rng.choice([f"t{number}" for number in range(n_towns)], N)})
    table.loc[::4, "town"] = None
    table["age"] = np.arange(N, dtype=float)
    labels = np.where(table["town"].isna(), "yes", rng.choice(["no", "yes"], N))
    built, _ = _fitted(mode, _dataset(table, labels))
    rows = pd.DataFrame({"town": ["never seen", None, "t1"], "age": 1.0})
    unseen, missing, known = np.asarray(built.transform(rows), dtype=float)
    assert (unseen != missing).any()
    assert (unseen != known).any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("column", list(_table().columns))
def test_one_column_is_enough(mode: Mode, column: str) -> None:
    """Each kind of column alone makes a preprocessor, or needs none."""
    dataset = _dataset(_table()[[column]])
    built = featurization.build_preprocessor(dataset, mode=mode, task=dataset.task, seed=0)
    if built is None:
        assert isinstance(dataset.X, np.ndarray)
    else:
        assert built.fit(dataset.X, dataset.y).transform(dataset.rows(slice(0, 1))).shape[0] == 1


@pytest.mark.parametrize(("n_rows", "n_numbers"), [(120, 3), (700, 7), (4000, 30)])
def test_text_is_as_many_numbers_as_the_rows_can_tell_apart(n_rows: int, n_numbers: int) -> None:
    """One for each hundred rows, from 3 to 30; of a small table more would be noise to trees."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(300)])
    notes = [" ".join(words[rng.integers(0, 300, 6)]) for _ in range(n_rows)]
    table = pd.DataFrame({"note": notes, "age": rng.normal(size=n_rows)})
    fitted, _ = _fitted("native", _dataset(table, rng.integers(0, 2, n_rows)))
    names = [name for name in fitted.get_feature_names_out() if name.startswith("note")]
    assert len(names) == n_numbers


@pytest.mark.parametrize("mode", ["native", "coded"])
def test_gaps_of_a_large_table_are_filled_and_marked(
    monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    """XGBoost keeps numbers with gaps in four times the memory; a mark says where they were."""
    monkeypatch.setattr(featurization, "LARGE_CELLS", 10)
    dataset = _dataset()
    built = featurization.build_preprocessor(dataset, mode=mode, task=dataset.task, seed=0)
    assert built is not None
    made = pd.DataFrame(
        built.fit_transform(dataset.X, dataset.y), columns=built.get_feature_names_out()
    )
    assert not made.isna().any(axis=None)
    assert list(made["age_missing"]) == list(dataset.X["age"].isna())
    assert "town" in made.columns[: built.n_codes]


def test_numbers_need_nothing_unless_they_have_gaps() -> None:
    """Arrays pass as they are; with gaps only models that cannot have them get a step."""
    X = np.arange(24.0).reshape(12, 2)
    whole = data.check({"X": X.copy(), "y": [0, 1] * 6}, "classification")
    X[3, 1] = np.nan
    gaps = data.check({"X": X, "y": [0, 1] * 6}, "classification")
    built = [
        featurization.build_preprocessor(each, mode=mode, task="classification", seed=0)
        for each in (whole, gaps)
        for mode in MODES
    ]
    assert [each is None for each in built] == [True, True, True, False, True, True]
    assert built[3] is not None
    out = built[3].fit_transform(gaps.X, gaps.y)
    assert np.isfinite(out).all()
    assert built[3].get_feature_names_out().tolist() == ["x0", "x1", "x1_missing"]
    with pytest.raises(ValueError, match="X must have 2 columns"):
        built[3].transform(X[:, :1])


def test_a_missing_column_is_named() -> None:
    """The message says which one the model was fitted on."""
    built, _ = _fitted("dense")
    with pytest.raises(ValueError, match="X lacks the column 'town'"):
        built.transform(_table().drop(columns="town"))


@pytest.mark.parametrize("mode", MODES)
def test_every_number_is_traced_to_its_column(mode: Mode) -> None:
    """The mapping and the summary agree."""
    dataset = _dataset(_table().assign(empty=None))
    built, out = _fitted(mode, dataset)
    sources = featurization.raw_column_of(built)
    assert len(sources) == out.shape[1]
    rows = featurization.summary(built, dataset.columns)
    assert [row.RawFeatureName for row in rows] == [*_table().columns, "empty"]
    counts = [sources.count(at) for at in range(dataset.n_features)]
    assert [row.EngineeredFeatureCount for row in rows] == [*counts, 0]
    assert [row.Dropped for row in rows] == [False] * 7 + [True]
    kinds = ["Numeric", "Boolean", "Categorical", "Categorical", "Categorical", "DateTime"]
    assert [row.TypeDetected for row in rows][:6] == kinds
    what = "category codes" if mode == "coded" else "mean target, cross-fitted"
    assert what in rows[4].Transformations


def test_names_that_are_taken_are_changed() -> None:
    """No two numbers share a name."""
    table = _table()[["age", "town"]]
    table["age_missing"] = np.arange(float(N))
    dense, _ = _fitted("dense", _dataset(table))
    assert dense.get_feature_names_out().tolist()[:3] == ["age", "age_missing", "age_missing_2"]


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_are_written_piece_by_piece_are_the_same(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large tables are; also the rows fitted on, whose own targets are left out."""
    dataset = _dataset()
    built, whole = _fitted(mode)
    later = built.transform(dataset.X)
    monkeypatch.setattr(preprocessor, "MOST_ROWS", 17)
    again, pieces = _fitted(mode)
    np.testing.assert_array_equal(whole, pieces)
    np.testing.assert_array_equal(later, again.transform(dataset.X))
    assert len(pickle.dumps(again)) == len(pickle.dumps(built))


def _predict_elsewhere(fitted: object, rows: pd.DataFrame, folder: Path) -> list[object]:
    """Load a model in a Python that cannot import this package, and predict rows."""
    with featurization.by_value():
        (folder / "model.pkl").write_bytes(cloudpickle.dumps(fitted))
    rows.to_pickle(folder / "rows.pkl")
    script = (
        "import sys\nsys.modules['mlflow_automl_remote'] = None\nimport json, pickle, pandas\n"
        f"model = pickle.load(open({str(folder / 'model.pkl')!r}, 'rb'))\n"
        f"rows = pandas.read_pickle({str(folder / 'rows.pkl')!r})\n"
        "print(json.dumps(model.predict(rows).tolist()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def _catboost(n_codes: int) -> CatBoostClassifier:
    return CatBoostClassifier(
        iterations=5, max_ctr_complexity=1, cat_features=tuple(range(n_codes)), verbose=False,
        thread_count=1, allow_writing_files=False,
    )  # fmt: skip


@pytest.mark.parametrize("model", ["CatBoost", "LightGBM", "LogisticRegression"])
def test_a_model_learns_from_pairs_of_categories(model: str, tmp_path: Path) -> None:
    """No column says anything alone; the model loads and predicts without this package."""
    rng = np.random.default_rng(0)
    shop, town = rng.integers(0, 30, (2, 4000))
    table = pd.DataFrame({"shop": shop, "town": town})
    odd = rng.integers(0, 2, (30, 30))[shop, town]
    noise = rng.random(4000) < 0.1
    table = table.map("c{}".format)
    dataset = _dataset(table, np.where(noise, 1 - odd, odd))
    params = {"model__iterations": 30} if model == "CatBoost" else {}
    spec = PipelineSpec(scaler="MaxAbsScaler", model=model, params=params)
    context = pipelines.context_for(dataset, seed=0, n_jobs=1)
    pipeline = pipelines.build(spec, dataset.task, context, dataset=dataset)
    fitted = pipeline.fit(table[:3000], dataset.y[:3000])
    predicted = fitted.predict_proba(table[3000:])
    assert roc_auc_score(odd[3000:], predicted[:, 1]) > 0.85
    loaded = _predict_elsewhere(fitted, table[3000:3003], tmp_path)
    assert loaded == fitted.predict(table[3000:3003]).tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("n_classes", [2, 3, 20])
def test_random_labels_score_at_chance(mode: Mode, n_classes: int) -> None:
    """Neither mean targets of nearly unique ids nor text let a label through."""
    n_rows = 1200
    rng = np.random.default_rng(3)
    table = _table(n_rows)[["town", "note"]]
    table["id"] = [f"i{number}" for number in rng.permutation(n_rows) // 2]
    table["shop"] = [f"s{number}" for number in rng.integers(0, 90, n_rows)]
    dataset = _dataset(table, rng.permutation(np.arange(n_rows) % n_classes))
    built = featurization.build_preprocessor(dataset, mode=mode, task=dataset.task, seed=0)
    assert built is not None
    scale, model = {
        "dense": (StandardScaler(), LogisticRegression(max_iter=300, tol=1e-3)),
        "native": ("passthrough", LGBMClassifier(n_estimators=20, verbosity=-1, n_jobs=1)),
        "coded": (CodesAsIntegers(built.n_codes), _catboost(built.n_codes)),
    }[mode]
    pipeline = Pipeline([("preprocess", built), ("scale", scale), ("model", model)])
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scored = cross_val_predict(pipeline, dataset.X, dataset.y, cv=folds, method="predict_proba")
    scores = scored[:, 1] if n_classes == 2 else scored
    auc = roc_auc_score(dataset.y, scores, multi_class="ovr")
    assert abs(auc - 0.5) < 0.05
    # While it is fitted, the model sees nothing of the labels either.
    if n_classes <= 3 and mode != "coded":
        first = clone(built).fit_transform(dataset.X, dataset.y)
        names = clone(built).fit(dataset.X, dataset.y).get_feature_names_out().tolist()
        at = next(at for at, name in enumerate(names) if name.startswith("id_mean"))
        mean = np.asarray(first, dtype=float)[:, at]
        own = (dataset.y == (1 if n_classes == 2 else 0)).astype(float)
        assert np.corrcoef(mean, own)[0, 1] < 0.1


def test_regression_targets_are_averaged_per_category() -> None:
    """A category's number is near its mean; rare ones are drawn to the mean of all."""
    shops = [f"s{number % 40}" for number in range(400)] + ["rare"]
    y = np.array([float(number % 40) for number in range(400)] + [1000.0])
    dataset = data.check({"X": pd.DataFrame({"shop": shops}), "y": y}, "regression")
    built = featurization.build_preprocessor(dataset, mode="dense", task="regression", seed=0)
    assert built is not None
    out = built.fit(dataset.X, dataset.y).transform(dataset.X)
    assert out[39, 0] > out[0, 0] + 10
    assert out[400, 0] < 200


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_numbers_and_a_clone_is_unfitted(mode: Mode) -> None:
    """scikit-learn's clone keeps the settings."""
    dataset = _dataset()
    built, out = _fitted(mode)
    again = clone(built)
    assert not hasattr(again, "blocks_")
    np.testing.assert_array_equal(
        np.asarray(out, dtype=float),
        np.asarray(again.fit_transform(dataset.X, dataset.y), dtype=float),
    )


def test_a_model_with_the_step_loads_without_this_package(tmp_path: Path) -> None:
    """Pickled by value, it needs only scikit-learn and pandas."""
    dataset = _dataset()
    built = featurization.build_preprocessor(dataset, mode="dense", task=dataset.task, seed=0)
    pipeline = Pipeline([("preprocess", built), ("model", LogisticRegression(max_iter=2000))])
    pipeline.set_params(model__tol=1.0).fit(dataset.X, dataset.y)
    elsewhere = _predict_elsewhere(pipeline, dataset.example(3), tmp_path)
    assert elsewhere == pipeline.predict(dataset.X[:3]).tolist()
