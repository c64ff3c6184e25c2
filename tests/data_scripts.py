"""The data script that tests put into projects, and settings that make a sweep over it quick."""

from __future__ import annotations

WINE = """
from sklearn.datasets import load_wine

def get_data():
    X, y = load_wine(return_X_y=True)
    return {"X": X, "y": y}
"""
QUICK = {
    "task": "classification",
    "primary_metric": "AUC_weighted",
    "n_cross_validations": 3,
    "model_explainability": False,
    "charts": "none",
    "allowed_models": ["LogisticRegression", "KNN", "DecisionTree"],
}
