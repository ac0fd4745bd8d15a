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

from mnist_spark.idx.strokes import EDGE, FAR, SIDE, STYLES, Field, draw, random_words, render

CLASSES = len(STYLES)
"""The labels are the numbers below."""

_VARIANTS = 240  # per class, shared evenly by its styles
_BLOCK = 1024  # records per block; part of the format of the random streams
_WORDS = 2  # 64 random bits each, per record
_NOISE = 1 << 16
_SHIFTS = np.array([0] * 8 + [-1, 1, -SIDE, SIDE] * 2)  # in a flat image

Bytes = npt.NDArray[np.uint8]


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
        random = random_words((seed, 1 + split, block), _BLOCK * _WORDS).view("<u2")
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
        pixels += _column(EDGE // 2 + 140 + (draws[3] * 130 >> 16))  # half the pen's width
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
    fields = np.full((CLASSES, _VARIANTS, 2, SIDE, SIDE), FAR, np.int16)
    for digit, styles in enumerate(STYLES):
        share = _VARIANTS // len(styles)
        for number, style in enumerate(styles):
            curves = draw(style, share, (seed, 10 + 2 * digit + number, split))
            mine = slice(number * share, (number + 1) * share)
            fields[digit, mine, :, 1:-1, 1:-1] = render(curves)
    margin = np.full(SIDE + 1, FAR, np.int16)
    rough = random_words((seed, 9, split), (_NOISE + 1024) // 8).view(np.int8).astype(np.int16)
    # Neighbours to the right and below roughen alike: ink frays in spots, not in single pixels.
    rough = rough[:-29] + rough[1:-28] + rough[28:-1] + rough[29:]
    return np.concatenate([margin, fields.ravel(), margin]), rough[: _NOISE + 783] // 16
