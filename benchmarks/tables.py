"""Whether a sweep of a minute ends in time on every kind of table, with a model or a reason.

    python benchmarks/tables.py --data FOLDER [--results FILE] [--minutes 1] [--only NAME ...]

FOLDER has an INDEX.json (a list of objects with `name` and `task`) and `<name>.csv.gz` files whose
last column is `target`. Made tables come after them: sparse text, few rows, many classes, a class
without values, a constant target, many rows. Each is swept by the engine as a library, models
saved; what has a line in the results already is passed over, so an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
from scipy import sparse

from mlflow_automl_remote.agent.models import load_model, save_model
from mlflow_automl_remote.automl import data
from mlflow_automl_remote.automl.data_script import DataOrder, prepare_data
from mlflow_automl_remote.automl.executor import Call, Executor
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.automl.outcome import Outcome
from mlflow_automl_remote.automl.sweep import Sweep, SweepResult
from mlflow_automl_remote.automl.template import PRELOAD, Template
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import DataError

METRICS = {"binary": "AUC_weighted", "multiclass": "log_loss", "regression": "r2_score"}
NUMBER = 0


def sparse_text() -> dict[str, Any]:
    """20,000 documents of 60 words out of 100,000; 40 words tell the class."""
    rng = np.random.default_rng(NUMBER)
    y = rng.integers(0, 2, 20_000)
    words = (rng.random((20_000, 60)) ** 3 * 99_900).astype(np.int64) + 100
    words[:, 0] = rng.integers(0, 20, 20_000) + 20 * y
    rows = np.repeat(np.arange(20_000), 60)
    X = sparse.csr_matrix((np.ones(rows.size), (rows, words.ravel())), shape=(20_000, 100_000))
    return {"X": X, "y": np.where(rng.random(20_000) < 0.1, 1 - y, y)}


def few_rows() -> dict[str, Any]:
    """50 rows by 3 columns."""
    rng = np.random.default_rng(NUMBER)
    X = rng.normal(size=(50, 3))
    return {"X": X, "y": (X[:, 0] + rng.normal(size=50) > 0).astype(int)}


def many_classes() -> dict[str, Any]:
    """1,000 classes of 20 rows each, in 12 columns."""
    rng = np.random.default_rng(NUMBER)
    y = np.repeat(np.arange(1_000), 20)
    centres = rng.normal(size=(1_000, 12)) * 3
    return {"X": centres[y] + rng.normal(size=(20_000, 12)), "y": y}


def class_without_values() -> dict[str, Any]:
    """Every value of one of three classes is missing, in a mixed table."""
    rng = np.random.default_rng(NUMBER)
    y = rng.integers(0, 3, 3_000)
    colours = np.array(["red", "green", "blue", "grey"], dtype=object)
    X = pd.DataFrame(
        {
            "size": rng.normal(size=3_000) + y,
            "colour": colours[rng.integers(0, 4, 3_000)],
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, 3_000), "D"),
        }
    )
    X.loc[y == 2] = None
    return {"X": X, "y": y}


def constant_target() -> dict[str, Any]:
    """Nothing to learn: refused."""
    return {"X": np.random.default_rng(NUMBER).normal(size=(500, 4)), "y": np.ones(500)}


def many_rows() -> dict[str, Any]:
    """5 million rows by 10 columns."""
    rng = np.random.default_rng(NUMBER)
    X, noise = rng.normal(size=(5_000_000, 10)), rng.normal(size=5_000_000)
    return {"X": X, "y": (X[:, 0] * X[:, 1] + X[:, 2] + noise > 0).astype(int)}


MADE: Mapping[str, tuple[str, Callable[[], dict[str, Any]], dict[str, Any]]] = {
    "sparse_text": ("binary", sparse_text, {}),
    "few_rows": ("binary", few_rows, {}),
    "many_classes": ("multiclass", many_classes, {}),
    "class_without_values": ("multiclass", class_without_values, {}),
    "constant_target": ("regression", constant_target, {}),
    "many_rows": ("binary", many_rows, {"enable_subsampling": True}),
}


@dataclass(frozen=True)
class Made:
    """What `prepare_made` is asked for."""

    make: Callable[[], dict[str, Any]]
    task: str
    folder: Path


def prepare_made(order: Made) -> tuple[int, ...]:
    """Make a table, check it and save it, as `prepare_data` does with a file."""
    task: Any = order.task
    dataset = data.check_all(order.make(), task).dataset
    data.save(dataset, order.folder)
    return dataset.X.shape


def sweep(name: str, arguments: argparse.Namespace, executor: Executor) -> dict[str, Any]:
    """Sweep one table, and say how it went."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config, finished = _load(name, arguments, executor, folder)
        loaded_s = time.monotonic() - begun
        line: dict[str, Any] = {"table": name, "loaded_s": round(loaded_s, 1)}
        if finished.value is None:
            wall_s = time.monotonic() - begun
            return line | {"wall_s": round(wall_s, 1), "message": finished.reason}
        dataset = data.open_dataset(folder / "data")
        line |= {"rows": dataset.n_rows, "columns": dataset.n_features}
        del dataset
        try:
            result = Sweep(
                config,
                folder / "data",
                folder / "work",
                executor=executor,
                save_model=save_model,
                load_model=load_model,
                spent_s=loaded_s,
            ).run()
        except DataError as error:
            return line | {"wall_s": round(time.monotonic() - begun, 1), "message": str(error)}
        line["wall_s"] = round(time.monotonic() - begun, 1)
        return line | _described(result, config)


