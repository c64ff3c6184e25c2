"""Draws how the most important columns work, value by value, and single rows step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlflow_automl_remote.explain.explanation import Explanation, Floats
from mlflow_automl_remote.explain.findings import rank_correlation
from mlflow_automl_remote.explain.plots import (
    DPI,
    GRID,
    MUTED,
    STYLE,
    WIDTH_INCHES,
    colour_of,
    cut,
    plain,
    save,
    shown_values,
    space_words,
)
from mlflow_automl_remote.explain.summary import descending

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_PANELS: Final = 6
N_LEVELS: Final = 12
N_LABEL: Final = 12
N_STEPS: Final = 9
N_ROWS: Final = 3
UP: Final = "#e0245e"
DOWN: Final = "#1e6fd9"


def draw_dependence(explanation: Explanation, path: Path) -> None:
    """Draw the six most important columns, a dot per row, coloured by the column most at play."""
    values, subject = shown_values(explanation)
    shown = descending(np.abs(values).mean(axis=0))[:N_PANELS]
    n_across = min(3, len(shown))
    n_down = -(-len(shown) // n_across)
    with rc_context(STYLE):
        height = 0.9 + 2.7 * n_down  # laid out by hand: doing it twice would double the time
        figure = Figure(figsize=(WIDTH_INCHES * 1.2, height), dpi=DPI)
        figure.subplots_adjust(
            left=0.05,
            right=0.99,
            top=1 - 0.85 / height,
            bottom=0.65 / height,
            wspace=0.22,
            hspace=0.5,
        )
        FigureCanvasAgg(figure)
        panels = figure.subplots(n_down, n_across, squeeze=False).ravel()
        _title(
            figure,
            f"How the main features work: SHAP value for {subject} "
            f"({space_words(explanation)}) by value",
        )
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        for axes, feature in zip(panels, shown, strict=False):
            _draw_panel(axes, explanation, values, int(feature))
        save(figure, path)


def _title(figure: Figure, text: str) -> None:
    top = 1 - 0.12 / figure.get_figheight()
    figure.suptitle(text, x=0.01, y=top, va="top", ha="left", fontsize=12, fontweight="bold")


def _draw_panel(axes: Axes, explanation: Explanation, values: Floats, feature: int) -> None:
    x = explanation.data[:, feature]
    known = np.isfinite(x)
    partner = _partner(explanation, values, feature)
    colours = colour_of(explanation.data[:, partner])[known]
    axes.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
    axes.scatter(x[known], values[known, feature], c=colours, s=13, linewidths=0, zorder=2)
    axes.set_title(cut(explanation.feature_names[feature]), loc="left", fontsize=10)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    axes.locator_params(nbins=5)
    levels = explanation.levels.get(feature)
    if levels and len(levels) <= N_LEVELS:
        axes.set_xticks(range(len(levels)), [_level(text) for text in levels], rotation=20)
    elif levels:
        axes.set_xticks([])
    elif levels == ():
        ticks = [tick for tick in axes.get_xticks() if x[known].min() <= tick <= x[known].max()]
        ticks = ticks[:: -(-len(ticks) // 3)] if ticks else ticks
        axes.set_xticks(ticks, [explanation.shown(feature, tick)[:10] for tick in ticks])
    if partner != feature:
        name = cut(explanation.feature_names[partner])
        axes.set_xlabel(f"red: high {name}", fontsize=8, color=MUTED)


def _level(text: str) -> str:
    short = plain(text)
    return short if len(short) <= N_LABEL else short[: N_LABEL - 1] + "\u2026"


def _partner(explanation: Explanation, values: Floats, feature: int) -> int:
    """Find the column that best tells why equal values have unequal SHAP values."""
    column = explanation.data[:, feature]
    order = np.argsort(column, kind="stable")[: int(np.isfinite(column).sum())]
    slices = np.array_split(order, max(1, len(order) // 15))
    best, most = feature, 0.0
    for other in descending(np.abs(values).mean(axis=0))[:15]:
        data = explanation.data[:, other]
        if other == feature or not np.isfinite(data).all():
            continue
        found = sum(abs(rank_correlation(data[part], values[part, feature])) for part in slices)
        if found / len(slices) > most:
            best, most = int(other), found / len(slices)
    return best


def draw_waterfall(explanation: Explanation, path: Path) -> None:
    """Draw three rows step by step: those with the lowest, the middle and the highest output.

    For two classes of the second, for more of the class that the model gave each row.
    """
    values, subject = shown_values(explanation)
    outputs = explanation.per_output().sum(axis=1) + explanation.base_values
    chosen = _outputs_shown(explanation, outputs)
    output = outputs[np.arange(len(outputs)), chosen]
    order = np.argsort(output, kind="stable")
    rows = np.unique(order[np.linspace(0, len(order) - 1, N_ROWS).round().astype(int)])
    rows = rows[np.argsort(output[rows], kind="stable")]
    n_steps = min(N_STEPS, values.shape[1])
    with rc_context(STYLE):
        height = 1.0 + len(rows) * (0.9 + 0.3 * n_steps)
        figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI)
        figure.subplots_adjust(
            left=0.32, right=0.97, top=1 - 0.8 / height, bottom=0.4 / height, hspace=0.32
        )
        FigureCanvasAgg(figure)
        panels = figure.subplots(len(rows), 1, squeeze=False).ravel()
        _title(figure, f"Rows step by step: {space_words(explanation)} of {subject}")
        for axes, row in zip(panels, rows, strict=True):
            base = float(explanation.base_values[chosen[row]])
            _draw_steps(axes, explanation, int(row), values[row], base)
            if explanation.class_names is not None:
                name = cut(explanation.class_names[int(chosen[row])])
                axes.set_title(f"{axes.get_title(loc='left')}, class {name}", loc="left")
        save(figure, path)


def _outputs_shown(explanation: Explanation, outputs: Floats) -> NDArray[np.intp]:
    names = explanation.class_names
    if names is None:
        return np.zeros(len(outputs), dtype=np.intp)
    if len(names) == 2:
        return np.ones(len(outputs), dtype=np.intp)
    largest: NDArray[np.intp] = outputs.argmax(axis=1)
    return largest


def _draw_steps(
    axes: Axes, explanation: Explanation, row: int, values: Floats, base: float
) -> None:
    order = descending(np.abs(values))
    kept = order[: N_STEPS if len(order) <= N_STEPS else N_STEPS - 1]
    labels = [
        f"{cut(explanation.feature_names[int(at)])} = "
        f"{_level(explanation.shown(int(at), explanation.data[row, at]))}"
        for at in kept
    ]
    sizes = values[kept]
    if len(order) > len(kept):
        labels.append(f"{len(order) - len(kept)} other features")
        sizes = np.append(sizes, values[order[len(kept) :]].sum())
    ends = base + np.cumsum(sizes[::-1])[::-1]  # the smallest step comes first, at the bottom
    starts = ends - sizes
    places = np.arange(len(sizes))
    colours = [UP if size > 0 else DOWN for size in sizes]
    axes.barh(places, sizes, left=starts, color=colours, height=0.72)
    axes.axvline(base, color=MUTED, linewidth=0.8, linestyle=":")
    axes.axvline(ends[0], color=MUTED, linewidth=0.8, linestyle=":")
    for place, size, end, start in zip(places, sizes, ends, starts, strict=True):
        axes.annotate(
            f" {size:+.3g} ",
            (max(start, end), place),
            va="center",
            ha="left",
            fontsize=8,
            color=MUTED,
        )
    axes.set_yticks(places, labels)
    axes.set_ylim(len(sizes) - 0.4, -0.6)
    axes.locator_params(axis="x", nbins=6)
    axes.use_sticky_edges = False
    axes.margins(x=0.14)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9)
    title = f"Row {explanation.rows[row]}: base {base:.4g}, output {ends[0]:.4g}"
    axes.set_title(title, loc="left", fontsize=10)
