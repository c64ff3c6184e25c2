"""A sweep in this process, as an estimator of scikit-learn: no target, no store, no journal."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cloudpickle

from mlflow_automl_remote.automl import data, data_script, sweep
from mlflow_automl_remote.automl.local_executor import LocalExecutor
from mlflow_automl_remote.config import AutoMLConfig
from mlflow_automl_remote.errors import ConfigurationError, SweepFailed

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.dataset import Dataset
    from mlflow_automl_remote.automl.outcome import Outcome, SweepCallback


class Sweep:
    """Searches for the best pipeline on this machine.

    It has the methods of a classifier or a regressor of scikit-learn, and its attributes end in
    `_` once it is fitted.

    Args:
        task: `classification` or `regression`.
        callback: Told of the plan and of each iteration, in this process.
        **settings: All other settings, as on the page of settings.

    Attributes:
        best_pipeline_: The best pipeline, fitted on all rows.
        best_score_: Its primary metric.
        best_iteration_: Its number.
        outcomes_: How each iteration ended, by number.

    Raises:
        ConfigurationError: A setting is unknown or has a wrong value.

    Examples:
        >>> from sklearn.datasets import load_wine
        >>> X, y = load_wine(return_X_y=True)
        >>> sweep = Sweep(iterations=2, n_cross_validations=2, allowed_models=["KNN"])
        >>> sweep.fit(X, y).predict(X[:2]).tolist()
        [0, 0]
        >>> sweep.best_score_ > 0.9
        True
    """

    best_pipeline_: Any
    best_score_: float
    best_iteration_: int
    outcomes_: tuple[Outcome, ...]

    def __init__(
        self,
        task: str = "classification",
        *,
        callback: SweepCallback | None = None,
        **settings: object,
    ) -> None:
        self.config = _parse({"task": task, **settings})
        self._callback = callback

    def __repr__(self) -> str:
        changed = self.config.model_dump(exclude_defaults=True)
        return f"Sweep({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Give the settings that are not the defaults; `clone` of scikit-learn asks for them."""
        del deep
        return {"callback": self._callback, **self.config.model_dump(exclude_defaults=True)}

    def set_params(self, **settings: Any) -> Self:
        """Change settings.

        Raises:
            ConfigurationError: A setting is unknown or has a wrong value.
        """
        self._callback = settings.pop("callback", self._callback)
        changed = {**self.config.model_dump(exclude_defaults=True), **settings}
        self.config = _parse(changed)
        return self

    def fit(self, X: Any, y: Any, **more: object) -> Self:
        """Search.

        Args:
            X: Features, of shape (n_samples, n_features): an array, a sparse matrix or a table.
            y: What to predict, of shape (n_samples,).
            **more: Other keys of `get_data()`: `sample_weight`, `X_valid`, `y_valid`,
                `cv_splits_indices`.

        Raises:
            DataError: The data cannot be trained on.
            SweepFailed: No iteration has a model; the message has the usual reason.
        """
        checked = data_script.check_data({"X": X, "y": y, **more}, self.config)
        with tempfile.TemporaryDirectory(prefix="automl-remote-sweep-") as folder:
            data.save(checked.dataset, Path(folder, "data"))
            with LocalExecutor() as executor:
                result = sweep.Sweep(
                    self.config,
                    Path(folder, "data"),
                    Path(folder, "work"),
                    executor=executor,
                    callback=self._callback,
                    save_model=_save,
                    load_model=_load,
                ).run()
            self.outcomes_ = tuple(sorted(result.outcomes, key=lambda one: one.proposal.number))
            best = result.best
            if best is None or result.best_score is None:
                raise SweepFailed(_why(self.outcomes_))
            self.best_pipeline_ = _load(best.output_dir / "model")
            self.best_score_ = result.best_score
            self.best_iteration_ = best.proposal.number
        return self

    def predict(self, X: Any) -> Any:
        """Predict with the best pipeline; shape (n_samples,)."""
        return self.best_pipeline_.predict(X)

    def predict_proba(self, X: Any) -> Any:
        """Give probabilities by the best pipeline; shape (n_samples, n_classes)."""
        return self.best_pipeline_.predict_proba(X)

    def score(self, X: Any, y: Any) -> float:
        """Give accuracy, or R squared for regression, of the best pipeline on other rows."""
        return float(self.best_pipeline_.score(X, y))

    @property
    def classes_(self) -> Any:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.best_pipeline_.classes_

    @property
    def results_(self) -> list[Mapping[str, object]]:
        """One row per iteration, for `pandas.DataFrame`: pipeline, state, reason, metrics."""
        return [
            {
                "iteration": one.proposal.number,
                "pipeline": one.proposal.label,
                "state": one.state.value,
                "reason": one.reason,
                "fit_s": one.fit_s,
                "predict_ms_per_row": one.predict_ms_per_row,
                **one.metrics,
            }
            for one in self.outcomes_
        ]


def _parse(settings: Mapping[str, object]) -> AutoMLConfig:
    config = AutoMLConfig.parse(settings)
    if config.warm_start_from is not None:
        raise ConfigurationError(
            "'warm_start_from' needs a tracking store, which the plain engine does not know. "
            "Use mlflow_automl_remote.submit or remove it."
        )
    return config


def _why(outcomes: tuple[Outcome, ...]) -> str:
    reasons = [one.reason for one in outcomes]
    if not reasons:
        return "No iteration was run."
    usual = max(set(reasons), key=reasons.count)
    return f"None of the {len(reasons)} iterations has a model. The usual reason: {usual}"


def _save(pipeline: Any, _: Dataset, folder: Path) -> None:
    folder.mkdir()
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(pipeline))


def _load(folder: Path) -> Any:
    return cloudpickle.loads((folder / "model.pkl").read_bytes())
