"""Explanations as a person has them in Python: computed now, or fetched from a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mlflow_automl_remote.errors import DataError, SweepNotFound
from mlflow_automl_remote.explain import SixParts, explain, six_parts

N_BACKGROUND: Final = 100


def explain_model(  # noqa: PLR0913 - a door; all but three are named
    model: Any,
    X_train: Any,
    X_test: Any,
    *,
    features: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    engineered: bool = False,
    seed: int = 0,
    budget_s: float = float("inf"),
) -> SixParts:
    """Explain a fitted model now, on this machine.

    Args:
        model: A fitted pipeline or ensemble, such as `mlflow.sklearn.load_model` gives.
        X_train: Rows that the background is drawn from (100 at most), (m, d).
        X_test: Rows to explain, (n, d).
        features: Names of the columns; those of the table, or `x0`, `x1`, ... by default.
        class_names: Names of the classes in the order of `model.classes_`.
        engineered: Explain what preprocessing makes of the columns, not the columns.
        seed: Of the background and of what is sampled.
        budget_s: Time for everything; when it ends first, fewer rows are explained.

    Returns:
        The six parts, in the order of the fields of `SixParts`.

    Raises:
        DataError: Shapes and names do not fit each other, or the model cannot be explained.

    Examples:
        >>> import numpy as np
        >>> from sklearn.linear_model import LinearRegression
        >>> X = np.random.default_rng(0).random((50, 2))
        >>> model = LinearRegression().fit(X, X[:, 1])
        >>> explain_model(model, X, X, features=["age", "income"]).overall_imp
        ['income', 'age']
    """
    import numpy as np

    from mlflow_automl_remote.explain.tables import as_table, is_frame, take

    train, test = as_table(X_train, "X_train"), as_table(X_test, "X_test")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(train.shape[0])[:N_BACKGROUND])
    classes = [str(label) for label in getattr(model, "classes_", ())]
    columns = [str(name) for name in X_test.columns] if is_frame(X_test) else None
    return six_parts(
        explain(
            model,
            take(train, chosen),
            test,
            feature_names=features or columns or [f"x{at}" for at in range(test.shape[1])],
            class_names=(class_names or classes) if classes else None,
            task="classification" if classes else "regression",
            seed=seed,
            budget_s=budget_s,
            features="engineered" if engineered else "raw",
        )
    )


def retrieve_model_explanation(run: Any) -> SixParts:
    """Fetch the explanation of a run: of an iteration, or of a sweep for its best model.

    Args:
        run: An MLflow run, a `SweepRun`, or a run's id.

    Returns:
        The six parts, in the order of the fields of `SixParts`.

    Raises:
        SweepNotFound: The run has no explanation; the message says why if the run does.

    Examples:
        >>> parts = retrieve_model_explanation(run)
        >>> len(parts.shap_values), len(parts.overall_imp)
        (10, 64)
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    info = getattr(run, "info", run)
    run_id = str(getattr(info, "run_id", info))
    with tempfile.TemporaryDirectory(prefix="automl-remote-") as folder:
        try:
            paths = [
                mlflow.artifacts.download_artifacts(
                    run_id=run_id, artifact_path=f"explanation/{name}", dst_path=folder
                )
                for name in ("summary.json", "values.npz")
            ]
        except (MlflowException, OSError) as error:
            raise SweepNotFound(_why_none(run_id)) from error
        return _read(Path(paths[0]), Path(paths[1]))


def _why_none(run_id: str) -> str:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from mlflow_automl_remote.publishing import facts

    try:
        told = MlflowClient().get_run(run_id).data.tags.get(facts.EXPLANATION, "")
    except MlflowException:
        return f"There is no run '{run_id}' in this tracking store."
    why = f" ({told})" if told else ""
    return (
        f"The run '{run_id}' has no explanation{why}. Make one with: automl-remote explain "
        "PARENT_RUN_ID --iteration N"
    )


def _read(summary_path: Path, values_path: Path) -> SixParts:
    import numpy as np

    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    with np.load(values_path, allow_pickle=False) as arrays:
        values = arrays["shap_values"]
        expected = arrays["expected_values"].tolist()
    if values.ndim not in (2, 3):
        raise DataError(f"values.npz holds an array of {values.ndim} dimensions, not 2 or 3.")
    by_class = [values[:, :, at] for at in range(values.shape[2])] if values.ndim == 3 else values
    return SixParts(
        shap_values=by_class,
        expected_values=expected,
        overall_summary=summary["overall_summary"],
        overall_imp=summary["overall_imp"],
        per_class_summary=summary["per_class_summary"],
        per_class_imp=summary["per_class_imp"],
    )
