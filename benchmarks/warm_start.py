"""How soon a sweep that begins with what an earlier one found is as good as one that does not.

A table is cut in two so that the halves differ: rows that are high in a random direction are more
likely in the first one. A fifth of the second half is held out. The first half is swept, and then
the second: with all the time and no warm start, which is the mark; and with a warm start. In a
race the sweep with a warm start, and one without, have a quarter of the time; else
(`--no-racing`) it has all of it, and what counts is when a pipeline of it reaches a mark: the
folds are the same. The engine is used as a library, as `adapter.py` does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
from adapter import load, save
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.executor import Call
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.meta_features import meta_features
from mlflow_automl_remote.automl.sweep import Sweep, SweepResult
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.config.warm_start import (
    EarlierPipeline,
    EarlierSweep,
    WarmStart,
    most_useful,
    weights_of,
)

SHIFT = 0.25
"""A row is in the first half with a probability of 0.5 plus or minus this, by its rank."""
HELD_OUT = 0.2
STEPS = {
    "race": {"first": 1.0, "whole": 1.0, "quarter": 0.25, "warm": 0.25},
    "search": {"first": 1.0, "whole": 1.0, "warm": 1.0},
}
"""The sweeps over a table, and their part of the time."""
MANY_VALUES = 30
"""A target of numbers with more different values than that is a regression."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME.csv.gz files")
    parser.add_argument("--only", nargs="*", help="names of tables; default: all")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds of a whole sweep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-racing", action="store_true", help="portfolio and Optuna alone")
    parser.add_argument("--iterations", type=int, help="without racing: so many, and no budget")
    parser.add_argument("--steps", type=int, default=10**6, help="sweeps to run now, at most")
    parser.add_argument("--results", type=Path, default=Path("warm_start.jsonl"))
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    mode = "search" if options.no_racing or options.iterations else "race"
    rows = [row for row in map(json.loads, lines) if row["mode"] == mode]
    done = {(row["table"], row["step"]): row for row in rows}
    todo = [
        (path, step)
        for path in sorted(options.data.glob("*.csv.gz"))
        for step in STEPS[mode]
        if (not options.only or _name(path) in options.only) and (_name(path), step) not in done
    ]
    for path, step in todo[: options.steps]:
        first = done.get((_name(path), "first"), {})
        seconds = None if options.iterations else options.budget * STEPS[mode][step]
        settings = {
            "enable_racing": mode == "race",
            "iterations": options.iterations or 1000,
            "experiment_timeout_minutes": seconds and seconds / 60,
            "seed": options.seed,
        }
        row = run(path, step, settings, first.get("found")) | {"mode": mode, "budget_s": seconds}
        done[row["table"], step] = row
        with options.results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        hidden = ("found", "curve")
        print({name: value for name, value in row.items() if name not in hidden}, flush=True)
    report(done, mode)


def _name(path: Path) -> str:
    return path.name.removesuffix(".csv.gz")


def run(path: Path, step: str, settings: dict[str, Any], found: Any) -> dict[str, Any]:
    """Run one of the sweeps over a table."""
    first, second, held_out = halves(path, settings["seed"])
    X, y = first if step == "first" else second
    is_regression = y.dtype.kind in "if" and y.nunique() > MANY_VALUES
    metric = "AUC_weighted" if y.nunique() == 2 else "log_loss"
    config = AutoMLConfig.parse(
        {
            "task": "regression" if is_regression else "classification",
            "primary_metric": "root_mean_squared_error" if is_regression else metric,
            "model_explainability": False,
            "charts": "none",
            **settings,
        }
    )
    checked = data.check_all({"X": X, "y": y}, config.task)
    with tempfile.TemporaryDirectory() as folder, LocalExecutor() as executor:
        executor.run(
            Call(abs, -1.0, output_dir=Path(folder, "warm"))
        )  # imports, which a sweep has too
        begun = time.monotonic()
        data.save(checked.dataset, Path(folder, "data"))
        sweep = Sweep(
            config,
            Path(folder, "data"),
            Path(folder, "work"),
            executor=executor,
            save_model=save,
            load_model=load,
            warm_start=WarmStart.model_validate(found) if step == "warm" else None,
        )
        clock_ms = time.time_ns() / 1e6 - 1000 * (time.monotonic() - begun)
        result = sweep.run()
        wall_s = time.monotonic() - begun
        assert result.best is not None
        model = load(result.best.output_dir / "model")
    return {
        "table": _name(path),
        "step": step,
        "metric": config.primary_metric,
        "rows": len(y),
        "wall_s": round(wall_s, 2),
        "best": result.best.proposal.label,
        "score": result.best_score,
        "test_loss": test_loss(model, held_out, config.primary_metric),
        "iterations": len(result.outcomes),
        "curve": curve(result, config, clock_ms),
        "starts_with": next(
            one.metrics.get(config.primary_metric)
            for one in result.outcomes
            if one.proposal.number == 0
        ),
        "from_warm_start": sum(
            each.proposal.proposed_by == "warm_start" for each in result.outcomes
        ),
        "summary": sweep.plan.warm_start.summary,
        "notes": list(sweep.plan.warm_start.notes),
        "found": what_it_found(result, config, checked.dataset) if step == "first" else None,
    }


