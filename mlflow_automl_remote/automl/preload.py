"""Imports what every iteration needs, once, into the template that all iterations are forked from.

Import it nowhere else. It only imports: a fit would start threads, which do not survive a fork.
"""

from __future__ import annotations

import catboost  # noqa: F401
import lightgbm  # noqa: F401
import sklearn.calibration
import sklearn.pipeline  # noqa: F401
import threadpoolctl  # type: ignore[import-untyped]  # noqa: F401
import xgboost  # noqa: F401

from mlflow_automl_remote.automl import data_script, iteration, keeper  # noqa: F401
from mlflow_automl_remote.automl.ensemble import run  # noqa: F401
