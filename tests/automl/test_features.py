"""What iterations share of the steps before their models: made once, and never half."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from mlflow_automl_remote.automl import data, evaluation, feature_store, features, pipelines
from mlflow_automl_remote.automl.components import MODELS, SCALERS, base
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.feature_store import FeatureStore
from mlflow_automl_remote.automl.features import RowSet, pass_on
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params

N = 200
FIT, SCORE = np.arange(0, N, 2), np.arange(1, N, 2)
DEADLINE_S = 30.0


def _dataset(*, table: bool, gaps: bool = False) -> Dataset:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3))
    if gaps:
        X[::5, 1] = np.nan
    raw: object = X
    if table:
        shops = [f"s{number}" for number in rng.integers(0, 40, N)]
        colours = rng.choice(["red", "green"], N)
        raw = pd.DataFrame({"size": X[:, 0], "shop": shops, "colour": colours})
    return data.check({"X": raw, "y": rng.integers(0, 2, N)}, "classification")


def _pipeline(dataset: Dataset, scaler: str, model: str) -> Pipeline:
    params = join_params(SCALERS[scaler].defaults, MODELS["classification"][model].defaults)
    spec = PipelineSpec(scaler=scaler, model=model, params=params)
    context = pipelines.context_for(dataset, n_folds=2, seed=0, n_jobs=1)
    built = pipelines.build(spec, "classification", context, dataset=dataset)
    assert isinstance(built, Pipeline)
    return built


def _rows(dataset: Dataset, name: str = "fold0") -> RowSet:
    others = ((dataset.X, SCORE),)
    return RowSet(name=name, X=dataset.X, y=dataset.y[FIT], fit=FIT, others=others)


def _store(folder: Path) -> FeatureStore:
    return FeatureStore(folder / "features", folder / "data")


@pytest.mark.parametrize(
    ("table", "gaps", "scaler", "model"),
    [
        (True, False, "StandardScaler", "LogisticRegression"),
        (True, False, "MaxAbsScaler", "LightGBM"),
        (True, False, "PCA", "SVM"),
        (False, False, "MinMaxScaler", "KNN"),
        (False, False, "RobustScaler", "SVM"),
        (False, False, "Normalizer", "KNN"),
        (False, False, "PCA", "SVM"),
        (False, True, "MaxAbsScaler", "LightGBM"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_what_is_shared_is_what_a_pipeline_alone_would_make(
    table: bool,
    gaps: bool,
    scaler: str,
    model: str,
    large: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For who makes it, and for who finds it; large data is scaled piece by piece."""
    if large:
        monkeypatch.setattr(features, "LARGE_CELLS", 10)
        monkeypatch.setattr(features, "MOST_ROWS", 30)
        monkeypatch.setattr(feature_store, "SMALL_BYTES", 0)
    dataset = _dataset(table=table, gaps=gaps)
    pipeline, rows = _pipeline(dataset, scaler, model), _rows(dataset)
    alone = pass_on(pipeline, rows, None)
    for _ in range(2):
        shared = pass_on(pipeline, rows, _store(tmp_path))
        np.testing.assert_allclose(shared.fit, alone.fit, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(shared.others[0], alone.others[0], rtol=1e-12, atol=1e-12)
        # The steps that travel with the model are the same too.
        again = Pipeline([*shared.steps, ("end", "passthrough")])
        raw = dataset.X.iloc[SCORE] if table else dataset.X[SCORE]
        np.testing.assert_allclose(again.transform(raw), alone.others[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", ["LogisticRegression", "LightGBM"])
def test_the_last_fit_uses_the_features_of_the_only_fold(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On all rows, each with its own label and weight; what the steps learned is of that fold."""
    for module in (features, base):
        monkeypatch.setattr(module, "LARGE_CELLS", 10)
    dataset = replace(_dataset(table=True), sample_weight=np.linspace(1.0, 3.0, N))
    pipeline, rows = _pipeline(dataset, "StandardScaler", model), _rows(dataset)
    store = _store(tmp_path)
    fitted = evaluation.refit(pipeline, dataset, store=store, made=rows)
    n_made = len([place for place in (tmp_path / "features").iterdir() if place.is_dir()])
    assert isinstance(fitted, Pipeline)
    behind = pass_on(pipeline, rows, store)
    assert n_made == len([p for p in (tmp_path / "features").iterdir() if p.is_dir()])
    order = np.concatenate([FIT, SCORE])
    by_hand = clone(pipeline[-1]).fit(
        np.concatenate([behind.fit, behind.others[0]]),
        dataset.y[order],
        sample_weight=dataset.sample_weight[order],
    )
    expected = by_hand.predict_proba(Pipeline([*behind.steps]).transform(dataset.X))
    np.testing.assert_allclose(fitted.predict_proba(dataset.X), expected, rtol=1e-9)


def test_features_are_made_once_for_each_set_of_rows_and_way_of_preprocessing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipelines with other models or scalers use what is there."""
    made = []
    real = features._preprocess
    monkeypatch.setattr(
        features, "_preprocess", lambda *given: made.append(given[1].name) or real(*given)
    )
    dataset, store = _dataset(table=True), _store(tmp_path)
    pairs = [("StandardScaler", "KNN"), ("MaxAbsScaler", "LightGBM"), ("PCA", "SVM")]
    for scaler, model in (*pairs, ("MaxAbsScaler", "HistGradientBoosting")):
        for name in ("fold0", "fold1"):
            pass_on(_pipeline(dataset, scaler, model), _rows(dataset, name), store)
    assert sorted(made) == ["fold0", "fold0", "fold1", "fold1"]  # dense, native


def test_one_that_is_killed_while_it_makes_features_harms_nobody(tmp_path: Path) -> None:
    """The lock is free again, and what it left half-made is not taken for whole."""
    store = _store(tmp_path)
    begun = tmp_path / "begun"

    def never_ends(path: Path) -> object:
        np.save(path, np.zeros(3))
        begun.touch()
        time.sleep(600)
        return "half"

    child = os.fork()
    if child == 0:
        store.get("rows", never_ends)
        os._exit(0)
    deadline = time.monotonic() + DEADLINE_S
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

    def make(path: Path) -> object:
        np.save(path, np.ones(2))
        return "whole"

    found = store.get("rows", make)
    assert found is not None
    assert found[0] == "whole"
    np.testing.assert_array_equal(found[1], np.ones(2))


def test_an_error_while_features_are_made_is_that_iterations_own(tmp_path: Path) -> None:
    """The next one tries again."""
    store = _store(tmp_path)

    def fails(path: Path) -> object:
        raise ValueError("no such column")

    for _ in range(2):
        with pytest.raises(ValueError, match="no such column"):
            store.get("rows", fails)


def test_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used longest ago goes; who maps it keeps it; with no room at all nobody shares."""
    monkeypatch.setattr(feature_store, "SMALL_BYTES", 0)
    store = _store(tmp_path)
    free = 3_000.0 / feature_store.SHARE_OF_DISK  # an array below takes 928 bytes

    def room(share: float) -> None:
        monkeypatch.setattr(
            feature_store.shutil, "disk_usage", lambda folder: type("U", (), {"free": share})
        )

    def make(path: Path) -> object:
        store.write(path, (100, 1), [np.full((100, 1), 7.0)])
        return None

    room(free)
    first = store.get("first", make)
    time.sleep(0.02)
    for number in range(6):
        assert store.get(str(number), make) is not None
    kept = [place for place in (tmp_path / "features").iterdir() if place.is_dir()]
    assert 1 <= len(kept) <= 5
    assert first is not None
    assert first[1].sum() == 700.0
    made: list[int] = []
    assert store.get("first", lambda path: made.append(1) or make(path)) is not None
    assert made == [1]
    room(0.0)
    dataset = _dataset(table=True)
    pipeline, rows = _pipeline(dataset, "StandardScaler", "KNN"), _rows(dataset)
    alone = pass_on(pipeline, rows, _store(tmp_path / "full"))
    np.testing.assert_array_equal(alone.fit, pass_on(pipeline, rows, None).fit)
    assert not [place for place in (tmp_path / "full/features").iterdir() if place.is_dir()]
