"""Writes charts into a folder: a picture for a glance, a page to look closer, the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote import pages
from mlflow_automl_remote.charts.classification import ClassificationCharts, of_classifier
from mlflow_automl_remote.charts.content import content_of
from mlflow_automl_remote.charts.picture import draw
from mlflow_automl_remote.charts.regression import RegressionCharts

PICTURE: Final = "charts.png"
PAGE: Final = "charts.html"
NUMBERS: Final = "charts.json"


def write(charts: ClassificationCharts | RegressionCharts, folder: Path, *, title: str) -> None:
    """Write `charts.png`, `charts.html` and `charts.json` into a folder, which is made.

    Args:
        charts: What to show.
        folder: Gets the files; none of them needs another, or a network.
        title: Of picture and page, such as `MaxAbsScaler LightGBM`.
    """
    numbers = json.dumps(content_of(charts), separators=(",", ":"), allow_nan=False)
    contents = {
        NUMBERS: numbers.encode(),
        PAGE: page(numbers, title).encode(),
        PICTURE: draw(charts, title),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def warm_up() -> None:
    """Read what every page and picture needs, once for all processes that are forked later.

    Drawn letters are kept, so a picture is drawn that has all the words that pictures share.
    """
    _frame()
    codes = np.arange(20) % 3
    probabilities = np.full((20, 3), 0.2)
    probabilities[np.arange(20), codes] = 0.6
    draw(of_classifier(codes, probabilities, classes=("0", "1", "2")), "0123456789")


def page(numbers: str, title: str) -> str:
    """Give the page as one HTML document around the numbers, which are JSON."""
    before, after = _frame()
    return before + pages.safe(f'{{"title":{json.dumps(title)},"charts":{numbers}}}') + after


def _frame() -> tuple[str, str]:
    return pages.frame(__package__, "Charts", ("page.js",))
