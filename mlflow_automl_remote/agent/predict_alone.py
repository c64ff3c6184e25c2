"""Predicts with one model in that model's own environment, where this package is not installed.

    python predict_alone.py MODEL_FOLDER ROWS_FOLDER ANSWER_FOLDER

It needs mlflow-skinny beside what the model needs, and nothing of this package. Rows come as NumPy
and JSON files, so that any version of the libraries reads them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

LATENCY_CALLS = 30
LATENCY_BUDGET_S = 5.0


def main(model_folder: Path, rows_folder: Path, answer_folder: Path) -> None:
    """Write `predicted.npy` and `about.json`."""
    about = json.loads((rows_folder / "rows.json").read_text(encoding="utf-8"))
    model, raw = load(model_folder)
    X = arranged(read_rows(rows_folder, about), wanted_columns(model_folder, raw))
    classes: list[Any] = []
    if about["task"] == "regression":
        predicted = np.asarray(model.predict(X), dtype=np.float64).reshape(-1)
    else:
        if not hasattr(raw, "predict_proba"):
            raise TypeError(f"it gives no probabilities: {type(raw).__name__}")
        predicted = np.asarray(raw.predict_proba(X), dtype=np.float64)
        classes = [plain(label) for label in raw.classes_]
    answer_folder.mkdir(parents=True, exist_ok=True)
    np.save(answer_folder / "predicted.npy", predicted, allow_pickle=False)
    answer = {"classes": classes, "latency_ms": latency_ms(model, first_row(X))}
    (answer_folder / "about.json").write_text(json.dumps(answer), encoding="utf-8")


def load(folder: Path) -> tuple[Any, Any]:
    """Give a model with `predict`, and what may have `predict_proba`."""
    import mlflow.pyfunc
    import mlflow.sklearn

    try:
        model = mlflow.sklearn.load_model(str(folder))
    except mlflow.exceptions.MlflowException as error:
        if "flavor" not in str(error):
            raise
        wrapped = mlflow.pyfunc.load_model(str(folder))
        getter = getattr(wrapped._model_impl, "get_raw_model", None)
        return wrapped, getter() if getter else wrapped
    else:
        return model, model


def read_rows(folder: Path, about: dict[str, Any]) -> Any:
    """Read what `comparing.write_rows` wrote."""
    if about["form"] == "sparse":
        from scipy import sparse

        parts = [np.load(folder / f"{part}.npy") for part in ("data", "indices", "indptr")]
        return sparse.csr_matrix(tuple(parts), shape=tuple(about["shape"]))
    if about["form"] == "array":
        return np.load(folder / "X.npy")
    import pandas as pd

    columns: dict[str, Any] = {}
    for at, (name, kind) in enumerate(about["columns"]):
        if kind == "text":
            text = json.loads((folder / f"{at}.json").read_text(encoding="utf-8"))
            text = [np.nan if value is None else value for value in text]
            columns[name] = pd.Series(text, dtype=object)
            continue
        values = np.load(folder / f"{at}.npy")
        columns[name] = pd.Series(values).dt.tz_localize("UTC") if kind == "date" else values
    return pd.DataFrame(columns)


def wanted_columns(folder: Path, model: Any) -> list[str]:
    """Name the columns that a model takes, in its order; none if it does not say."""
    import mlflow.models

    schema = mlflow.models.Model.load(str(folder)).get_input_schema()  # type: ignore[no-untyped-call]  # MLflow's
    names = schema.input_names() if schema is not None and schema.has_input_names() else []
    return [str(name) for name in names or getattr(model, "feature_names_in_", ())]


def arranged(X: Any, names: list[str]) -> Any:
    """Give the columns of a table in the order that a model takes."""
    if not names or not hasattr(X, "columns"):
        return X
    missing = [name for name in names if name not in X.columns]
    if missing:
        raise KeyError(f"the data has no column {missing[0]!r}, which the model needs")
    return X[names]


def first_row(X: Any) -> Any:
    """Give the first row, in the form that all come in."""
    return X.iloc[:1] if hasattr(X, "iloc") else X[:1]


def latency_ms(model: Any, row: Any) -> float:
    """Give the median time of the prediction of one row; the first call does not count."""
    model.predict(row)
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < LATENCY_CALLS and time.perf_counter() - begun < LATENCY_BUDGET_S:
        before = time.perf_counter()
        model.predict(row)
        times.append(time.perf_counter() - before)
    return float(np.median(times)) * 1000


def plain(label: Any) -> Any:
    """Give a label as JSON knows it."""
    return label.item() if hasattr(label, "item") else label


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:4]))
    except Exception as error:  # noqa: BLE001 - the last edge: one line for the report
        text = " ".join(str(error).split())
        print(f"{type(error).__name__}: {text}", file=sys.stderr)  # noqa: T201 - its only answer
        sys.exit(1)
