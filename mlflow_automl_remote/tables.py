"""A sweep as tables for people who work with pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from mlflow_automl_remote.journal.replay import SweepState


def iterations_table(state: SweepState) -> pd.DataFrame:
    """Give one row per iteration that has begun, by its number."""
    import pandas as pd

    rows = {
        one.number: {
            "pipeline": one.pipeline,
            "state": one.state.value,
            "duration_s": one.duration_s,
            "score": one.score,
            "best": one.best,
            "predict_ms_per_row": one.predict_ms_per_row,
            "reason": one.reason,
            **one.metrics,
        }
        for one in sorted(state.iterations.values(), key=lambda one: one.number)
    }
    columns = ["pipeline", "state", "duration_s", "score", "best", "predict_ms_per_row", "reason"]
    metrics = sorted({name for one in state.iterations.values() for name in one.metrics})
    table = pd.DataFrame.from_dict(rows, orient="index", columns=[*columns, *metrics])
    return table.rename_axis("iteration")


def models_summary(state: SweepState) -> list[list[object]]:
    """Give `[model, iterations, best score]` for each model, the best first; `Failed` last."""
    counts: dict[str, int] = {}
    best: dict[str, float] = {}
    sign = -1 if state.greater_is_better else 1
    for one in sorted(
        state.ranked, key=lambda one: (one.score is None, sign * (one.score or 0.0))
    ):
        if not one.state.is_finished:
            continue
        name = one.model if one.score is not None else "Failed"
        counts[name] = counts.get(name, 0) + 1
        if one.score is not None:
            best.setdefault(name, one.score)
    return [[name, count, best.get(name, float("nan"))] for name, count in counts.items()]
