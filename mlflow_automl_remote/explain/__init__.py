"""SHAP explanations of a fitted pipeline, as numbers, files and one page.

Knows neither MLflow nor SSH nor the journal. Importing it costs little: shap, matplotlib and
scikit-learn are imported when they are first needed.
"""

from mlflow_automl_remote.explain.explainer import explain
from mlflow_automl_remote.explain.explanation import Explanation
from mlflow_automl_remote.explain.findings import Finding, findings, stability
from mlflow_automl_remote.explain.rows import Selection, select_rows
from mlflow_automl_remote.explain.summary import SixParts, six_parts, write

__all__ = [
    "Explanation",
    "Finding",
    "Selection",
    "SixParts",
    "explain",
    "findings",
    "select_rows",
    "six_parts",
    "stability",
    "write",
]
