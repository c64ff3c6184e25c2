"""Draws all charts of a model on one sheet."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from mlflow_automl_remote.charts import canvas
from mlflow_automl_remote.charts.canvas import Panel, Sheet
from mlflow_automl_remote.charts.classification import ClassificationCharts
from mlflow_automl_remote.charts.curves import GRID, Calibration, Curve, Floats, MacroCurve
from mlflow_automl_remote.charts.regression import RegressionCharts

COLUMN: Final = 330
ROW: Final = 290
HEAD: Final = 44
LEGEND: Final = 30
N_NUMBERS: Final = 12
"""Labels up to which a cell of the confusion matrix has its number."""
_DIAGONAL: Final = np.array([0.0, 1.0])

Line: TypeAlias = tuple[Floats, Floats]


def draw(charts: ClassificationCharts | RegressionCharts, title: str) -> bytes:
    """Give a PNG file."""
    if isinstance(charts, ClassificationCharts):
        return _classification(charts, title)
    return _regression(charts, title)


def _panel(column: int, row: int, **ranges: tuple[float, float]) -> Panel:
    left, top = column * COLUMN + 52, HEAD + row * ROW + 44
    return Panel(left=left, top=top, width=COLUMN - 76, height=ROW - 88, **ranges)


def _classification(charts: ClassificationCharts, title: str) -> bytes:
    sheet = Sheet(3 * COLUMN, HEAD + 2 * ROW + LEGEND)
    rows = f"{charts.n_rows:,} rows that the model was not fitted on"
    if charts.n_drawn < charts.n_rows:
        rows += f", {charts.n_drawn:,} of them drawn"
    _title(sheet, title, rows, 3 * COLUMN)
    _confusion(sheet, _panel(0, 0), charts)
    every = _every_curve(charts)
    _curves(
        sheet,
        _panel(1, 0),
        ("ROC", "false positive rate", "true positive rate"),
        [(colour, width, _roc(one)) for colour, width, one in every],
        (_DIAGONAL, _DIAGONAL),
    )
    _curves(
        sheet,
        _panel(2, 0),
        ("Precision and recall", "recall", "precision"),
        [(colour, width, _precision(one)) for colour, width, one in every],
    )
    _calibration(sheet, _panel(0, 1), charts)
    _curves(
        sheet,
        _panel(1, 1),
        ("Cumulative gains", "share of rows", "share of the class found"),
        [(colour, width, _gains(one)) for colour, width, one in every],
        (_DIAGONAL, _DIAGONAL),
    )
    lifts = [(colour, width, _lift(one)) for colour, width, one in every]
    top = max((float(line[1].max()) for _, _, line in lifts), default=1.0)
    _curves(
        sheet,
        _panel(2, 1, y=(0.0, max(top * 1.05, 1.5))),
        ("Lift", "share of rows", "times better than chance"),
        lifts,
        (_DIAGONAL, np.ones(2)),
    )
    _legend(sheet, charts)
    return sheet.png()


def _title(sheet: Sheet, title: str, rows: str, width: int) -> None:
    sheet.text(16, 22, sheet.fitted(title, width - 420, size=15), size=15, fill=canvas.INK)
    sheet.text(width - 16, 22, rows, align="r")


def _every_curve(
    charts: ClassificationCharts,
) -> list[tuple[canvas.Colour, float, Curve | MacroCurve]]:
    """Give colour, width and curve of each class, and of the means on top of them."""
    colours = canvas.CLASS_COLOURS
    found: list[tuple[canvas.Colour, float, Curve | MacroCurve]] = [
        (canvas.tint(colours[number % len(colours)], 0.85), 1.0, one)
        for number, one in enumerate(charts.curves.values())
    ]
    if charts.micro is not None:
        found.append((canvas.ACCENT, 2.0, charts.micro))
    if charts.macro is not None:
        found.append((canvas.INK, 2.0, charts.macro))
    return found


def _roc(one: Curve | MacroCurve) -> Line:
    return (one.fpr, one.tpr) if isinstance(one, Curve) else (GRID, one.roc)


def _precision(one: Curve | MacroCurve) -> Line:
    return (one.tpr, one.precision) if isinstance(one, Curve) else (GRID, one.precision)


def _gains(one: Curve | MacroCurve) -> Line:
    return (one.fraction, one.tpr) if isinstance(one, Curve) else (GRID, one.gains)


def _lift(one: Curve | MacroCurve) -> Line:
    return (one.fraction, one.lift) if isinstance(one, Curve) else (GRID, one.lift)


def _curves(
    sheet: Sheet,
    panel: Panel,
    names: tuple[str, str, str],
    lines: list[tuple[canvas.Colour, float, Line]],
    chance: Line | None = None,
) -> None:
    sheet.frame(panel, *names)
    if chance is not None:
        sheet.line(panel, *chance, fill=canvas.tint(canvas.MUTED, 0.5), width=1)
    for colour, width, (x, y) in lines:
        sheet.line(panel, x, y, fill=colour, width=width)
    sheet.finish(panel)


def _calibration(sheet: Sheet, panel: Panel, charts: ClassificationCharts) -> None:
    def line(one: Calibration) -> Line:
        return one.predicted, one.observed

    colours = canvas.CLASS_COLOURS
    lines = [
        (canvas.tint(colours[number % len(colours)], 0.55), 1.0, line(one))
        for number, one in enumerate(charts.calibrations.values())
    ]
    lines.append((canvas.ACCENT, 2.0, line(charts.micro_calibration)))
    names = ("Calibration", "predicted probability", "share that came true")
    _curves(sheet, panel, names, lines, (_DIAGONAL, _DIAGONAL))
    sheet.dots(panel, *line(charts.micro_calibration), fill=canvas.ACCENT, radius=3)
    sheet.finish(panel)


def _confusion(sheet: Sheet, panel: Panel, charts: ClassificationCharts) -> None:
    sheet.text(panel.left, panel.top - 30, "Confusion", size=13, fill=canvas.INK)
    sheet.text(panel.left, panel.top - 13, "true (rows), predicted (columns)", size=10)
    n_labels = len(charts.labels)
    across, down = panel.width / n_labels, panel.height / n_labels
    share = charts.confusion / np.maximum(charts.confusion.sum(axis=1, keepdims=True), 1e-12)
    for row in range(n_labels):
        top = panel.top + row * down
        label = sheet.fitted(charts.labels[row], 42, size=9)
        if down >= 9 or row % 2 == 0:
            sheet.text(panel.left - 6, top + down / 2, label, size=9, align="r")
        for column in range(n_labels):
            left = panel.left + column * across
            part = float(share[row, column])
            hue = canvas.ACCENT if row == column else canvas.WARM
            colour = canvas.tint(hue, part if row == column else part**0.5)
            sheet.box(left + 0.5, top + 0.5, left + across - 0.5, top + down - 0.5, colour)
            if n_labels <= N_NUMBERS and charts.confusion[row, column] > 0:
                number = canvas.short(float(charts.confusion[row, column]))
                fill = canvas.PAPER if part > 0.5 else canvas.INK
                place = (left + across / 2, top + down / 2)
                sheet.text(*place, number, size=10, fill=fill, align="m")
    for column in range(n_labels):
        left = panel.left + (column + 0.5) * across
        label = sheet.fitted(charts.labels[column], across + 2, size=9)
        if across >= 18 or column % 3 == 0:
            sheet.text(left, panel.top + panel.height + 10, label, size=9, align="m")


def _legend(sheet: Sheet, charts: ClassificationCharts) -> None:
    entries = [("macro", canvas.INK), ("micro", canvas.ACCENT)]
    colours = canvas.CLASS_COLOURS
    entries += [
        (name, colours[number % len(colours)]) for number, name in enumerate(charts.curves)
    ]
    width = (3 * COLUMN - 32) / max(len(entries), 10)
    top = HEAD + 2 * ROW + LEGEND / 2
    for number, (name, colour) in enumerate(entries):
        left = 16 + number * width
        sheet.box(left, top - 2, left + 14, top + 2, colour)
        sheet.text(left + 19, top, sheet.fitted(name, width - 26, size=10), size=10)


def _regression(charts: RegressionCharts, title: str) -> bytes:
    sheet = Sheet(3 * COLUMN, HEAD + ROW + 20)
    rows = f"{charts.n_rows:,} rows that the model was not fitted on"
    _title(sheet, title, rows, 3 * COLUMN)
    both = canvas.limits([charts.true, charts.predicted])
    _dots(sheet, _panel(0, 0, x=both, y=both), charts)
    residuals = charts.true - charts.predicted
    spread = canvas.limits([residuals])
    panel = _panel(1, 0, x=canvas.limits([charts.predicted]), y=spread)
    sheet.frame(panel, "Residuals", "predicted", "true minus predicted")
    sheet.line(panel, np.array(panel.x), np.zeros(2), fill=canvas.MUTED, width=1)
    sheet.dots(panel, charts.predicted, residuals, fill=_DOT, radius=1.5)
    sheet.finish(panel)
    _bars(sheet, charts)
    return sheet.png()


_DOT: Final = canvas.tint(canvas.ACCENT, 0.6)


def _dots(sheet: Sheet, panel: Panel, charts: RegressionCharts) -> None:
    sheet.frame(panel, "Predicted against true", "true", "predicted")
    sheet.dots(panel, charts.true, charts.predicted, fill=_DOT, radius=1.5)
    ends = np.array(panel.x)
    sheet.line(panel, ends, ends, fill=canvas.MUTED, width=1)
    sheet.line(panel, charts.bins.true, charts.bins.predicted, fill=canvas.WARM, width=2)
    sheet.finish(panel)


def _bars(sheet: Sheet, charts: RegressionCharts) -> None:
    top = float(charts.bars.max()) * 1.08 or 1.0
    edges = charts.edges
    panel = _panel(2, 0, x=(float(edges[0]), float(edges[-1])), y=(0.0, top))
    name = f"mean {charts.mean:.3g}, deviation {charts.deviation:.3g}"
    sheet.frame(panel, "Histogram of residuals", "true minus predicted", name)
    sheet.finish(panel)
    across, down = panel.place(edges, np.concatenate([charts.bars, [0.0]]))
    bottom = panel.top + panel.height
    for left, right, high in zip(across[:-1], across[1:], down[:-1], strict=True):
        sheet.box(float(left) + 0.5, float(high), float(right) - 0.5, bottom, canvas.ACCENT)
