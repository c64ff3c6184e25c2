"""The names of the tags that versions and registered models carry."""

from __future__ import annotations

from typing import Final

from mlflow_automl_remote.publishing.facts import PREFIX

KEY: Final = PREFIX + "key"
SWEEP_ID: Final = PREFIX + "sweep_id"
SWEEP_RUN: Final = PREFIX + "sweep_run_id"
ITERATION: Final = PREFIX + "iteration"
PIPELINE: Final = PREFIX + "pipeline"
PRIMARY_METRIC: Final = PREFIX + "primary_metric"
SCORE: Final = PREFIX + "score"
METRICS: Final = PREFIX + "metrics"
DATA_DIGEST: Final = PREFIX + "data_digest"
HELD_OUT: Final = PREFIX + "held_out"
DATA_LOADED: Final = PREFIX + "data_loaded"
ENVIRONMENT: Final = PREFIX + "environment"
DECISION: Final = PREFIX + "decision"
DECIDED_BY: Final = PREFIX + "decided_by"
DECIDED_AT: Final = PREFIX + "decided_at"
DECIDED_AGAINST: Final = PREFIX + "decided_against"
FORCED: Final = PREFIX + "forced"
RESULTS: Final = PREFIX + "gates"
REPORT: Final = PREFIX + "report"
COPY_OF: Final = PREFIX + "copy_of"
PROMOTION: Final = PREFIX + "promotion."
ROLLED_BACK: Final = PREFIX + "rolled_back"
CLAIM: Final = PREFIX + "claim."
HISTORY: Final = PREFIX + "history."
