"""Writes charts into a folder: a picture for a glance, a page to look closer, the numbers."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from mlflow_automl_remote.charts.classification import ClassificationCharts, of_classifier
from mlflow_automl_remote.charts.content import content_of
from mlflow_automl_remote.charts.picture import draw
from mlflow_automl_remote.charts.regression import RegressionCharts

PICTURE: Final = "charts.png"
PAGE: Final = "charts.html"
NUMBERS: Final = "charts.json"
_UNSAFE: Final = "<>&\u2028\u2029"


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
    _template()
    codes = np.arange(20) % 3
    probabilities = np.full((20, 3), 0.2)
    probabilities[np.arange(20), codes] = 0.6
    draw(of_classifier(codes, probabilities, classes=("0", "1", "2")), "0123456789")


def page(numbers: str, title: str) -> str:
    """Give the page as one HTML document around the numbers, which are JSON."""
    before, after = _template()
    return before + _safe(f'{{"title":{json.dumps(title)},"charts":{numbers}}}') + after


def _safe(text: str) -> str:
    """Escape JSON, so that no string in it can end the script element that it stands in."""
    for character in _UNSAFE:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _template() -> tuple[str, str]:
    """Give what comes before the numbers, and what comes after them."""
    static = files(__package__) / "static"
    document = (static / "page.html").read_text(encoding="utf-8")
    for mark, name in (("/*style*/", "page.css"), ("/*script*/", "page.js")):
        document = document.replace(mark, (static / name).read_text(encoding="utf-8"), 1)
    before, after = document.split("/*data*/")
    return before, after
