"""Draws what iterations predict; a chart that cannot be drawn costs a line in the log."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from mlflow_automl_remote import charts

if TYPE_CHECKING:
    from mlflow_automl_remote.automl.dataset import Dataset, FloatArray
    from mlflow_automl_remote.automl.predictions import HeldOut
    from mlflow_automl_remote.config import AutoMLConfig

CHARTS_TIMEOUT_S: Final = 120.0
"""Charts that are drawn at the end, of the best iteration alone, are killed then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartsRequest:
    """What to draw: the predictions of an iteration, on which data, and where to write."""

    config: AutoMLConfig
    iteration_dir: Path
    data_dir: Path
    output_dir: Path
    title: str


def save_charts(dataset: Dataset, found: HeldOut, folder: Path, title: str) -> None:
    """Draw in the process of an iteration, inside its time and outside its score."""
    try:
        draw(dataset, found, folder, title)
    except Exception:  # noqa: BLE001 - no picture is worth an iteration; its log says why
        print("No charts were drawn:")  # noqa: T201 - the iteration's own log
        traceback.print_exc()


def draw_charts(request: ChartsRequest) -> None:
    """Draw what an ended iteration predicted, in a process of its own.

    Raises:
        Exception: Whatever keeps it from being drawn.
    """
    from mlflow_automl_remote.automl import predictions
    from mlflow_automl_remote.automl.data import open_dataset
    from mlflow_automl_remote.automl.sample import splits_of

    dataset = open_dataset(request.data_dir)
    splits = splits_of(request.data_dir, dataset, request.config)
    predicted = predictions.load(request.iteration_dir, splits)
    found = predictions.held_out(dataset, splits, predicted)
    draw(dataset, found, request.output_dir, request.title)


def draw(dataset: Dataset, found: HeldOut, folder: Path, title: str) -> None:
    """Draw predictions for rows that the model was not fitted on."""
    if dataset.task == "classification":
        classes = dataset.classes
        charts.write(
            charts.of_classifier(
                np.searchsorted(classes, found.y),
                found.predicted,
                classes=tuple(str(label) for label in classes),
                weight=found.weight,
            ),
            folder,
            title=title,
        )
        return
    true = cast("FloatArray", found.y)
    numbers = charts.of_regressor(true, found.predicted, weight=found.weight)
    charts.write(numbers, folder, title=title)
