"""What is found in data that can be trained on, and what is not taken for a finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

from mlflow_automl_remote.automl import data, guardrails
from mlflow_automl_remote.automl.guardrails import Finding
from mlflow_automl_remote.config import Task

N = 300
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(N, 3))
Y = RNG.integers(0, 2, N)


def _inspect(X: object, y: object = Y, task: Task = "classification", **more: object) -> list[str]:
    return [_short(each) for each in _findings({"X": X, "y": y, **more}, task)]


def _findings(raw: object, task: Task = "classification") -> tuple[Finding, ...]:
    return guardrails.inspect(data.check_all(raw, task))


def _short(finding: Finding) -> str:
    return f"{finding.severity} {finding.id} {finding.column}".strip()


def _frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"n0": NOISE[:, 0], "n1": NOISE[:, 1], **columns})


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (_frame(), []),
        (_frame(copy=Y * 3.0 + 1), ["warning leak copy"]),
        (_frame(word=np.where(Y == 1, "gone", "here")), ["warning leak word"]),
        (_frame(number=np.arange(N) + 7), ["warning row_number number"]),
        (_frame(at=pd.date_range("2020", periods=N, freq="D")), ["warning time_order at"]),
        (_frame(at=pd.date_range("2020", periods=N)[RNG.permutation(N)]), []),
        (_frame(n2=NOISE[:, 1]), ["info duplicate_column n2"]),
        (_frame(same=1.0), ["info constant_column same"]),
        (_frame(same="a"), ["info column_dropped same"]),
        (_frame(id=[f"u{n}" for n in range(N)]), ["info column_dropped id"]),
        (
            _frame(gap=np.where(NOISE[:, 2] > 1, np.nan, 1) * NOISE[:, 2]),
            ["info missing_values gap"],
        ),
        (_frame(shop=[f"s{n % 150}" for n in range(N)]), ["info high_cardinality shop"]),
        (sparse.csr_matrix(NOISE), []),
    ],
)
def test_each_finding_is_found_alone(X: object, expected: list[str]) -> None:
    """Noise gives none; each trap gives its own."""
    assert _inspect(X) == expected


def test_findings_about_labels() -> None:
    """Missing labels, rare classes, and a regression of two numbers."""
    rare = np.where(np.arange(N) < 4, 1, 0)
    assert _inspect(_frame(), rare) == ["info rare_class"]
    assert _inspect(_frame(), [np.nan, *Y[1:]]) == ["warning label_missing"]
    assert _inspect(_frame(), Y, "regression") == ["warning task_does_not_fit"]
    target = NOISE[:, 2]
    found = _inspect(_frame(twice=target * 2 + 1e-4 * NOISE[:, 0]), target, "regression")
    assert found == ["warning leak twice"]


def test_order_is_of_no_account_when_the_user_says_what_is_scored() -> None:
    """Own folds and a validation set may respect time."""
    X = _frame(at=pd.date_range("2020", periods=N, freq="D"))
    splits = [(np.arange(200), np.arange(200, N))]
    assert _inspect(X, cv_splits_indices=splits) == []
    assert _inspect(X, X_valid=X, y_valid=Y) == []


@pytest.mark.parametrize(
    ("load", "task"),
    [
        (load_breast_cancer, "classification"),
        (load_digits, "classification"),
        (load_diabetes, "regression"),
    ],
)
def test_good_data_gives_no_warning(load: object, task: Task) -> None:
    """Strong columns are no leaks."""
    X, y = load(return_X_y=True)
    assert [each for each in _findings({"X": X, "y": y}, task) if each.severity == "warning"] == []


def test_warnings_come_first_and_every_text_is_one_line() -> None:
    """As they are shown."""
    found = _findings({"X": _frame(same="a", copy=Y), "y": Y})
    assert [each.severity for each in found] == ["warning", "info"]
    assert all("\n" not in each.text and each.text.endswith(".") for each in found)