def _load(name: str, arguments: argparse.Namespace, executor: Executor, folder: Path) -> Any:
    """Give the settings, and how loading the data ended."""
    settings: dict[str, Any] = {"experiment_timeout_minutes": arguments.minutes}
    if name in MADE:
        kind, make, more = MADE[name]
        settings |= more
    else:
        kind = next(each["task"] for each in _index(arguments.data) if each["name"] == name)
        path = str((arguments.data / f"{name}.csv.gz").resolve())
        settings |= {"training_data": path, "label_column_name": "target"}
    task = "regression" if kind == "regression" else "classification"
    settings |= {"task": task, "primary_metric": METRICS[kind]}
    config = AutoMLConfig.parse(settings)
    if name in MADE:
        made = Made(make=make, task=task, folder=folder / "data")
        return config, executor.run(Call(prepare_made, made, output_dir=folder / "log"))
    order = DataOrder(config=config, project=folder, folder=folder / "data")
    return config, executor.run(Call(prepare_data, order, output_dir=folder / "log"))


def _described(result: SweepResult, config: AutoMLConfig) -> dict[str, Any]:
    states = Counter(str(each.state) for each in result.outcomes)
    ended = {each.proposal.label: each for each in result.outcomes}
    return {
        "states": dict(states),
        "best": result.best.proposal.label if result.best else "",
        "score": result.best_score,
        "metric": config.primary_metric,
        "scores": {
            label: round(each.metrics[config.primary_metric], 4)
            for label, each in ended.items()
            if config.primary_metric in each.metrics  # not in one that a race left partial
        },
        "seconds": {label: _seconds(each) for label, each in ended.items()},
        "reasons": {label: each.reason for label, each in ended.items() if each.reason},
    }


def _seconds(outcome: Outcome) -> list[float]:
    """Give the seconds of an iteration, and those of its fits and predictions."""
    whole_s = (outcome.ended_at_ms - outcome.started_at_ms) / 1000
    return [round(whole_s, 1), round(outcome.fit_s + outcome.predict_s, 1)]


def _index(folder: Path) -> list[dict[str, Any]]:
    index: list[dict[str, Any]] = json.loads((folder / "INDEX.json").read_text(encoding="utf-8"))
    return index


def _table(lines: list[dict[str, Any]]) -> str:
    """Give the results as a table of Markdown."""
    rows = ["| table | rows x columns | s | iterations | best, or why there is none | score |"]
    rows.append("|" + " --- |" * 6)
    for line in lines:
        size = f"{line['rows']:,} x {line['columns']:,}" if "rows" in line else ""
        states = ", ".join(f"{n} {state.lower()}" for state, n in line.get("states", {}).items())
        score = f"{line['metric']} {line['score']:.4g}" if line.get("score") is not None else ""
        best = line.get("best", "") or line.get("message", "")
        cells = (line["table"], size, line["wall_s"], states, best, score)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with INDEX.json")
    parser.add_argument("--results", type=Path, default=Path("tables.jsonl"))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", help="names of tables")
    arguments = parser.parse_args()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    known = arguments.results.read_text().splitlines() if arguments.results.exists() else []
    lines = {line["table"]: line for line in map(json.loads, known)}
    names = [each["name"] for each in _index(arguments.data)] + list(MADE)
    with LocalExecutor(
        Template.spawn((*PRELOAD, "mlflow_automl_remote.agent.preload"))
    ) as executor:
        for name in arguments.only or names:
            if name in lines:
                continue
            lines[name] = sweep(name, arguments, executor)
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[name]) + "\n")
            print(json.dumps(lines[name]), flush=True)
    print(_table([lines[name] for name in arguments.only or names if name in lines]))


if __name__ == "__main__":
    main()
