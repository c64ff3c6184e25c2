"""Fitted models of every family of the engine, over mixed tables, sparse matrices and arrays."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pandas as pd
from scipy import sparse

from mlflow_automl_remote.automl import assembly, data
from mlflow_automl_remote.automl.components import MODELS, SCALERS
from mlflow_automl_remote.automl.pipelines import PipelineSpec, build, context_for, join_params
from mlflow_automl_remote.explain import explain
from mlflow_automl_remote.explain.chains import chain_of
from mlflow_automl_remote.explain.ensembles import as_sum
from mlflow_automl_remote.explain.forests import forest_output
from mlflow_automl_remote.explain.outputs import margin_output, whole_output

N = 140


def table(n_rows=N):
    """Six columns of all kinds: numbers with gaps, truth, categories few and many, dates, text."""
    rng = np.random.default_rng(0)
    age = rng.normal(40, 9, n_rows)
    return pd.DataFrame(
        {
            "age": np.where(np.arange(n_rows) % 7 == 0, np.nan, age),
            "vip": rng.random(n_rows) < 0.5,
            "town": np.where(
                np.arange(n_rows) % 9 == 0, None, rng.choice(["Rome", "Oslo", "Bonn"], n_rows)
            ),
            "shop": [f"s{number}" for number in rng.integers(0, 60, n_rows)],
            "since": pd.date_range("2020-01-05", periods=n_rows, freq="31h"),
            "note": [
                " ".join(rng.choice(["red", "old", "big", "new", "wet", "hot", "dry"], 5))
                + f" item {number}"
                for number in range(n_rows)
            ],
        }
    )


def target(task, n_classes=3):
    """Targets that depend on the columns of `table`."""
    frame = table()
    score = (
        frame["age"].fillna(30) / 9
        + 2 * frame["vip"]
        + (frame["town"] == "Rome")
        + frame["note"].str.count("red")
        + np.random.default_rng(2).normal(0, 0.4, len(frame))
    ).to_numpy()
    if task == "regression":
        return score
    cuts = np.quantile(score, np.linspace(0, 1, n_classes + 1)[1:-1])
    return np.array([f"class {number}" for number in range(n_classes)])[
        np.searchsorted(cuts, score)
    ]


def dataset(task, n_classes=3):
    return data.check({"X": table(), "y": target(task, n_classes)}, task)


def fitted(name, found, scaler=None, **params):
    """Fit a family's default pipeline, or one with other parameters, on a dataset."""
    component = MODELS[found.task][name]
    usual = "StandardScaler" if "StandardScaler" in component.scalers else component.scalers[0]
    chosen = SCALERS[scaler or usual]
    spec = PipelineSpec(
        scaler=chosen.name,
        model=name,
        params=join_params(chosen.defaults, {**component.defaults, **params}),
    )
    context = context_for(found, seed=0, n_jobs=1)
    pipeline = build(spec, found.task, context, dataset=found)
    small = {key: 15 for key in _sizes(pipeline)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.set_params(**small).fit(found.X, found.y)


def _sizes(pipeline):
    wanted = ("n_estimators", "max_iter", "iterations")
    names = [
        name
        for name in pipeline.get_params()
        if name.split("__")[-1] in wanted and name.startswith("model")
    ]
    linear = ("LogisticRegression", "SGD", "ElasticNet", "MLP", "LassoLars")
    return [] if any(word in str(type(pipeline[-1])) for word in linear) else names


def vote(members, weights):
    named = {f"m{number}": member for number, member in enumerate(members)}
    if hasattr(members[0], "classes_") and len(members[0].classes_):
        return assembly.voting_classifier(named, weights, members[0].classes_)
    return assembly.voting_regressor(named, weights)


def stack(members, final, classes=None):
    named = {f"m{number}": member for number, member in enumerate(members)}
    if classes is None:
        return assembly.stacking_regressor(named, final)
    return assembly.stacking_classifier(named, final, classes)


def explained(model, background, X, **changes):
    classes = [str(label) for label in getattr(model, "classes_", ())] or None
    names = list(X.columns) if hasattr(X, "columns") else [f"x{at}" for at in range(X.shape[1])]
    settings = {
        "feature_names": names,
        "class_names": classes,
        "task": "classification" if classes else "regression",
        "seed": 0,
        "budget_s": 60.0,
    }
    return explain(model, background, X, **(settings | changes))


def output_of(model, explanation):
    """What the values must add up to, from the model's public methods."""
    chain = chain_of(model)
    if explanation.output_space != "margin":
        return whole_output(chain)[0]
    ensemble = as_sum(chain)
    if ensemble is not None:
        return ensemble.output
    if explanation.explainer == "tree":
        return forest_output(chain)
    return margin_output(chain)


def rows_of(X, at):
    return X.iloc[at] if hasattr(X, "iloc") else X[at]


def off_by(model, X, explanation):
    total = explanation.per_output().sum(axis=1) + explanation.base_values
    return np.abs(total - output_of(model, explanation)(rows_of(X, explanation.rows))).max()


def brute_force(model, explanation, background, X, row):
    """Shapley's definition on raw columns, coalition by coalition: (d, outputs)."""
    output, d = output_of(model, explanation), X.shape[1]
    sets = [s for size in range(d + 1) for s in itertools.combinations(range(d), size)]
    worth = dict(zip(sets, _worths(output, background, X, row, sets), strict=True))
    values = []
    for column in range(d):
        total = 0
        for chosen in sets:
            if column not in chosen:
                joined = tuple(sorted((*chosen, column)))
                weight = 1 / (d * math.comb(d - 1, len(chosen)))
                total = total + weight * (worth[joined] - worth[chosen])
        values.append(total)
    return np.stack(values)


def _worths(output, background, X, row, sets):
    tables = []
    for chosen in sets:
        mixed = background.copy()
        for column in chosen:
            if isinstance(mixed, pd.DataFrame):
                value = X.iloc[[row] * len(mixed), column]
                mixed[mixed.columns[column]] = value.set_axis(mixed.index)
            else:
                mixed[:, column] = X[row, column]
        tables.append(mixed)
    if isinstance(background, pd.DataFrame):
        asked = pd.concat(tables, ignore_index=True)
        asked = asked.astype(background.dtypes.to_dict())
    else:
        asked = sparse.vstack(tables).tocsr() if sparse.issparse(tables[0]) else np.vstack(tables)
    return output(asked).reshape(len(sets), background.shape[0], -1).mean(axis=1)
