"""Reading files: decompression, chosen elements, label counts, a whole file as an array."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import IO

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

from mnist_spark.errors import IdxError, IntegrityError, os_errors
from mnist_spark.idx import format as idx

Values = npt.NDArray[np.generic]
Positions = npt.NDArray[np.int64]

_CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"  # a gzip file's first bytes, RFC 1952


def is_gzip(path: str | os.PathLike[str]) -> bool:
    """Whether the content is gzip, whatever the file's name."""
    with open(path, "rb") as stream:
        return stream.read(len(_GZIP)) == _GZIP


def open_content(path: str | os.PathLike[str]) -> IO[bytes]:
    """The file's bytes, decompressed if they are gzip."""
    return gzip.open(path) if is_gzip(path) else open(path, "rb")  # type: ignore[return-value]


def inflate(stream: IO[bytes], size: int, file: object) -> Iterator[bytes]:
    """Decompresses gzip, one or more members, in chunks of at most 1 MiB.

    Args:
        size: bytes that must come out; one more and it stops (gzip bomb).
        file: the file's name, for errors.

    Raises:
        IntegrityError: not gzip, damaged (CRC), truncated, followed by something else, or of
            another decompressed size.
    """
    # zlib-ng takes a third of zlib's time. 31: the gzip format, header and trailer checked.
    engine = zlib_ng.decompressobj(31)
    total = 0
    complete = False  # a member has ended, and the next one hasn't begun
    while data := stream.read(_CHUNK_BYTES // 4):
        while data:
            try:
                chunk = engine.decompress(data, min(_CHUNK_BYTES, size - total + 1))
            except zlib_ng.error as error:  # type: ignore[misc]  # the stub has an instance
                if complete:
                    raise IntegrityError("trailing bytes after the gzip data", file=file) from error
                raise IntegrityError("damaged gzip", file=file, got=error) from error
            complete = False
            total += len(chunk)
            if total > size:
                raise IntegrityError(
                    "payload size", file=file, expected=f"{size:,} bytes", got="more"
                )
            yield chunk
            data = engine.unconsumed_tail
            if engine.eof:
                data = engine.unused_data
                engine = zlib_ng.decompressobj(31)
                complete = True
    if not complete:
        raise IntegrityError(
            "truncated gzip", file=file, expected=f"{size:,} bytes of payload", got=f"{total:,}"
        )
    if total != size:
        raise IntegrityError(
            "payload size", file=file, expected=f"{size:,} bytes", got=f"{total:,} bytes"
        )


def iter_records(
    stream: IO[bytes], header: idx.Header, file: object, start: int = 0, stop: int | None = None
) -> Iterator[tuple[int, npt.NDArray[np.generic]]]:
    """Records ``start`` up to ``stop``, by default all, in bounded chunks of about 1 MiB.

    Yields:
        the first record's index and an array as from :func:`mnist_spark.idx.format.read_records`.
    """
    step = max(1, _CHUNK_BYTES // header.record_size)
    stop = header.records if stop is None else stop
    for first in range(start, stop, step):
        yield first, idx.read_records(stream, header, first, min(first + step, stop), file)


def count_labels(
    stream: IO[bytes], header: idx.Header, classes: int, file: object, first_label: int = 0
) -> npt.NDArray[np.int64]:
    """How often each class occurs.

    Args:
        header: of rank 1, or of rank 2, whose first column is the class.
        classes: number of classes.
        first_label: the first class's label; valid are this one and the ``classes - 1`` after it.

    Returns:
        counts, shape ``(classes,)``, int64.

    Raises:
        IdxError: a label outside the classes, with the record that has it.
    """
    counts = np.zeros(classes, np.int64)
    last_label = first_label + classes - 1
    for first, records in iter_records(stream, header, file):
        labels = records.reshape(len(records), -1)[:, 0]
        bad = np.flatnonzero(~np.isin(labels, np.arange(first_label, last_label + 1)))
        if bad.size:
            raise IdxError(
                "label outside the classes",
                file=file,
                record_range=f"[{first + int(bad[0])}]",
                expected=f"{first_label} to {last_label}",
                got=labels[bad[0]],
            )
        counts += np.bincount(labels.astype(np.int64) - first_label, minlength=classes)
    return counts


def read_elements(path: str, records: Positions, columns: Sequence[int], out: Values) -> None:
    """Reads some elements of some records, in bounded steps.

    Nothing before the first record and after the last is read.

    Args:
        path: a payload.
        records: their indices, ascending.
        columns: which of a record's elements, ascending, counted from 0, last dimension fastest.
        out: shape (records, columns), any type and strides; filled.

    Raises:
        IdxError: the payload has changed since it was checked.
    """
    if not len(records) or not columns:
        return
    elements: slice | Sequence[int] = columns
    if columns[-1] - columns[0] + 1 == len(columns):
        elements = slice(columns[0], columns[-1] + 1)
    stream, header = idx.open_payload(path)
    with stream:
        step, end = max(1, _CHUNK_BYTES // header.record_size), int(records[-1]) + 1
        for first in range(int(records[0]), end, step):
            last = min(first + step, end)
            start, stop = np.searchsorted(records, [first, last])
            if start == stop:
                continue
            chunk = idx.read_records(stream, header, first, last, path).reshape(last - first, -1)
            if stop - start < last - first:
                chunk = chunk[records[start:stop] - first]
            out[start:stop] = chunk[:, elements]


def load_data(filename: str | os.PathLike[str], label: bool = False) -> Values:
    """Reads a file of images or of labels, as the samples of Azure Open Datasets define it.

    The file may be gzipped or not, downloaded or mounted. No more is allocated than it really has,
    whatever its header promises. Pixels are as in the file: EMNIST's images come transposed, which
    only its rows and tables set right.

    Args:
        filename: any name; the content says whether it is gzipped.
        label: whether the file has labels.

    Returns:
        images: shape (n, pixels); labels: shape (n, 1). uint8 as published; other element types
        in the machine's byte order.

    Raises:
        IdxError: the file can't be read, isn't valid IDX, or has labels in place of images or
            the other way round.
        IntegrityError: the gzip is damaged, or longer or shorter than its content's header says.
    """
    with (
        os_errors(IdxError, "cannot read the file", file=filename),
        open(filename, "rb") as stream,
    ):
        gzipped = stream.read(len(_GZIP)) == _GZIP
        header = _read_header(stream, gzipped, filename)
        _check_rank(header, label, filename)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if gzipped:
            data = bytearray()
            for chunk in inflate(stream, header.payload_size, filename):
                data += chunk
        else:
            idx.check_payload_size(header, size, filename)
            data = bytearray(size)
            stream.readinto(data)
    values = np.frombuffer(data, header.dtype, offset=header.size)
    values = values.reshape(header.records, math.prod(header.record_shape))
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _read_header(stream: BufferedReader, gzipped: bool, file: object) -> idx.Header:
    stream.seek(0)
    if not gzipped:
        return idx.read_header(stream, file)
    try:
        with gzip.open(stream) as content:
            return idx.read_header(content, file)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IdxError("damaged gzip", file=file, got=error) from error


def _check_rank(header: idx.Header, label: bool, file: object) -> None:
    rank = len(header.shape)
    if (rank >= 3) == label:
        raise IdxError(
            "labels expected" if label else "images expected",
            file=file,
            expected="1 or 2 dimensions" if label else "3 dimensions",
            got=f"shape {header.shape}",
            hint=f"Call load_data(…, label={not label})",
        )
