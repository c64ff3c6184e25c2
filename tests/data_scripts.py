"""The data scripts that tests put into projects, and settings that make a sweep of them quick."""

from __future__ import annotations

WINE = """
from sklearn.datasets import load_wine

def get_data():
    X, y = load_wine(return_X_y=True)
    return {"X": X, "y": y}
"""
DIGITS = WINE.replace("wine", "digits")
QUICK = {
    "task": "classification",
    "primary_metric": "AUC_weighted",
    "n_cross_validations": 3,
    "model_explainability": False,
    "charts": "none",
    "allowed_models": ["LogisticRegression", "KNN", "DecisionTree"],
}
