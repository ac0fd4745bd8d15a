"""Generated digits, block by block.

Each class is a few *styles*: strokes through control points, as a hand draws them. Per split, a
*bank* of variants of every style (slant, rotation, proportions, bends, pressure, unsteadiness) is
drawn once. Its images are distance fields, in grey levels below the stroke's edge, in pairs: a
variant and the same hand's next attempt. A record blends such a pair and chooses the pen's width,
the ink, a shift by a pixel and the roughness of the edge, which is cheap integer arithmetic on
whole blocks of records.

The records depend on the seed and nothing else. Random bits come raw from NumPy's Philox under a
SeedSequence, whose streams NumPy promises to keep; all that follows is integer arithmetic and
IEEE + - × ÷ √, in a fixed order, which is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

SIDE = 28
"""Rows and columns of an image."""
_EDGE = 150
"""Grey levels per pixel of distance: how soft an edge is."""
_FAR = -640
"""The field where no pen reaches, in grey levels."""

# x y in percent of the digit's box, from the top left. A "!" is a corner, "/" lifts the pen.
_STYLES = (
    ("58 2, 26 12, 10 50, 24 88, 50 98, 78 86, 90 50, 76 12, 46 2",),
    ("50 0, 50 50, 50 100", "30 22, 50 2!, 50 52, 50 100"),
    (
        "14 26, 32 4, 62 2, 82 22, 70 48, 42 74, 12 97!, 50 95, 90 96",
        "14 24, 36 3, 66 4, 80 24, 66 54, 34 90, 14 90, 22 76, 48 84, 92 92",
    ),
    (
        "16 12, 46 0, 78 12, 74 36, 42 47!, 78 58, 86 80, 52 100, 12 90",
        "18 8, 50 0, 80 16, 62 40, 44 46, 76 56, 84 78, 56 98, 16 92",
    ),
    (
        "24 4, 14 34, 18 54, 48 58, 88 52 / 78 0, 74 50, 68 100",
        "60 0, 36 32, 10 62!, 50 62, 94 60 / 68 4, 66 50, 64 100",
    ),
    (
        "84 3, 54 3, 28 5!, 20 42!, 52 36, 84 58, 80 84, 48 100, 12 92",
        "28 6, 22 24, 18 44!, 54 38, 84 60, 76 88, 46 100, 12 92 / 26 5, 56 5, 86 2",
    ),
    ("70 0, 36 22, 14 62, 26 92, 54 100, 82 84, 74 60, 46 54, 18 74",),
    ("10 8, 50 6, 88 4!, 66 46, 42 100", "10 10, 50 6, 88 4!, 66 46, 42 100 / 30 52, 52 50, 78 48"),
    ("76 14, 50 0, 22 16, 36 40, 68 58, 82 82, 50 100, 18 82, 34 58, 66 40, 78 14",),
    (
        "80 22, 54 2, 22 14, 20 40, 48 52, 80 26, 80 60, 72 100",
        "80 24, 56 2, 22 12, 18 38, 46 52, 80 24, 82 60, 66 92, 30 98",
    ),
)
_SPAN_PIECES = 4  # straight pieces between two control points
_RENDERED = 60  # images at a time: their arrays fit into the processor's cache
CLASSES = len(_STYLES)
"""The labels are the numbers below."""

_VARIANTS = 240  # per class, shared evenly by its styles
_BLOCK = 1024  # records per block; part of the format of the random streams
_WORDS = 2  # 64 random bits each, per record
_NOISE = 1 << 16
_SHIFTS = np.array([0] * 8 + [-1, 1, -SIDE, SIDE] * 2)  # in a flat image

Bytes = npt.NDArray[np.uint8]
Field = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]


def blocks(count: int, seed: int, split: int) -> Iterator[tuple[Bytes, Bytes]]:
    """The records of a split, block by block; memory doesn't grow with ``count``.

    Args:
        count: records, 0 or more.
        seed: 0 or more.
        split: 0 for train, 1 for test.

    Yields:
        images, uint8, shape (n, 784), and labels, uint8, shape (n,); n is at most 1024.
    """
    bank, noise = _bank(seed, split)
    # A window at p starts at pixel p: where an image lies in the bank, give or take a shift.
    images = np.lib.stride_tricks.sliding_window_view(bank, SIDE * SIDE)
    edges = np.lib.stride_tricks.sliding_window_view(noise, SIDE * SIDE)
    for block, start in enumerate(range(0, count, _BLOCK)):
        random = _random_words((seed, 1 + split, block), _BLOCK * _WORDS).view("<u2")
        draws = random.reshape(_BLOCK, -1)[: count - start].astype(np.int64).T
        labels = draws[0] * CLASSES >> 16
        first = min(len(labels), CLASSES)
        labels[:first] = np.argsort(random[: 8 * CLASSES : 8], kind="stable")[:first]
        place = (labels * _VARIANTS + (draws[1] * _VARIANTS >> 16)) * 2 * SIDE * SIDE + SIDE + 1
        place += _SHIFTS[draws[2] & 15]
        pixels = images[place]
        other = images[place + SIDE * SIDE]
        other -= pixels
        other *= _column(draws[2] >> 4 & 31)
        other >>= 5
        pixels += other
        pixels += _column(_EDGE // 2 + 140 + (draws[3] * 130 >> 16))  # half the pen's width
        pixels += edges[draws[4]]
        np.clip(pixels, 0, 255, out=pixels)
        pixels *= _column(128 - (draws[5] * draws[5] >> 27))  # ink: 97 to 128, mostly full
        pixels >>= 7
        yield pixels.astype(np.uint8), labels.astype(np.uint8)


def _column(values: npt.NDArray[np.int64]) -> Field:
    return values.astype(np.int16)[:, None]


def _bank(seed: int, split: int) -> tuple[Field, Field]:
    """The variants of all classes, and the noise of edges.

    Returns:
        int16 fields in grey levels, flat: per variant two images of 784. A pixel's grey level is
        its field plus half the pen's width. Each image has a margin of one far pixel, and the
        bank one of 29, so that a window shifted by a pixel never shows a neighbour's stroke.
        Then int16 noise, flat, _NOISE + 783 long.
    """
    fields = np.full((CLASSES, _VARIANTS, 2, SIDE, SIDE), _FAR, np.int16)
    for digit, styles in enumerate(_STYLES):
        share = _VARIANTS // len(styles)
        for number, style in enumerate(styles):
            curves = _draw(style, share, (seed, 10 + 2 * digit + number, split))
            mine = slice(number * share, (number + 1) * share)
            fields[digit, mine, :, 1:-1, 1:-1] = _render(curves)
    margin = np.full(SIDE + 1, _FAR, np.int16)
    rough = _random_words((seed, 9, split), (_NOISE + 1024) // 8).view(np.int8).astype(np.int16)
    # Neighbours to the right and below roughen alike: ink frays in spots, not in single pixels.
    rough = rough[:-29] + rough[1:-28] + rough[28:-1] + rough[29:]
    return np.concatenate([margin, fields.ravel(), margin]), rough[: _NOISE + 783] // 16


def _random_words(key: tuple[int, int, int], count: int) -> npt.NDArray[np.uint64]:
    """Random words for (seed, purpose, number): independent streams, little-endian."""
    sequence = np.random.SeedSequence(key[0], spawn_key=key[1:])
    return np.random.Philox(sequence).random_raw(count).astype("<u8")


def _normal(key: tuple[int, int, int], *shape: int) -> Floats:
    """Nearly normal numbers, bounded by ±3.5: each is the sum of four 16-bit ones."""
    parts = _random_words(key, int(np.prod(shape))).view("<u2").reshape(-1, 4).astype(np.int64)
    total: Floats = (parts.sum(axis=1) - 2 * 65535).astype(np.float32).reshape(shape)
    total *= np.float32(1.7320508 / 65536)
    return total


def _draw(style: str, count: int, key: tuple[int, int, int]) -> Floats:
    """Curves of ``count`` pairs of variants of a style.

    Returns:
        shape (piece ends, spans, 3, 2 · count): x and y in pixels around (0, 0), and how much
        wider than usual half the pen is, in pixels. Pairs are neighbours.
    """
    strokes = [[p.split() for p in s.replace("!", " !").split(",")] for s in style.split("/")]
    points = [point for stroke in strokes for point in stroke]
    lifts = set(np.cumsum([0] + [len(stroke) for stroke in strokes]).tolist())
    random = _normal(key, 2, len(points) + 3, 3, count)
    random[1] = random[0] + np.float32(0.45) * random[1]  # the same hand's next attempt
    random = np.stack([random[0], random[1]], axis=-1).reshape(len(points) + 3, 3, 2 * count)
    unsteady, hand = random[:-3], random[-3:]
    (slant, turned, wide), (tall, bow, sag), (press, left, up) = hand

    x, y = (np.array([[float(p[i]) / 100 - 0.5] for p in points], np.float32) for i in (0, 1))
    x, y = x + unsteady[:, 0] * np.float32(0.03), y + unsteady[:, 1] * np.float32(0.03)
    x, y = x + bow * y * y * np.float32(0.14), y + sag * x * x * np.float32(0.12)
    x = x * (np.float32(14.4) + wide * np.float32(1.2))
    y = y * (np.float32(16.0) + tall * np.float32(0.6))
    x = x - (slant * np.float32(0.13) + np.float32(0.12)) * y
    # Rotation by the tangent of half its angle needs neither sine nor cosine.
    half = turned * np.float32(0.035)
    scale = 1 / (1 + half * half)
    cos, sin = (1 - half * half) * scale, 2 * half * scale
    x, y = cos * x - sin * y, sin * x + cos * y
    trend = np.linspace(-1, 1, len(points), dtype=np.float32)[:, None]
    pen = press * trend * np.float32(0.16) + unsteady[:, 2] * np.float32(0.06)
    path = np.stack([x, y, pen], axis=1)

    # Hermite splines: smooth where the pen goes on, sharp at corners.
    slope = np.zeros_like(path)
    slope[1:-1] = (path[2:] - path[:-2]) / 2
    slope[[i for i, p in enumerate(points) if "!" in p or {i, i + 1} & lifts]] = 0
    starts = [i for i in range(len(points) - 1) if i + 1 not in lifts]
    ends = [i + 1 for i in starts]
    s = np.linspace(0, 1, _SPAN_PIECES + 1, dtype=np.float32)[:, None, None, None]
    curve: Floats = path[starts] + s * s * (3 - 2 * s) * (path[ends] - path[starts])
    curve += s * (1 - s) * ((1 - s) * slope[starts] - s * slope[ends])

    # Centred by mass as MNIST's are, but within its 20 × 20 pixels, the pen's width aside.
    # A cumulative sum adds in a fixed order; a sum does not.
    step = (curve[1:] - curve[:-1])[:, :, :2]
    length = np.sqrt(step[:, :, :1] * step[:, :, :1] + step[:, :, 1:] * step[:, :, 1:])
    middle = (curve[1:] + curve[:-1])[:, :, :2] * (length / 2)
    mass, whole = (
        np.cumsum(part.reshape(-1, part.shape[2], 2 * count), axis=0)[-1]
        for part in (middle, length)
    )
    at = np.stack([left, up]) * np.float32(0.3) - mass / whole
    low, high = curve[:, :, :2].min(axis=(0, 1)), curve[:, :, :2].max(axis=(0, 1))
    curve[:, :, :2] += np.clip(at, -9.5 - low, 9.5 - high)
    return curve


def _render(curves: Floats) -> Field:
    """Distance fields of curves as from :func:`_draw`, without the outermost pixels.

    Returns:
        shape (images / 2, 2, 26, 26), in grey levels.
    """
    side, images = SIDE - 2, curves.shape[-1]
    x, y, pen = curves.swapaxes(0, 2).swapaxes(1, 2)
    grid = np.arange(side, dtype=np.float32)[:, None] - np.float32((side - 1) / 2)
    fields = np.empty((images, side, side), np.int16)
    for part in (slice(i, i + _RENDERED) for i in range(0, images, _RENDERED)):
        nearest = np.full((side, side, min(_RENDERED, images - part.start)), 99, np.float32)
        for piece, span in np.ndindex(x.shape[0] - 1, x.shape[1]):
            x0, y0, w0 = (values[piece, span, part] for values in (x, y, pen))
            x1, y1, w1 = (values[piece + 1, span, part] for values in (x, y, pen))
            dx, dy = x1 - x0, y1 - y0
            square = dx * dx + dy * dy + np.float32(1e-6)
            # Axes: row, column, image. Each pixel's nearest point of the piece, then how far.
            right, down = grid - x0, (grid - y0)[:, None]
            along = right * (dx / square) + down * (dy / square)
            np.clip(along, 0, 1, out=along)
            right, down = right - along * dx, down - along * dy
            right *= right
            down *= down
            right += down
            np.sqrt(right, out=right)
            right -= (w0 + w1) / 2
            np.minimum(nearest, right, out=nearest)
        grey = np.maximum(nearest * -_EDGE, _FAR).astype(np.int16)
        fields[part] = grey.transpose(2, 0, 1)
    return fields.reshape(-1, 2, side, side)
