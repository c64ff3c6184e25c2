"""Draws an explanation as PNG pictures, without a display and without pyplot's global state."""

from __future__ import annotations

import logging
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Explanation, Floats
from mlflow_automl_remote.explain.summary import descending, importances

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_SHOWN: Final = 20
N_NAME: Final = 28
WIDTH_INCHES: Final = 9.0
ROW_INCHES: Final = 0.32
DPI: Final = 130
MAX_POINTS: Final = 1000
N_LEGEND: Final = 20

FONT: Final = "DejaVu Sans"  # comes with matplotlib
INK: Final = "#1f2933"
MUTED: Final = "#6b7785"
GRID: Final = "#e4e8ec"
LOW_TO_HIGH: Final = LinearSegmentedColormap.from_list(
    "low_to_high", ["#1e6fd9", "#8f63c9", "#e0245e"]
)
MISSING: Final = "#b4bcc4"
STYLE: Final[dict[Any, object]] = {  # matplotlib spells out every key as a Literal
    "font.size": 10,
    "font.family": FONT,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.parse_math": False,
}

_log = logging.getLogger(__name__)


def draw_bar(explanation: Explanation, path: Path) -> None:
    """Draw the mean |SHAP value| of the 20 most important features, a bar part per class."""
    per_class = importances(explanation)
    shown = descending(per_class.mean(axis=0))[:N_SHOWN]
    with rc_context(STYLE):
        figure, axes = _canvas(len(shown), f"Feature importance: {plain(explanation.pipeline)}")
        left = np.zeros(len(shown))
        parts = _stacked_parts(per_class)
        for number, colour in enumerate(_class_colours(len(parts))):
            part = parts[number, shown]
            axes.barh(np.arange(len(shown)), part, left=left, color=colour, height=0.72)
            left += part
        _name_rows(axes, explanation, shown)
        axes.set_xlabel(f"mean |SHAP value| ({space_words(explanation)})")
        axes.set_xlim(0, max(left.max() * 1.03, 1e-12))
        if explanation.class_names is not None and len(parts) > 1:
            _legend(axes, explanation.class_names)
        save(figure, path)


def draw_beeswarm(explanation: Explanation, path: Path) -> None:
    """Draw one dot per row for the 20 most important features, coloured by the column's value.

    For two classes the second is shown; for more, the class that the model gave each row.
    """
    values, subject = shown_values(explanation)
    shown = descending(np.abs(values).mean(axis=0))[:N_SHOWN]
    rng = np.random.default_rng(explanation.seed)
    rows = rng.permutation(len(values))[:MAX_POINTS]
    with rc_context(STYLE):
        figure, axes = _canvas(len(shown), f"SHAP values: {plain(explanation.pipeline)}")
        axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
        for place, feature in enumerate(shown):
            x = values[rows, feature]
            colour = colour_of(explanation.data[:, feature])[rows]
            axes.scatter(x, place + _spread(x, rng), c=colour, s=11, linewidths=0, zorder=2)
        _name_rows(axes, explanation, shown)
        axes.set_xlabel(f"SHAP value for {subject} ({space_words(explanation)})")
        bar = figure.colorbar(
            ScalarMappable(cmap=LOW_TO_HIGH), ax=axes, ticks=[0, 1], aspect=40, pad=0.02
        )
        bar.set_ticklabels(["low", "high"])
        bar.set_label("value of the feature", labelpad=-10)
        bar.outline.set_visible(False)
        save(figure, path)


def _stacked_parts(per_class: Floats) -> Floats:
    """Give the parts of each bar, (parts, d), which add up to the overall importance.

    What speaks for one of two classes speaks against the other alike, so two classes are one part.
    """
    parts: Floats = per_class / len(per_class)
    return parts.sum(axis=0)[np.newaxis] if len(parts) == 2 else parts


def shown_values(explanation: Explanation) -> tuple[Floats, str]:
    """Choose one table (n, d) of values to draw, and name what they push."""
    values = explanation.per_output()
    if explanation.class_names is None:
        return values[:, :, 0], "the prediction"
    if len(explanation.class_names) == 2:
        return values[:, :, 1], f"class {cut(explanation.class_names[1])}"
    outputs = values.sum(axis=1) + explanation.base_values
    chosen = outputs.argmax(axis=1)
    return values[np.arange(len(values)), :, chosen], "the predicted class of each row"


def _canvas(n_rows: int, title: str) -> tuple[Figure, Axes]:
    height = 1.7 + ROW_INCHES * max(n_rows, 3)
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=12)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    return figure, axes


def _name_rows(axes: Axes, explanation: Explanation, shown: NDArray[np.intp]) -> None:
    names = [cut(explanation.feature_names[int(i)]) for i in shown]
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _legend(axes: Axes, class_names: tuple[str, ...]) -> None:
    labels = [cut(name) for name in class_names[:N_LEGEND]]
    axes.legend(
        axes.containers[:N_LEGEND],
        labels,
        loc="lower right",
        frameon=False,
        ncols=math.ceil(len(labels) / 10),
        fontsize=9,
    )


def _class_colours(n_classes: int) -> list[tuple[float, ...]]:
    """Give colours that can be told apart: a palette up to ten classes, a scale beyond."""
    if n_classes <= 10:
        return [colormaps["tab10"](number) for number in range(n_classes)]
    return [colormaps["turbo"](place) for place in np.linspace(0.05, 0.95, n_classes)]


def colour_of(column: Floats) -> Floats:
    """Colour values by their rank, so that one far value does not wash out the others."""
    known = np.isfinite(column)
    colours = np.tile(np.array(to_rgba(MISSING)), (len(column), 1))
    distinct, place = np.unique(column[known], return_inverse=True)
    counts = np.cumsum(np.bincount(place)) if len(distinct) else np.zeros(0)
    share = (counts[place] - counts[0]) / max(counts[-1] - counts[0], 1) if len(distinct) else []
    colours[known] = LOW_TO_HIGH(np.asarray(share, dtype=float))
    return colours


def _spread(x: Floats, rng: np.random.Generator) -> Floats:
    """Move dots up and down by how many share their place, within half a line."""
    low, high = x.min(), x.max()
    bins = np.round(100 * (x - low) / max(high - low, 1e-300)).astype(int)
    crowd = np.bincount(bins)[bins]
    width = 0.38 * np.sqrt(crowd / max(crowd.max(), 8))
    spread: Floats = rng.uniform(-1, 1, len(x)) * width
    return spread


def space_words(explanation: Explanation) -> str:
    """Say in what the values are measured."""
    return {"probability": "probability", "margin": "margin", "value": "units of the target"}[
        explanation.output_space
    ]


def cut(name: str) -> str:
    """Give a name that fits its place."""
    short = plain(name)
    return short if len(short) <= N_NAME else short[: N_NAME - 1] + "\u2026"


def plain(text: str) -> str:
    """Keep what the font can draw on one line; emoji and control characters become a square."""
    drawable = _drawable()
    return "".join(c if c.isprintable() and ord(c) in drawable else "\u25a1" for c in text)


@cache
def _drawable() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def save(figure: Figure, path: Path) -> None:
    """Write a finished figure."""
    figure.savefig(path, format="png", facecolor="white")
    _log.debug("drew %s", path)
