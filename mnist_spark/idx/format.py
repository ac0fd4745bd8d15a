"""The IDX format: header and elements of a decompressed file, checked strictly.

Layout, from Y. LeCun's description of MNIST (http://yann.lecun.com/exdb/mnist/):

=========  ==========================================================================
bytes      meaning
=========  ==========================================================================
0, 1       zero
2          type of the elements: 0x08 ubyte, 0x09 byte, 0x0B short, 0x0C int,
           0x0D float, 0x0E double
3          rank: number of dimensions
4 …        one big-endian uint32 per dimension; the first counts the records
then       the elements, big-endian, last dimension fastest
=========  ==========================================================================

Bytes 0 to 3 are the *magic number*: 0x00000803 for images, 0x00000801 for labels. *Payload* means
the decompressed file, header included. Nothing here reads a payload whole.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

from mnist_spark.errors import IdxError, os_errors

ELEMENT_TYPES: dict[int, np.dtype[np.generic]] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
"""Type code (third byte of the magic number) → dtype as stored, big-endian."""

_TYPE_CODES = {dtype: code for code, dtype in ELEMENT_TYPES.items()}
_MAX_RECORD_BYTES = (1 << 63) - 1  # what file offsets and NumPy can count


@dataclass(frozen=True)
class Header:
    """What an IDX header says.

    Attributes:
        dtype: element type as stored (big-endian).
        shape: all dimensions; the first is the number of records.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def records(self) -> int:
        """Number of records: the first dimension."""
        return self.shape[0]

    @property
    def record_shape(self) -> tuple[int, ...]:
        """Dimensions of one record; () for a file of rank 1."""
        return self.shape[1:]

    @property
    def record_size(self) -> int:
        """Bytes per record."""
        return math.prod(self.record_shape) * self.dtype.itemsize

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return header_size(len(self.shape))

    @property
    def payload_size(self) -> int:
        """Bytes of header and elements: the exact length that the file must have."""
        return self.size + self.records * self.record_size

    def pack(self) -> bytes:
        """The header's bytes, as they stand at the start of a file."""
        rank = len(self.shape)
        return struct.pack(f">BBBB{rank}I", 0, 0, _TYPE_CODES[self.dtype], rank, *self.shape)


def header_size(rank: int) -> int:
    """Bytes of the header of a file with so many dimensions."""
    return 4 + 4 * rank


def read_header(stream: IO[bytes], file: object) -> Header:
    """Reads the header from the start of a payload.

    Args:
        stream: positioned at byte 0; left at the first element.
        file: the file's name, for errors.

    Raises:
        IdxError: magic number, type code, rank or a dimension isn't valid, or the header is cut.
    """
    magic = _read_exactly(stream, 4, "magic number", file)
    if magic[:2] != b"\0\0":
        hint = "The file is still gzipped" if magic[:2] == b"\x1f\x8b" else None
        raise IdxError(
            "magic number", file=file, expected="0x0000 first", got=f"0x{magic.hex()}", hint=hint
        )
    code, rank = magic[2], magic[3]
    if code not in ELEMENT_TYPES:
        raise IdxError(
            "type code",
            file=file,
            expected=f"one of {', '.join(f'0x{known:02X}' for known in ELEMENT_TYPES)}",
            got=f"0x{code:02X}",
        )
    if rank == 0:
        raise IdxError("rank", file=file, expected="1 to 255 dimensions", got=0)
    shape = struct.unpack(f">{rank}I", _read_exactly(stream, 4 * rank, "dimensions", file))
    if 0 in shape[1:]:
        raise IdxError("dimensions", file=file, expected="1 or more after the first", got=shape)
    header = Header(ELEMENT_TYPES[code], shape)
    if header.record_size > _MAX_RECORD_BYTES:
        raise IdxError("dimensions", file=file, expected="records below 2⁶³ bytes", got=shape)
    return header


def check_payload_size(header: Header, size: int, file: object) -> None:
    """Compares the length of a payload with what its header promises.

    Args:
        size: bytes of the payload, header included.

    Raises:
        IdxError: the payload is shorter (truncated) or longer (trailing bytes).
    """
    if size != header.payload_size:
        what = "truncated payload" if size < header.payload_size else "trailing bytes"
        raise IdxError(
            what,
            file=file,
            expected=f"{header.payload_size:,} bytes for shape {header.shape}",
            got=f"{size:,} bytes",
        )


def open_payload(path: str | os.PathLike[str]) -> tuple[IO[bytes], Header]:
    """Opens a payload on disk and checks its header and length.

    Returns:
        the open file, positioned at the first element, and its header.

    Raises:
        IdxError: see :func:`read_header` and :func:`check_payload_size`.
    """
    with os_errors(IdxError, "cannot open the payload", file=path):
        stream = open(path, "rb")  # noqa: SIM115 - handed to the caller
    try:
        header = read_header(stream, path)
        check_payload_size(header, os.fstat(stream.fileno()).st_size, path)
    except BaseException:
        stream.close()
        raise
    return stream, header


def read_records(
    stream: IO[bytes], header: Header, start: int, stop: int, file: object
) -> npt.NDArray[np.generic]:
    """Records ``start`` up to, not including, ``stop``.

    Args:
        stream: a seekable payload.

    Returns:
        a read-only array of shape ``(stop - start, *header.record_shape)`` and ``header.dtype``.

    Raises:
        IdxError: the range isn't within the file, the payload ends early, or an array can't have
            so many dimensions.
    """
    if not 0 <= start <= stop <= header.records:
        raise IdxError(
            "record range",
            file=file,
            record_range=f"[{start}:{stop}]",
            expected=f"within 0 and {header.records}",
        )
    begin, end = (header.size + i * header.record_size for i in (start, stop))
    # A header may promise 4 GiB in a file of 20 bytes: never allocate on its word alone.
    size = stream.seek(0, os.SEEK_END)
    if size < end:
        raise IdxError(
            "elements cut short",
            file=file,
            record_range=f"[{start}:{stop}]",
            expected=f"{end:,} bytes",
            got=f"{size:,} bytes",
        )
    stream.seek(begin)
    data = _read_exactly(stream, end - begin, "elements", file)
    try:
        return np.frombuffer(data, header.dtype).reshape(stop - start, *header.record_shape)
    except ValueError as error:  # IDX has ranks up to 255, NumPy up to 32 or 64
        raise IdxError("more dimensions than NumPy has", file=file, got=error) from error


def _read_exactly(stream: IO[bytes], size: int, field: str, file: object) -> bytes:
    parts: list[bytes] = []
    missing = size
    while missing:
        part = stream.read(missing)
        if not part:
            raise IdxError(
                f"{field} cut short",
                file=file,
                expected=f"{size:,} bytes",
                got=f"{size - missing:,} bytes",
            )
        parts.append(part)
        missing -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
