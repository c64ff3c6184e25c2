"""Turns what the engine says of data and features into the words of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mlflow_automl_remote.journal.events import (
    MAX_CLASSES,
    MAX_COLUMNS,
    ClassCount,
    Column,
    DataLoaded,
    EngineeredFeature,
    FeaturesEngineered,
    Guardrail,
)

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.data_script import DataSummary
    from mlflow_automl_remote.automl.featurization import FeatureSummary


_MAX_LABEL: Final = 200  # characters; a label may be a whole text


def data_loaded(summary: DataSummary, *, duration_s: float) -> DataLoaded:
    """Tell of data that was loaded in so many seconds."""
    return DataLoaded(
        n_rows=summary.n_rows,
        n_columns=summary.n_features,
        n_classes=summary.n_classes,
        digest=summary.digest,
        feature_names=summary.feature_names,
        duration_s=duration_s,
        guardrails=tuple(
            Guardrail(
                id=finding.id,
                column=finding.column,
                severity=finding.severity,
                text=finding.text,
            )
            for finding in summary.findings
        ),
        columns=tuple(
            Column(
                name=column.name,
                kind=column.kind,
                n_missing=column.n_missing,
                n_unique=column.n_unique,
                dropped_reason=column.dropped_reason or "",
            )
            for column in summary.columns[:MAX_COLUMNS]
        ),
        class_counts=tuple(
            ClassCount(label=label[:_MAX_LABEL], n_rows=n_rows)
            for label, n_rows in summary.class_counts[:MAX_CLASSES]
        ),
        meta_features=summary.meta_features,
    )


def features_engineered(mode: str, features: Sequence[FeatureSummary]) -> FeaturesEngineered:
    """Tell what a mode of preprocessing makes of the columns."""
    return FeaturesEngineered(
        mode=mode,
        features=tuple(
            EngineeredFeature(
                raw_feature=feature.RawFeatureName,
                type_detected=feature.TypeDetected,
                dropped=feature.Dropped,
                n_engineered=feature.EngineeredFeatureCount,
                transformations=feature.Transformations,
            )
            for feature in features[:MAX_COLUMNS]
        ),
    )
