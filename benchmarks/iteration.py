"""What an iteration costs beside its fits: a process, the metrics of a fold, the charts.

    python benchmarks/iteration.py [--rounds 15]

Each beside what it replaces, in turns: a warm process beside a new interpreter that imports
scikit-learn; all metrics of a fold of ten classes beside scikit-learn's functions; its charts as a
page and a picture beside scikit-learn's displays, saved by matplotlib. Seconds of the clock, the
least and the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from sklearn import metrics as sk
from sklearn.calibration import CalibrationDisplay

from mlflow_automl_remote import charts
from mlflow_automl_remote.automl import metrics
from mlflow_automl_remote.automl.executor import Call
from mlflow_automl_remote.automl.local_executor import LocalExecutor

N_CLASSES = 10
N_ROWS = 1_787  # of digits


def case() -> tuple[np.ndarray, np.ndarray]:
    """Make labels and probabilities that know something of them."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_CLASSES, N_ROWS)
    raw = rng.random((N_ROWS, N_CLASSES)) + 0.7 * np.eye(N_CLASSES)[y]
    return y, raw / raw.sum(axis=1, keepdims=True)


def metrics_of_scikit_learn(y: np.ndarray, p: np.ndarray) -> None:
    """Compute what it has a function for of what a fold is scored by."""
    indicator, predicted = np.eye(N_CLASSES)[y], p.argmax(axis=1)
    sk.accuracy_score(y, predicted)
    sk.balanced_accuracy_score(y, predicted)
    sk.log_loss(y, p)
    sk.matthews_corrcoef(y, predicted)
    for average in ("macro", "micro", "weighted"):
        sk.roc_auc_score(indicator, p, average=average)
        sk.average_precision_score(indicator, p, average=average)
        for of in (sk.f1_score, sk.precision_score, sk.recall_score):
            of(y, predicted, average=average)


def displays_of_scikit_learn(y: np.ndarray, p: np.ndarray, folder: Path) -> None:
    """Draw a confusion matrix, and three curves of each class."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 8))
    sk.ConfusionMatrixDisplay.from_predictions(y, p.argmax(axis=1), ax=axes[0, 0])
    for code in range(N_CLASSES):
        own = y == code
        sk.RocCurveDisplay.from_predictions(own, p[:, code], ax=axes[0, 1])
        sk.PrecisionRecallDisplay.from_predictions(own, p[:, code], ax=axes[1, 0])
        CalibrationDisplay.from_predictions(own, p[:, code], n_bins=10, ax=axes[1, 1])
    figure.savefig(folder / "displays.png")
    plt.close(figure)


def our_charts(y: np.ndarray, p: np.ndarray, folder: Path) -> None:
    """Draw what an iteration has."""
    names = tuple(str(code) for code in range(N_CLASSES))
    made = charts.of_classifier(y, p, classes=names)
    charts.write(made, folder, title="MaxAbsScaler LightGBM")


def seconds(function: Callable[[], object]) -> float:
    """Take the time of one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    mpl.use("agg")
    y, p = case()
    fold = slice(0, N_ROWS // 5)
    start = [sys.executable, "-c", "import sklearn.pipeline, sklearn.linear_model"]
    with LocalExecutor() as executor, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "a process": (
                lambda: executor.run(Call(abs, -1, output_dir=folder)),
                lambda: subprocess.run(start, check=True),
            ),
            "metrics of a fold": (
                lambda: metrics.score_classification(y[fold], p[fold], classes=np.arange(10)),
                lambda: metrics_of_scikit_learn(y[fold], p[fold]),
            ),
            "charts": (
                lambda: our_charts(y, p, folder),
                lambda: displays_of_scikit_learn(y, p, folder),
            ),
        }
        for name, (ours, theirs) in pairs.items():
            ours(), theirs()
            taken = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
            mine, others = zip(*taken, strict=True)
            medians = [1000 * statistics.median(each) for each in (mine, others)]
            print(
                f"{name:18s} {1000 * min(mine):8.1f} {medians[0]:8.1f} ms, beside"
                f" {1000 * min(others):8.1f} {medians[1]:8.1f} ms,"
                f" ratio {medians[0] / medians[1]:.2f}"
            )


if __name__ == "__main__":
    main()
