"""What the client knows of a sweep beside its journal, and the names of the tags of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "automl_remote."
KEY: Final = PREFIX + "key"
SWEEP_ID: Final = PREFIX + "sweep_id"
TARGET: Final = PREFIX + "target"
TARGET_CONFIG: Final = PREFIX + "target_config"
WORKSPACE: Final = PREFIX + "workspace"
STATUS: Final = PREFIX + "status"
REASON: Final = PREFIX + "reason"
ITERATION: Final = PREFIX + "iteration"
STATE: Final = PREFIX + "state"
ATTEMPT: Final = PREFIX + "attempt"
PROPOSED_BY: Final = PREFIX + "proposed_by"
SOURCE_RUN_ID: Final = PREFIX + "source_run_id"
PIPELINE: Final = PREFIX + "pipeline"
N_FITS: Final = PREFIX + "n_fits"
META_FEATURES: Final = PREFIX + "meta_features"
WARM_START: Final = PREFIX + "warm_start"
BEST_ITERATION: Final = PREFIX + "best_iteration"
BEST_RUN_ID: Final = PREFIX + "best_run_id"
BEST_MODEL_ID: Final = PREFIX + "best_model_id"
EXPLANATION: Final = PREFIX + "explanation"
EXPLAINED_ITERATION: Final = PREFIX + "explained_iteration"
ENDED_BY: Final = PREFIX + "ended_by"
N_FINISHED: Final = PREFIX + "n_finished"
N_SAMPLES: Final = PREFIX + "n_samples"
PUBLISHED: Final = PREFIX + "published"
CHARTS: Final = PREFIX + "charts"
NODE: Final = PREFIX + "node"
SCALER: Final = "scaler"
MODEL: Final = "model"
PARENT_RUN_ID: Final = "mlflow.parentRunId"
USER: Final = "mlflow.user"
NOTE: Final = "mlflow.note.content"
EXPERIMENT_KIND: Final = "mlflow.experimentKind"
SOURCE_PREFIX: Final = "mlflow.source."


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentFacts:
    """What the client knows of a sweep beside its journal.

    Attributes:
        sweep_id: The sweep; part of the key of each of its runs and models.
        target: The compute target in words, such as `ada@vm.example.org`.
        target_config: The target as JSON, so that a later client finds it again; no secrets.
        workspace: The sweep's folder on the target.
    """

    sweep_id: str
    target: str
    target_config: str
    workspace: str

    def key(self, iteration: int) -> str:
        """Give the idempotency key of an iteration's run and model."""
        return f"{self.sweep_id}/{iteration}"
