"""The bytes of a record range, wherever they are: opened by path or URL, or within the task.

Knows nothing of Spark; runs on executors.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Iterator
from io import BytesIO
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.errors import IdxError, IntegrityError, MnistSparkError
from mnist_spark.idx.format import (
    Header,
    check_payload_size,
    open_payload,
    read_header,
    read_records,
)
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import PayloadSlice
from mnist_spark.storage.failures import ObjectError
from mnist_spark.storage.objects import open_reader
from mnist_spark.storage.urls import is_url, redact

_REMOTE_BLOCK_BYTES = 8 << 20


class OpenSlice:
    """A slice that can be read in order, batch by batch.

    Attributes:
        header: of the payload at hand: the whole one, or the range alone if that travelled.
    """

    def __init__(self, part: PayloadSlice, records: RecordRange, stream: IO[bytes], header: Header):
        self.header = header
        self._slice = part
        self._records = records
        self._stream = stream
        self._base = 0 if part.data is None else records.start
        self._digest = hashlib.sha256()

    @property
    def end(self) -> int:
        """Index after the last record that is at hand."""
        return self._base + self.header.records

    def read(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Records ``start`` up to ``stop`` of the split, as :func:`read_records` gives them.

        Raises:
            IdxError: they aren't there.
        """
        elements = read_records(
            self._stream, self.header, start - self._base, stop - self._base, self._slice.path
        )
        if self._slice.sha256 is not None:
            self._digest.update(elements.data)
        return elements

    def check(self) -> None:
        """Compares what was read, the whole range, with what the driver had read.

        Raises:
            IntegrityError: it differs.
        """
        if self._slice.sha256 not in (None, self._digest.hexdigest()):
            raise IntegrityError(
                "an executor has read other bytes than the driver",
                file=self._slice.path,
                record_range=str(self._records),
                expected=f"SHA-256 {self._slice.sha256}",
                got=f"{self._digest.hexdigest()} on host {socket.gethostname()}",
                hint="Remove the file if it is staged, and run again",
            )


@contextlib.contextmanager
def open_slice(part: PayloadSlice, records: RecordRange) -> Iterator[OpenSlice]:
    """Executor side: opens a slice, wherever it is, and checks header and length.

    Raises:
        IdxError: it can't be opened from here, which names the host, or isn't valid IDX.
        IntegrityError: it was damaged on its way.
    """
    try:
        stream, header = _open(part)
    except MnistSparkError as error:
        raise error.within(record_range=str(records), got=_on_this_host(error.got)) from error
    with stream:
        yield OpenSlice(part, records, stream, header)


def _open(part: PayloadSlice) -> tuple[IO[bytes], Header]:
    if part.data is not None:
        try:
            codec = pa.Codec("zstd")
            payload = codec.decompress(part.data, decompressed_size=part.size, asbytes=True)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise IntegrityError(
                "the bytes of a task were damaged on their way", file=part.path, got=error
            ) from error
        stream: IO[bytes] = BytesIO(payload)
        header = read_header(stream, part.path)
        check_payload_size(header, len(payload), part.path)
        return stream, header
    if is_url(part.path):
        return _open_url(part.path)
    return open_payload(part.path)


def _open_url(url: str) -> tuple[IO[bytes], Header]:
    try:
        stream = open_reader(url, _REMOTE_BLOCK_BYTES)
    except ObjectError as error:
        raise IdxError("cannot open the payload", file=redact(url), got=error) from error
    try:
        header = read_header(stream, redact(url))
        check_payload_size(header, stream.size, redact(url))
    except BaseException:
        stream.close()
        raise
    return stream, header


def _on_this_host(got: object) -> str:
    return f"{'' if got is None else f'{got} '}on host {socket.gethostname()}"
