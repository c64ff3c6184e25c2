"""A sheet of panels that lines, bars and words are drawn on; compact, because every child has one.

Drawing with matplotlib would take ten times as long. A panel is drawn at twice its size and then
made smaller, which smooths it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats: TypeAlias = NDArray[np.float64]
Colour: TypeAlias = tuple[int, int, int]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

Image.preinit()  # imports what writes PNG; else each of the processes that are forked would

SCALE: Final = 2
MARGIN: Final = 4  # pixels around a panel, for lines at its edge
N_COLOURS: Final = 96
INK: Final = (31, 41, 51)
MUTED: Final = (107, 119, 133)
GRID: Final = (228, 232, 236)
PAPER: Final = (255, 255, 255)
ACCENT: Final = (30, 111, 217)
WARM: Final = (224, 36, 94)
CLASS_COLOURS: Final[tuple[Colour, ...]] = (
    (78, 121, 167),
    (242, 142, 43),
    (225, 87, 89),
    (89, 161, 152),
    (89, 161, 79),
    (214, 175, 50),
    (176, 122, 161),
    (230, 130, 140),
    (156, 117, 95),
    (140, 140, 150),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Where one chart lies on the sheet, in pixels, and which values its edges stand for.

    Attributes:
        left: Of the area that is drawn on, and so the others.
        x: The values at its left and right edge.
        y: The values at its lower and upper edge.
    """

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)

    def place(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Turn values into pixels; what lies outside is at the edge."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            self.left + np.clip(across, 0, 1) * self.width,
            self.top + (1 - np.clip(up, 0, 1)) * self.height,
        )


class Sheet:
    """An empty sheet of so many pixels.

    Lines and dots go onto a panel at a time: `frame` begins it, `finish` lays it onto the sheet.
    """

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width, height), PAPER)
        self._pen = ImageDraw.Draw(self._image)
        self._large: Image.Image | None = None
        self._panel_pen = self._pen

    def png(self) -> bytes:
        """Give the sheet as a PNG file."""
        file = io.BytesIO()
        self._image.quantize(N_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            file, "PNG", compress_level=4
        )
        return file.getvalue()

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 11,
        fill: Colour = MUTED,
        align: Literal["l", "m", "r"] = "l",
    ) -> None:
        """Write a line of text whose left end, middle or right end lies at the place."""
        word = _word(text, size)
        left = round(x - {"l": 0.0, "m": 0.5, "r": 1.0}[align] * word.width)
        self._image.paste(fill, (left, round(y) - word.height // 2), word)

    def fitted(self, text: str, width: float, *, size: int = 11) -> str:
        """Shorten text until it is at most so wide."""
        font = open_font(size)
        if font.getlength(text) <= width:
            return text
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        return text + "…"

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        """Fill a rectangle of the sheet."""
        corners = [round(left), round(top), round(right) - 1, round(bottom) - 1]
        if corners[2] >= corners[0] and corners[3] >= corners[1]:
            self._pen.rectangle(corners, fill=fill)

    def frame(self, panel: Panel, title: str, x_name: str, y_name: str) -> None:
        """Begin a panel: its title, its axes, and a grid with the values that it stands for."""
        self.text(panel.left, panel.top - 30, title, size=13, fill=INK)
        self.text(panel.left, panel.top - 13, y_name, size=10)
        right, bottom = panel.left + panel.width, panel.top + panel.height
        self.text(right, bottom + 28, x_name, size=10, align="r")
        size = (round(panel.width + 2 * MARGIN) * SCALE, round(panel.height + 2 * MARGIN) * SCALE)
        if self._large is None or self._large.size != size:
            self._large = Image.new("RGB", size, PAPER)
            self._panel_pen = ImageDraw.Draw(self._large)
        else:
            self._large.paste(PAPER, (0, 0, *size))
        ends = np.array(panel.x), np.array(panel.y)
        for value in ticks(*panel.x, 5):
            self._rule(panel, np.full(2, value), ends[1])
            (at,), _ = panel.place(np.array([value]), ends[1][:1])
            self.text(at, bottom + 11, short(value), size=10, align="m")
        for value in ticks(*panel.y, 5):
            self._rule(panel, ends[0], np.full(2, value))
            _, (at,) = panel.place(ends[0][:1], np.array([value]))
            self.text(panel.left - 6, at, short(value), size=10, align="r")

    def finish(self, panel: Panel) -> None:
        """Lay a panel, smoothed, onto the sheet."""
        if self._large is not None:
            place = (round(panel.left) - MARGIN, round(panel.top) - MARGIN)
            self._image.paste(self._large.reduce(SCALE), place)

    def line(
        self, panel: Panel, x: Floats, y: Floats, *, fill: Colour, width: float = 1.5
    ) -> None:
        """Draw a line through values of a panel."""
        points = self._in_panel(panel, x, y)
        # What lies within a pixel of the point before it is not seen.
        way = np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()
        seen = np.concatenate([[True], np.diff(np.floor(way / SCALE), append=np.inf) > 0])
        self._panel_pen.line(points[seen].ravel().tolist(), fill=fill, width=round(width * SCALE))

    def dots(self, panel: Panel, x: Floats, y: Floats, *, fill: Colour, radius: float) -> None:
        """Draw a dot at each pair of values."""
        r = radius * SCALE
        for across, down in self._in_panel(panel, x, y).tolist():
            self._panel_pen.ellipse([across - r, down - r, across + r, down + r], fill=fill)

    def _rule(self, panel: Panel, x: Floats, y: Floats) -> None:
        """Draw a line along a row or column of pixels, all of it and no other."""
        (left, bottom), (right, top) = np.round(self._in_panel(panel, x, y) / SCALE) * SCALE
        last = SCALE - 1
        self._panel_pen.rectangle([left, top, right + last, bottom + last], fill=GRID)

    @staticmethod
    def _in_panel(panel: Panel, x: Floats, y: Floats) -> Floats:
        across, down = panel.place(x, y)
        corner = np.array([panel.left, panel.top]) - MARGIN
        return cast("Floats", (np.column_stack([across, down]) - corner) * SCALE)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Give round values between two, about `count` of them."""
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    return [number * step for number in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def short(value: float) -> str:
    """Give a number in few characters."""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.4g}"


def tint(colour: Colour, share: float) -> Colour:
    """Give the colour mixed with paper: 0 is paper, 1 the colour."""
    red, green, blue = (
        round(paper + (own - paper) * share) for own, paper in zip(colour, PAPER, strict=True)
    )
    return red, green, blue


def limits(values: Sequence[Floats]) -> tuple[float, float]:
    """Give the range of values with a little room on both sides."""
    low = min(float(one.min()) for one in values)
    high = max(float(one.max()) for one in values)
    room = 0.03 * (high - low) or abs(high) * 0.1 or 0.5
    return low - room, high + room


@cache
def open_font(size: int) -> Font:
    """Give the font that comes with matplotlib, which need not be imported for that.

    It is read into memory: processes that are forked later must not share an open file.
    """
    found = find_spec("matplotlib")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(
                io.BytesIO(path.read_bytes()), size, layout_engine=ImageFont.Layout.BASIC
            )
    return ImageFont.load_default(size)


@lru_cache(maxsize=512)
def _word(text: str, size: int) -> Image.Image:
    """Draw a line of text, white on black, as high as the font: most words occur many times."""
    font = open_font(size)
    image = Image.new("L", (max(1, round(font.getlength(text))), 2 * size))
    ImageDraw.Draw(image).text((0, size), text, font=font, fill=255, anchor="lm")
    return image
