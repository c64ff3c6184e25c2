"""What every model must do behind the preprocessor of a table, found by the registry."""

from __future__ import annotations

import pickle
import warnings

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from mlflow_automl_remote.automl import data, evaluation, featurization, pipelines
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.components.base import Estimator
from mlflow_automl_remote.automl.dataset import Dataset
from mlflow_automl_remote.automl.pipelines import PipelineSpec, join_params
from mlflow_automl_remote.automl.splits import make_splits
from mlflow_automl_remote.config import AutoMLConfig, Task

N_ROWS = 60
ALL_MODELS = [(task, name) for task, models in MODELS.items() for name in models]
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "size": np.where(np.arange(N_ROWS) % 7 == 0, np.nan, RNG.normal(size=N_ROWS)),
        "colour": RNG.choice(["red", "green", "blue"], N_ROWS),
        "shop": [f"shop {number}" for number in RNG.integers(0, 32, N_ROWS)],
        "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 400, N_ROWS), "D"),
        "vip": RNG.random(N_ROWS) < 0.5,
        "said": [" ".join(RNG.choice(list("abcdefgh"), 6).repeat(2)) for _ in range(N_ROWS)],
    }
)


def _dataset(task: Task) -> Dataset:
    codes = RNG.integers(0, 3, N_ROWS)
    y = np.array(["ape", "bee", "cat"])[codes] if task == "classification" else codes * 1.0
    return data.check({"X": TABLE, "y": y}, task)


def _pipeline(dataset: Dataset, name: str) -> Estimator:
    component = MODELS[dataset.task][name]
    scaler = SCALERS[component.scalers[0]]
    params = join_params(scaler.defaults, component.defaults)
    spec = PipelineSpec(scaler=scaler.name, model=name, params=params)
    context = pipelines.context_for(dataset, n_folds=2, seed=0, n_jobs=1)
    return pipelines.build(spec, dataset.task, context, dataset=dataset)


@pytest.mark.parametrize(("task", "name"), ALL_MODELS)
def test_a_model_of_a_table_predicts_what_it_has_never_seen(task: Task, name: str) -> None:
    """One row, new categories, a column without any value; before and after a pickle."""
    dataset = _dataset(task)
    pipeline = _pipeline(dataset, name)
    splits = make_splits(dataset, AutoMLConfig.parse({"task": task, "n_cross_validations": 2}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # sixty rows are few
        scored = evaluation.evaluate(clone(pipeline), dataset, splits)
        fitted = evaluation.refit(pipeline, dataset)
    assert np.isfinite(np.concatenate(scored.predictions)).all()
    assert fitted.feature_names_in_.tolist() == list(TABLE.columns)
    with featurization.by_value():
        again = pickle.loads(cloudpickle.dumps(fitted))
    strange = TABLE[:4].assign(colour="violet", shop="elsewhere", said="new words")
    for rows in (TABLE[:1], strange, *(TABLE[:4].assign(**{each: None}) for each in TABLE)):
        predicted = evaluation.predict(fitted, rows, dataset)
        assert len(predicted) == len(rows)
        np.testing.assert_array_equal(predicted, evaluation.predict(again, rows, dataset))


@pytest.mark.parametrize("mode", ["dense", "native", "coded"])
def test_a_fold_of_a_table_is_what_its_copied_rows_would_be(mode: featurization.Mode) -> None:
    """Columns are taken when they are needed; what comes out is the same."""
    dataset = _dataset("classification")
    rows = RNG.permutation(N_ROWS)[:40]
    built = featurization.build_preprocessor(dataset, mode=mode, task="classification", seed=0)
    assert built is not None
    lazy = built.fit_transform(dataset.rows(rows), dataset.y[rows])
    copied = clone(built).fit_transform(TABLE.iloc[rows], dataset.y[rows])
    np.testing.assert_array_equal(np.asarray(lazy), np.asarray(copied))
