"""Explains the model of an iteration, in a process of its own like an iteration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.data import Dataset
    from mlflow_automl_remote.explain import Finding

EXPLANATION_BUDGET_S: Final = 20.0
"""It stops by itself here and keeps the rows it has; outside the iterations' budget."""
EXPLANATION_TIMEOUT_S: Final = 120.0
"""An explanation that has not stopped by then is killed, and there is none."""
N_BACKGROUND: Final = 30
N_ROWS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationRequest:
    """What to explain: the model folder of an iteration, on which data, and where to write.

    Attributes:
        n_jobs: Threads that ask the model at a time.
    """

    model_path: Path
    data_dir: Path
    output_dir: Path
    seed: int
    n_jobs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationResult:
    """What an explanation came to, beside its files.

    Attributes:
        explainer: See `Explanation`, as for the next four.
        output_space: What the values add up to.
        n_rows: Rows explained.
        n_requested: Rows that were asked for.
        standard_error: Of one value; 0 where exact.
        findings: The columns that matter most.
        stability: How alike parts of the rows rank the columns, or None.
    """

    explainer: str
    output_space: str
    n_rows: int
    n_requested: int
    standard_error: float
    findings: tuple[Finding, ...]
    stability: float | None


def explain_model(request: ExplanationRequest) -> ExplanationResult:
    """Write an explanation into `request.output_dir`, and tell what it came to.

    Runs in a child process, which alone reads the model and imports what explains it.

    Raises:
        DataError: The model cannot be explained for these rows.
    """
    import mlflow.sklearn

    from mlflow_automl_remote import explain
    from mlflow_automl_remote.automl.data import open_dataset, take_rows

    dataset = open_dataset(request.data_dir)
    pipeline = mlflow.sklearn.load_model(str(request.model_path))
    classified = dataset.task == "classification"
    class_names = [str(label) for label in pipeline.classes_] if classified else None
    chosen = explain.select_rows(
        dataset.X,
        dataset.y,
        seed=request.seed,
        task=dataset.task,
        n_background=N_BACKGROUND,
        n_rows=N_ROWS,
    )
    # The cores go to threads that each ask the models, which would each take all of them.
    alone = [name for name in pipeline.get_params() if name.split("__")[-1] == "n_jobs"]
    pipeline.set_params(**dict.fromkeys(alone, 1))
    explanation = explain.explain(
        pipeline,
        take_rows(dataset.X, chosen.background),
        take_rows(dataset.X, chosen.rows),
        feature_names=_names(dataset),
        class_names=class_names,
        task=dataset.task,
        seed=request.seed,
        budget_s=EXPLANATION_BUDGET_S,
        n_jobs=request.n_jobs,
    )
    explain.write(explanation, request.output_dir)
    return ExplanationResult(
        explainer=explanation.explainer,
        output_space=explanation.output_space,
        n_rows=len(explanation.rows),
        n_requested=explanation.n_requested,
        standard_error=explanation.standard_error,
        findings=explain.findings(explanation),
        stability=explain.stability(explanation),
    )


def _names(dataset: Dataset) -> list[str]:
    """Name the columns of X: as they came, or by their numbers."""
    known = dataset.feature_names or tuple(column.name for column in dataset.x_columns)
    return list(known) or [f"x{column}" for column in range(dataset.n_features)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRequest:
    """Which explanations to lay side by side: folders of `explain.write`, and their labels."""

    folders: tuple[Path, ...]
    labels: tuple[str, ...]
    output_dir: Path


def compare_explanations(request: ComparisonRequest) -> None:
    """Write what tells explained models apart into `request.output_dir`."""
    from mlflow_automl_remote.explain import comparison

    comparison.write(request.folders, request.labels, request.output_dir)
