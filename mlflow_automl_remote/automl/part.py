"""One fold of an iteration, scored in a process of its own, and what the iteration reads of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote.automl.evaluation import FoldScore
from mlflow_automl_remote.automl.keeper import LOG_NAME

PARTS_NAME: Final = "parts"
_SCORE: Final = "score.json"
_PREDICTIONS: Final = "predictions.npy"


@dataclass(frozen=True, slots=True)
class Parts:
    """The folders of the folds of an iteration.

    Args:
        folder: Of the iteration.
        n_folds: How many there are.
    """

    folder: Path
    n_folds: int

    def of(self, number: int) -> Path:
        """Give the folder of one fold."""
        return self.folder / PARTS_NAME / str(number)

    def load(self) -> Iterator[FoldScore]:
        """Read how the folds were scored; what they have printed is printed here."""
        for number in range(self.n_folds):
            folder = self.of(number)
            sys.stdout.write((folder / LOG_NAME).read_text(encoding="utf-8", errors="replace"))
            about = json.loads((folder / _SCORE).read_bytes())
            predictions = np.load(folder / _PREDICTIONS, allow_pickle=False)
            yield FoldScore(**about, predictions=predictions)


def save(folder: Path, fold: FoldScore) -> None:
    """Write how a fold was scored."""
    np.save(folder / _PREDICTIONS, fold.predictions, allow_pickle=False)
    about = {
        "metrics": dict(fold.metrics),
        "rounds": fold.rounds,
        "fit_s": fold.fit_s,
        "predict_s": fold.predict_s,
    }
    (folder / _SCORE).write_text(json.dumps(about), encoding="ascii")
