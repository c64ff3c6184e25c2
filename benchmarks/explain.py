"""Seconds to explain 1,000 rows of 30 columns, per family, beside what a user would call instead.

    python benchmarks/explain.py [--families LightGBM,KNN] [--rows 1000] [--their-rows 6]

Ours explains all rows against 100 background rows (models that are asked use 20 of them). The
others are timed on a few rows and scaled up: they take the same time for each row. They are
`shap.Explainer` on the pipeline's predict_proba with the same background, MLflow's
`mlflow.shap.log_explanation`, and the explainer of `mlflow.models.evaluate`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import make_classification

from mlflow_automl_remote.automl import assembly, data
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.pipelines import PipelineSpec, build, context_for, join_params
from mlflow_automl_remote.explain import explain

N_COLUMNS = 30
N_BACKGROUND = 100
N_TRAIN = 2000
TREES = (
    "DecisionTree", "RandomForest", "ExtremeRandomTrees", "GradientBoosting",
    "HistGradientBoosting", "LightGBM", "XGBoost", "CatBoost",
)  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    asked = _arguments()
    X, y = make_classification(
        N_TRAIN + asked.rows, N_COLUMNS, n_informative=12, n_classes=3, random_state=0
    )
    dataset = data.check({"X": X[:N_TRAIN], "y": y[:N_TRAIN]}, "classification")
    families = asked.families.split(",") if asked.families else list(MODELS["classification"])
    print(
        f"{'family':<24}{'explainer':<14}{'ours':>9}{'shap':>10}{'log_expl.':>11}{'evaluate':>10}"
        f"{'times':>9}"
    )
    for name in families:
        model = _fitted(name, dataset)
        ours_s, how = _ours(model, X, asked.rows)
        theirs_s = [
            _scaled(run, model, X, y, asked) for run in (_shap, _log_explanation, _evaluate)
        ]
        best_s = min(theirs_s)
        print(
            f"{name:<24}{how:<14}{ours_s:>8.2f}s"
            + "".join(
                f"{each:>{width - 1}.0f}s"
                for each, width in zip(theirs_s, (10, 11, 10), strict=True)
            )
            + f"{best_s / ours_s:>8.0f}x",
            flush=True,
        )
    if asked.ensemble:
        _ensembles(dataset, X, asked.rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time explanations.")
    parser.add_argument("--families", default="")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--their-rows", type=int, default=6)
    parser.add_argument("--ensemble", action="store_true", help="also ten pipelines as one")
    return parser.parse_args()


def _fitted(
    name: str, dataset: data.Dataset, scaler: str = "", seed: int = 0, **changes: int
) -> Any:
    component = MODELS["classification"][name]
    usual = "StandardScaler" if "StandardScaler" in component.scalers else component.scalers[0]
    chosen = SCALERS[scaler or usual]
    params = join_params(chosen.defaults, component.defaults)
    spec = PipelineSpec(scaler=chosen.name, model=name, params=params)
    context = context_for(dataset, seed=seed, n_jobs=2)
    pipeline = build(spec, "classification", context, dataset=dataset)
    return pipeline.set_params(**changes).fit(dataset.X, dataset.y)


def _ours(model: Any, X: Any, n_rows: int) -> tuple[float, str]:
    begin = time.perf_counter()
    found = explain(
        model,
        X[:N_BACKGROUND],
        X[-n_rows:],
        feature_names=[f"x{at}" for at in range(N_COLUMNS)],
        class_names=[str(label) for label in model.classes_],
        task="classification",
        seed=0,
        budget_s=float("inf"),
    )
    return time.perf_counter() - begin, found.explainer


def _scaled(run: Callable[..., None], model: Any, X: Any, y: Any, asked: Any) -> float:
    """Time a few rows without what is paid once (imports, set-up), scaled to all rows."""
    with tempfile.TemporaryDirectory() as folder, io.StringIO() as nowhere:
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.create_experiment("explain", artifact_location=f"{folder}/artifacts")
        mlflow.set_experiment("explain")
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            return run(model, X, y, asked.their_rows) * asked.rows / asked.their_rows


def _shap(model: Any, X: Any, y: Any, n_rows: int) -> float:
    import shap

    explainer = shap.Explainer(model.predict_proba, X[:N_BACKGROUND])
    explainer(X[-1:])  # compiles
    begin = time.perf_counter()
    explainer(X[-n_rows:])
    return time.perf_counter() - begin


def _log_explanation(model: Any, X: Any, y: Any, n_rows: int) -> float:
    import mlflow

    with mlflow.start_run():
        begin = time.perf_counter()
        mlflow.shap.log_explanation(model.predict_proba, X[-n_rows:])
        took_s = time.perf_counter() - begin
    # Its background is made of the rows that it explains, 100 at most; the time grows with both.
    return took_s * N_BACKGROUND / min(N_BACKGROUND, n_rows)


def _evaluate(model: Any, X: Any, y: Any, n_rows: int) -> float:
    import mlflow
    import pandas as pd

    # It wants every class; of each it takes the last rows.
    at = np.concatenate([np.flatnonzero(y == label)[-(n_rows // 3 + 1) :] for label in range(3)])
    rows = pd.DataFrame(X[at], columns=[f"x{column}" for column in range(N_COLUMNS)])
    rows["target"] = y[at]
    with mlflow.start_run():
        uri = mlflow.sklearn.log_model(
            model, name="model", serialization_format="cloudpickle", pip_requirements=[]
        ).model_uri
        loaded = mlflow.pyfunc.load_model(uri)
        took = []
        for explained in (False, True):
            begin = time.perf_counter()
            mlflow.models.evaluate(
                loaded,
                rows,
                targets="target",
                model_type="classifier",
                evaluator_config={"log_model_explainability": explained},
            )
            took.append(time.perf_counter() - begin)
    return max(took[1] - took[0], 1e-3) * n_rows / len(at)


def _ensembles(dataset: data.Dataset, X: Any, n_rows: int) -> None:
    """Time ten pipelines one by one, and the vote of all of them."""
    names, scalers = ("RandomForest", "ExtremeRandomTrees"), ("MaxAbsScaler", "StandardScaler")
    members = [
        _fitted(names[at % 2], dataset, scalers[at % 2], seed=at, model__n_estimators=20)
        for at in range(10)
    ]
    ones_s = sum(_ours(member, X, n_rows)[0] for member in members)
    named = {f"m{at}": member for at, member in enumerate(members)}
    vote = assembly.voting_classifier(named, [1.0] * 10, dataset.classes)
    all_s, how = _ours(vote, X, n_rows)
    print(
        f"vote of 10 pipelines of {' and '.join(names)}, 20 trees each ({how}): {all_s:.2f} s, "
        f"its members one by one {ones_s:.2f} s: {all_s / ones_s:.2f} times"
    )


if __name__ == "__main__":
    main()
