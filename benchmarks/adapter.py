"""Our entry into a race of AutoML engines: the plain library, with the search of a sweep.

A harness calls `warm(ctx)`, which only imports, and then `fit_predict(ctx)`, whose time counts.
What `ctx` holds is said there. Models are pickled where a sweep writes MLflow folders; charts and
explanations, which take no part in the search, are left out.
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

import mlflow_automl_remote
from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.executor import Call
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.sweep import Sweep, SweepResult
from mlflow_automl_remote.config import AutoMLConfig

METRICS = {"auc": "AUC_weighted", "logloss": "log_loss", "rmse": "root_mean_squared_error"}
SECONDS_TO_PREDICT = 3.0
SHARE_TO_PREDICT = 0.1
"""Of the budget, beside these seconds: what the rows to predict may take of one core. Boosters and
all models of large tables use all cores."""
MOST_SECONDS_TO_PREDICT = 12.0
"""Of one core, whatever the budget: time that is kept for predictions is not searched in."""
SECONDS_BEYOND = 1.0
"""Of the budget, what predictions that take so long may use beyond it."""
EXTRA = "AUTOML_RACE_SETTINGS"
"""Environment variable with more settings, as JSON: for ablations."""

_executor: LocalExecutor | None = None


def warm(ctx: Any) -> None:
    """Import the engine, here and in the process that iterations are forked from."""
    global _executor
    _executor = LocalExecutor()
    _executor.run(Call(math.sqrt, 4.0, output_dir=Path(ctx.workdir) / "warm"))


def fit_predict(ctx: Any) -> dict[str, Any]:
    """Sweep a table within `ctx.budget` seconds, and predict with the best model.

    Args:
        ctx: `X_train`, `y_train`, `X_test` (pandas), `cats` (names of the columns that are
            categories), `task` (binary, multiclass or regression), `metric` (auc, logloss or
            rmse), `budget` in seconds, `seed`, and `workdir`, a folder.
    """
    begun = time.monotonic()
    config = AutoMLConfig.parse(_settings(ctx))
    folder = Path(ctx.workdir)
    raw = {"X": ctx.X_train, "y": ctx.y_train}
    checked = data.check_all(raw, config.task, featurization=config.featurization)
    data.save(checked.dataset, folder / "data")
    loaded_s = time.monotonic() - begun
    if _executor is None:
        warm(ctx)
    assert _executor is not None
    sweep = Sweep(
        config,
        folder / "data",
        folder / "work",
        executor=_executor,
        save_model=save,
        load_model=load,
        spent_s=loaded_s,
    )
    result = sweep.run()
    assert result.best is not None
    model = load(result.best.output_dir / "model")
    fitted = time.monotonic()
    predicted = model.predict(ctx.X_test) if ctx.metric == "rmse" else _proba(model, ctx)
    predict_s = time.monotonic() - fitted
    _executor.close()
    return {
        "pred" if ctx.metric == "rmse" else "proba": predicted,
        "fit_s": fitted - begun,
        "predict_s": predict_s,
        "n_trials": len(result.outcomes),
        "version": mlflow_automl_remote.__version__,
        "extra": describe(result, config, loaded_s, sweep),
    }


def _proba(model: Any, ctx: Any) -> Any:
    predicted = model.predict_proba(ctx.X_test)
    full = np.zeros((len(predicted), ctx.n_classes))
    full[:, model.classes_.astype(int)] = predicted
    return full


def _settings(ctx: Any) -> dict[str, object]:
    import json

    predict_s = SECONDS_TO_PREDICT + SHARE_TO_PREDICT * ctx.budget
    predict_s = min(predict_s, MOST_SECONDS_TO_PREDICT)
    before_s = predict_s / ctx.cores - SECONDS_BEYOND
    return {
        "task": "regression" if ctx.task == "regression" else "classification",
        "primary_metric": METRICS[ctx.metric],
        "iterations": 1000,
        "experiment_timeout_minutes": (ctx.budget - before_s) / 60,
        "featurization": dict.fromkeys(_coded(ctx), "category") or "auto",
        "seed": ctx.seed,
        "max_concurrent_iterations": ctx.cores,
        "model_explainability": False,
        "charts": "none",
        "max_predict_ms_per_row": 1000 * predict_s / len(ctx.X_test),
        **json.loads(os.environ.get(EXTRA, "{}")),
    }


def _coded(ctx: Any) -> list[str]:
    """Give the categories that would be taken for numbers; what words are is seen anyway."""
    words = {name: ctx.X_train[name].dropna() for name in ctx.cats}
    return [
        name
        for name, values in words.items()
        if pd.to_numeric(values, errors="coerce").notna().all()
    ]


def save(pipeline: Any, dataset: Any, folder: Path) -> None:
    """Pickle a model: one file in its folder."""
    del dataset
    folder.mkdir(exist_ok=True)
    (folder / "model.pkl").write_bytes(pickle.dumps(pipeline, protocol=5))


def load(folder: Path) -> Any:
    """Read what `save` wrote."""
    return pickle.loads((folder / "model.pkl").read_bytes())


def describe(
    result: SweepResult, config: AutoMLConfig, loaded_s: float, sweep: Sweep
) -> dict[str, Any]:
    """Say what the sweep did, for the lines of the results."""
    first = min((each.started_at_ms for each in result.outcomes), default=0)
    return {
        "best": result.best.proposal.label if result.best else "",
        "score": result.best_score,
        "loaded_s": round(loaded_s, 2),
        "states": dict(Counter(str(each.state) for each in result.outcomes)),
        "left_out": dict(sweep.plan.left_out),
        "iterations": [
            [
                each.proposal.number,
                each.proposal.label,
                each.proposal.proposed_by,
                round((each.started_at_ms - first) / 1000, 2),
                round((each.ended_at_ms - first) / 1000, 2),
                each.metrics.get(config.primary_metric),
                each.reason[:200] or dict(each.hyperparameters)
                if each.proposal.is_ensemble
                else each.reason[:200],
            ]
            for each in result.outcomes
        ],
    }
