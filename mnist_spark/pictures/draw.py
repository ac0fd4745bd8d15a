"""Arrays → figures. Needs matplotlib; knows nothing of datasets and tables.

Many images share one axes: an axes per image, as is usual, takes long to make and to draw.
Sizes are in inches, so that text keeps its size however many images there are.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Images = npt.NDArray[Any]
Counts = Mapping[str, npt.NDArray[np.int64]]

_DPI = 144
_BAR_COLOUR, _INK = "#0b6e4f", "#222222"  # nothing is told by colour alone
_TEXT = 8.0  # points; all other sizes are inches
_STYLE: dict[str, Any] = {"fontsize": _TEXT, "color": _INK, "parse_math": False}
_LETTER, _LINE = 0.62 * _TEXT / 72, 1.25 * _TEXT / 72  # DejaVu Sans is a wide face
_IMAGE = 0.42  # width of an image
_GAP = 0.06  # between images
_BETWEEN = 0.35  # between an image's or a split's panel and the next
_BARS, _BAR_HEIGHT = 2.6, 0.22
_MARGIN = 0.14
_TITLE = 0.3  # height of a title's line


class Picture(Figure):
    """A figure that notebooks show with or without ``%matplotlib inline``.

    Args:
        width, height: of what is drawn, in inches; margins and the title's line come on top.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        width = max(width, len(title) * _LETTER * 1.15)
        self._width, self._height = width + 2 * _MARGIN, height + _TITLE + 2 * _MARGIN
        super().__init__(figsize=(self._width, self._height), dpi=_DPI, facecolor="white")
        self.write(0, -_TITLE, title)

    def write(self, left: float, top: float, line: str) -> None:
        """A title, in inches from the top left of what is drawn."""
        x, y = self._place(left, top + _TITLE)
        self.text(x, y, line, va="top", **(_STYLE | {"fontsize": _TEXT + 1}))

    def box(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes without frame, in inches from the top left of what is drawn."""
        x, y = self._place(left, top + _TITLE + height)
        axes = self.add_axes((x, y, width / self._width, height / self._height))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=_TEXT, labelcolor=_INK)
        axes.xaxis.set_visible(False)
        return axes

    def _place(self, left: float, top: float) -> tuple[float, float]:
        return (left + _MARGIN) / self._width, 1 - (top + _MARGIN) / self._height

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


class _Mosaic:
    """Images in rows, each below its caption.

    Attributes:
        width, height: in inches.
    """

    def __init__(self, images: Images, captions: Sequence[str], columns: int | None) -> None:
        self._images = images
        self._captions = [_wrapped(caption) for caption in captions]
        lines = [caption.split("\n") for caption in self._captions]
        longest = max(len(line) for each in lines for line in each)
        self._columns = min(columns or (30 if longest <= 2 else 15), len(images))
        _, rows, cols = images.shape
        self._high = _IMAGE * rows / cols
        self._above = max(map(len, lines)) * _LINE + 0.02
        self._across = max(_IMAGE, longest * _LETTER) + _GAP
        self._down = self._above + self._high + 2 * _GAP
        self.width = self._columns * self._across
        self.height = -(-len(images) // self._columns) * self._down - 2 * _GAP

    def draw(self, picture: Picture, left: float, top: float) -> None:
        axes = picture.box(left, top, self.width, self.height)
        axes.axis("off")
        brightest = max(float(self._images.max()), 1.0)
        for i, (image, caption) in enumerate(zip(self._images, self._captions, strict=True)):
            down, across = divmod(i, self._columns)
            middle = (across + 0.5) * self._across
            y = down * self._down + self._above
            _show(axes, image, middle - _IMAGE / 2, y, self._high, brightest)
            axes.text(middle, y, caption, ha="center", va="bottom", **_STYLE)
        axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")


def digits(images: Images, captions: Sequence[str], columns: int | None, title: str) -> Picture:
    """Images in rows.

    Args:
        images: shape (n, rows, cols), 0 is background.
        columns: images per row; None: 30, or 15 where captions are words.
    """
    mosaic = _Mosaic(images, captions, columns)
    picture = Picture(mosaic.width, mosaic.height, title)
    mosaic.draw(picture, 0, 0)
    return picture


def classes(rows: Sequence[Images], names: Sequence[str], title: str) -> Picture:
    """A row of images per class, shapes (n, rows, cols), behind its name."""
    _, high, wide = rows[0].shape
    tall, left = _IMAGE * high / wide, _names_width(names)
    width, height = max(map(len, rows)) * (_IMAGE + _GAP), len(rows) * (tall + _GAP)
    picture = Picture(left + width, height, title)
    axes = picture.box(left, 0, width, height)
    brightest = max(1.0, *(float(images.max(initial=0)) for images in rows))
    for down, images in enumerate(rows):
        for across, image in enumerate(images):
            _show(axes, image, across * (_IMAGE + _GAP), down * (tall + _GAP), tall, brightest)
    axes.set_yticks([(down + 0.5) * (tall + _GAP) - _GAP / 2 for down in range(len(rows))], names)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return picture


def labels(counts: Counts, names: Sequence[str], title: str) -> Picture:
    """Bars of counts per class, a panel per split, each on its own scale."""
    width, height = _names_width(names) + _BARS, _panel_height(names)
    picture = Picture(len(counts) * (width + _BETWEEN) - _BETWEEN, height, title)
    for i, (split, of_split) in enumerate(counts.items()):
        _panel(picture, i * (width + _BETWEEN), 0, split, of_split, names)
    return picture


def preview(
    images: Images, captions: Sequence[str], counts: Counts, names: Sequence[str], title: str
) -> Picture:
    """The images on the left, on the right the counts of one split below the other."""
    mosaic, panel = _Mosaic(images, captions, 10), _panel_height(names)
    left = mosaic.width + _BETWEEN
    height = max(mosaic.height, len(counts) * (panel + _BETWEEN) - _BETWEEN)
    picture = Picture(left + _names_width(names) + _BARS, height, title)
    mosaic.draw(picture, 0, 0)
    for i, (split, of_split) in enumerate(counts.items()):
        _panel(picture, left, i * (panel + _BETWEEN), split, of_split, names)
    return picture


def _names_width(names: Sequence[str]) -> float:
    return max(map(len, names)) * _LETTER + 0.1


def _panel_height(names: Sequence[str]) -> float:
    return _TITLE + len(names) * _BAR_HEIGHT


def _panel(
    picture: Picture,
    left: float,
    top: float,
    split: str,
    counts: npt.NDArray[np.int64],
    names: Sequence[str],
) -> None:
    """One split: its name and total, and a bar per class with its count."""
    space = _names_width(names)
    picture.write(left, top, f"{split}: {counts.sum():,}")
    height = len(names) * _BAR_HEIGHT
    axes = picture.box(left + space, top + _TITLE, _BARS, height)
    places = np.arange(len(names))
    axes.barh(places, counts, height=0.72, color=_BAR_COLOUR)
    most = max(int(counts.max()), 1)
    for place, count in enumerate(counts):
        axes.text(count + most * 0.02, place, f"{count:,}", va="center", **_STYLE)
    axes.set_yticks(places, names)
    # Room for the longest bar's count.
    room = (len(f"{most:,}") * _LETTER + 0.1) / _BARS
    axes.set(xlim=(0, most / (1 - room)), ylim=(len(names) - 0.5, -0.5))


def _show(
    axes: Axes, image: Images, left: float, top: float, height: float, brightest: float
) -> None:
    """One image at a place in the axes' own units, inches; ink is dark as on paper."""
    extent = (left, left + _IMAGE, top + height, top)
    axes.imshow(image, cmap="Greys", vmin=0, vmax=brightest, extent=extent, aspect="auto")


def _wrapped(name: str) -> str:
    """At most two lines, broken at the space or slash nearest to the middle."""
    breaks = [i for i, letter in enumerate(name) if letter in " /"]
    if not breaks:
        return name
    at = min(breaks, key=lambda i: abs(i - len(name) / 2))
    first = name[: at + 1].rstrip()
    return f"{first}\n{name[at + 1 :]}"
