"""Grey PNG images without an image library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt


def strip_url(images: npt.NDArray[np.uint8], per_row: int | None = None) -> str:
    """Images side by side as a ``data:`` URL.

    Args:
        images: shape (n, rows, columns), at least one image.
        per_row: images in a row; None: all of them.
    """
    per_row = min(per_row or len(images), len(images))
    padded = np.pad(images, ((0, -len(images) % per_row), (1, 1), (1, 1)))
    rows = [
        np.concatenate(padded[first : first + per_row], axis=1)
        for first in range(0, len(padded), per_row)
    ]
    return "data:image/png;base64," + base64.b64encode(png(np.concatenate(rows))).decode()


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of 8-bit grey: signature, header, pixels, end. Source: https://www.w3.org/TR/png.

    Args:
        pixels: shape (rows, columns).
    """
    height, width = pixels.shape
    # Each row begins with the byte of its filter: 0, none.
    rows = np.pad(pixels, ((0, 0), (1, 0))).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