def halves(path: Path, seed: int) -> tuple[Any, Any, Any]:
    """Cut a table in two halves that differ, and hold out a part of the second."""
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    rng = np.random.default_rng(seed)
    numbers = table.iloc[:, :-1].apply(
        lambda column: column if column.dtype.kind in "if" else pd.factorize(column)[0]
    )
    ranks = numbers.rank(pct=True).fillna(0.5).to_numpy()
    direction = pd.Series(ranks @ rng.normal(size=ranks.shape[1])).rank(pct=True).to_numpy()
    is_first = rng.random(len(table)) < 0.5 + SHIFT * (2 * direction - 1)
    is_held_out = ~is_first & (rng.random(len(table)) < HELD_OUT)
    X, y = table.iloc[:, :-1], table.iloc[:, -1]
    first, second, held_out = (
        (X[rows].reset_index(drop=True), y[rows].reset_index(drop=True))
        for rows in (is_first, ~is_first & ~is_held_out, is_held_out)
    )
    return first, second, held_out


def test_loss(model: Any, held_out: tuple[pd.DataFrame, Any], metric: str) -> float:
    """Give 1 - AUC, log loss or RMSE on rows that no sweep has seen."""
    X, y = held_out
    if metric == "root_mean_squared_error":
        return float(root_mean_squared_error(y, model.predict(X)))
    known = np.isin(y, model.classes_)  # a class of one row may be in one part only
    proba = model.predict_proba(X[known])
    if metric == "log_loss":
        return float(log_loss(y[known], proba, labels=model.classes_))
    return float(1 - roc_auc_score(y[known] == model.classes_[1], proba[:, 1]))


def what_it_found(result: SweepResult, config: AutoMLConfig, dataset: Any) -> dict[str, Any]:
    """Give what the tracking store would give of a sweep."""
    sign = -1 if config.greater_is_better else 1
    metric = config.primary_metric
    votes = [one for one in result.outcomes if one.proposal.is_ensemble and metric in one.metrics]
    weights = weights_of(votes[0].hyperparameters) if votes else {}
    ends = [one for one in result.outcomes if one.n_fits and not one.proposal.is_ensemble]
    ends.sort(key=lambda one: sign * one.metrics.get(metric, sign * float("inf")))
    ranked = [
        (
            one.proposal.number,
            EarlierPipeline(
                run_id=str(one.proposal.number),
                scaler=one.proposal.scaler,
                model=one.proposal.model,
                params=dict(one.proposal.params),
                fit_s=one.fit_s / one.n_fits,
            ),
        )
        for one in ends
        if metric in one.metrics or one.proposal.number in weights
    ]
    sweep = EarlierSweep(
        run_id="first",
        meta_features=meta_features(dataset),
        pipelines=most_useful(ranked, weights),
    )
    return WarmStart(is_named=True, sweeps=(sweep,)).model_dump()


def curve(result: SweepResult, config: AutoMLConfig, begun_ms: float) -> list[list[float]]:
    """Give when the best pipeline so far became better: seconds, its score, which iteration."""
    found: list[list[float]] = []
    in_order = sorted(result.outcomes, key=lambda each: each.ended_at_ms)
    for n_ended, one in enumerate(in_order, start=1):
        score = one.metrics.get(config.primary_metric)
        if score is None or one.proposal.is_ensemble:
            continue
        if not found or (score > found[-1][1]) == config.greater_is_better:
            found.append([round((one.ended_at_ms - begun_ms) / 1000, 2), score, n_ended])
    return found


def reached(row: dict[str, Any], mark: float, greater: bool) -> str:
    """Say when a sweep had a pipeline as good as a mark."""
    sign = 1 if greater else -1
    for seconds, score, n_ended in row["curve"]:
        if sign * score >= sign * mark:
            return f"{seconds:.1f} s, {n_ended:.0f}"
    return f"never (best {row['curve'][-1][1]:.5g})"


def report(done: dict[tuple[str, str], dict[str, Any]], mode: str) -> None:
    """Print a line for each table that is complete.

    Without racing also when the second sweep, cold and warm, has a pipeline as good as two marks:
    what the first one's best pipeline scores there, and what the cold sweep ends with.
    """
    for table in sorted({table for table, _ in done}):
        rows = {step: done[table, step] for step in STEPS[mode] if (table, step) in done}
        if len(rows) < len(STEPS[mode]):
            continue
        cells = [f"{one['score']:.5g}, {one['test_loss']:.4g}" for one in rows.values()]
        if mode == "search":
            greater = rows["whole"]["metric"] == "AUC_weighted"
            for mark in (rows["warm"]["starts_with"], rows["whole"]["curve"][-1][1]):
                when = [reached(rows[step], mark, greater) for step in ("whole", "warm")]
                cells.append(f"{mark:.5g}: {when[0]}; {when[1]}")
        metric = rows["whole"]["metric"]
        print(f"| {table} ({metric}) | {rows['whole']['rows']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
