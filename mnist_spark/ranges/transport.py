"""How the bytes of a record range get from the driver to the executor that decodes them.

``shared``: a task opens the payload by path or URL and seeks to its range. ``inline``: the task
carries its range with it, as a compressed IDX payload of its own. Either way it knows the SHA-256
of what the driver has read, and compares. Driver side: :func:`choose_transport`,
:func:`plan_tasks`. Executor side: :func:`open_piece`. Knows nothing of Spark.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mnist_spark.errors import IdxError, IntegrityError, MnistSparkError, UsageError, one_of
from mnist_spark.idx import format as idx
from mnist_spark.ranges.plan import MAX_RANGE_BYTES, RecordRange
from mnist_spark.storage import filesystem as storage

if TYPE_CHECKING:
    from mnist_spark.idx.pair import Pair

INLINE_RANGE_BYTES = 32 << 20
"""Bytes of a range that travels inside its task, before compression: Spark sends a task as one
message of 128 MiB at most (``spark.rpc.message.maxSize``)."""

MAX_INLINE_BYTES = 64 << 20
"""Compressed bytes of such a range, if the user has chosen how many ranges there are."""

AUTO_INLINE_BYTES = 512 << 20
"""Payloads that ``auto`` lets travel inside tasks. Larger ones want a staging location."""

_CHUNK_BYTES = 1 << 20
_REMOTE_BLOCK_BYTES = 8 << 20


class Transport(StrEnum):
    """How bytes travel."""

    AUTO = "auto"
    SHARED = "shared"
    INLINE = "inline"


@dataclass(frozen=True)
class TransportChoice:
    """A transport, never ``auto``, and why it was chosen."""

    transport: Transport
    reason: str

    @property
    def range_bytes(self) -> int:
        """Payload bytes that one range has at most."""
        return INLINE_RANGE_BYTES if self.transport == Transport.INLINE else MAX_RANGE_BYTES


@dataclass(frozen=True)
class Piece:
    """The records of one range in one payload, as a task gets them.

    Attributes:
        path: path or URL of the payload; where to read it, unless ``data`` is here.
        sha256: hex SHA-256 of the range's elements as the driver has read them; None if it
            hasn't, as for files that the user named.
        data: the range as an IDX payload of its own, zstd; None: open ``path``.
        size: bytes of that payload before compression.
    """

    path: str
    sha256: str | None = None
    data: bytes | None = None
    size: int = 0


@dataclass(frozen=True)
class RangeTask:
    """What one task decodes: a range and where its bytes are."""

    records: RecordRange
    images: Piece
    labels: Piece


def choose_transport(
    wanted: str, *, local: bool, staging: str | None, payload_bytes: int
) -> TransportChoice:
    """Resolves ``auto``.

    Args:
        wanted: ``auto``, ``shared`` or ``inline``.
        local: whether the executors are threads or children of the driver's own machine.
        staging: where payloads are put for all nodes, if anywhere.
        payload_bytes: of all payloads.

    Raises:
        UsageError: an unknown transport; ``inline`` with a staging location; ``auto`` for a
            payload that is too large for ``inline`` on a cluster without one.
    """
    transport = one_of(Transport, "transport", wanted)
    staged = None if staging is None else f"staged in {_shown(staging)}"
    if transport == Transport.INLINE and staging is not None:
        raise UsageError(
            "--staging is for the transport shared", expected="shared or auto", got=repr(wanted)
        )
    if transport != Transport.AUTO:
        return TransportChoice(transport, "as asked" + (f", {staged}" if staged else ""))
    if staged is not None:
        return TransportChoice(Transport.SHARED, staged)
    if local:
        return TransportChoice(Transport.SHARED, "executors read the driver's cache folder")
    if payload_bytes > AUTO_INLINE_BYTES:
        raise UsageError(
            "the dataset is too large to travel inside tasks",
            expected=f"at most {AUTO_INLINE_BYTES:,} bytes of payload",
            got=f"{payload_bytes:,}",
            hint="Name a folder or URL that all nodes reach with --staging, or, if they mount the"
            " cache folder, choose --transport shared",
        )
    return TransportChoice(Transport.INLINE, "executors may not see the driver's disk")


def _shown(place: str) -> str:
    return storage.redact(place) if "://" in place else place


# --- Driver side ----------------------------------------------------------------------------------


def plan_tasks(
    pairs: Sequence[Pair],
    ranges: Sequence[RecordRange],
    *,
    places: Mapping[str, str] | None = None,
    checked: bool = True,
) -> list[RangeTask]:
    """The tasks for some ranges, whose bytes the executors will open by path.

    Args:
        pairs: the payloads, on the driver's disk.
        places: payload → path or URL under which executors find it, if it's another.
        checked: whether to give each task the digest of what it has to read, for which the
            driver reads the payloads once.

    Raises:
        IdxError: a payload is no longer what it was when its pair was opened.
    """
    by_split = {pair.split: pair for pair in pairs}
    places = places or {}

    def plan(records: RecordRange) -> RangeTask:
        pair = by_split[records.split]
        images, labels = (
            Piece(
                places.get(path, path),
                _range_digest(path, header, records) if checked else None,
            )
            for path, header in (
                (pair.images, pair.image_header),
                (pair.labels, pair.label_header),
            )
        )
        return RangeTask(records, images, labels)

    # Digests release Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(plan, ranges))


def carry(task: RangeTask) -> RangeTask:
    """The same task with its bytes inside, read from where they are now: the driver's disk.

    Raises:
        UsageError: the range is too large for one message of Spark's.
        IdxError: a payload can't be opened or is no longer what it was.
    """
    if task.images.data is not None:
        return task
    images, labels = (_carried(piece, task.records) for piece in (task.images, task.labels))
    return replace(task, images=images, labels=labels)


def _carried(piece: Piece, records: RecordRange) -> Piece:
    stream, header = idx.open_payload(piece.path)
    stream.close()
    alone = idx.Header(header.dtype, (records.records, *header.record_shape))
    payload = bytearray(alone.pack())
    for chunk in _elements(piece.path, header, records):
        payload += chunk
    data = pa.Codec("zstd", compression_level=1).compress(payload, asbytes=True)
    if len(data) > MAX_INLINE_BYTES:
        raise UsageError(
            "a range is too large to travel inside its task",
            record_range=str(records),
            expected=f"at most {MAX_INLINE_BYTES:,} compressed bytes",
            got=f"{len(data):,}",
            hint="Use more ranges, or a staging location",
        )
    sha256 = piece.sha256 or hashlib.sha256(memoryview(payload)[alone.size :]).hexdigest()
    return Piece(piece.path, sha256, data, len(payload))


def _range_digest(path: str, header: idx.Header, records: RecordRange) -> str:
    digest = hashlib.sha256()
    for chunk in _elements(path, header, records):
        digest.update(chunk)
    return digest.hexdigest()


def _elements(path: str, header: idx.Header, records: RecordRange) -> Iterator[bytes]:
    """The bytes of a range's elements, in chunks."""
    left = records.records * header.record_size
    with open(path, "rb") as stream:
        stream.seek(header.size + records.start * header.record_size)
        while left:
            chunk = stream.read(min(_CHUNK_BYTES, left))
            if not chunk:
                raise IdxError("the payload was cut short", file=path, record_range=str(records))
            left -= len(chunk)
            yield chunk


# --- Between them ---------------------------------------------------------------------------------


def to_json(tasks: Iterable[RangeTask]) -> str:
    """The tasks as an option of a data source."""
    return json.dumps(
        [
            [*_values(task.records), *map(_piece_values, (task.images, task.labels))]
            for task in tasks
        ],
        separators=(",", ":"),
    )


def from_json(text: str) -> list[RangeTask]:
    """What :func:`to_json` has made.

    Raises:
        UsageError: something else.
    """
    try:
        return [
            RangeTask(RecordRange(split, start, stop), _piece(*images), _piece(*labels))
            for split, start, stop, images, labels in json.loads(text)
        ]
    except (ValueError, TypeError) as error:
        raise UsageError(
            "option tasks", expected="what mnist_spark itself has planned", got=error
        ) from error


def _values(records: RecordRange) -> tuple[str, int, int]:
    return records.split, records.start, records.stop


def _piece_values(piece: Piece) -> list[Any]:
    data = None if piece.data is None else base64.b64encode(piece.data).decode()
    return [piece.path, piece.sha256, data, piece.size]


def _piece(path: str, sha256: str | None, data: str | None, size: int) -> Piece:
    return Piece(path, sha256, None if data is None else base64.b64decode(data), size)


# --- Executor side --------------------------------------------------------------------------------


class OpenPiece:
    """A piece that can be read in order, batch by batch.

    Attributes:
        header: of the payload at hand: the whole one, or the range alone if that travelled.
    """

    def __init__(self, piece: Piece, records: RecordRange, stream: IO[bytes], header: idx.Header):
        self.header = header
        self._piece = piece
        self._records = records
        self._stream = stream
        self._base = 0 if piece.data is None else records.start
        self._digest = hashlib.sha256()

    @property
    def end(self) -> int:
        """Index after the last record that is at hand."""
        return self._base + self.header.records

    def read(self, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Records ``start`` up to ``stop`` of the split, as :func:`idx.read_records` gives them.

        Raises:
            IdxError: they aren't there.
        """
        elements = idx.read_records(
            self._stream, self.header, start - self._base, stop - self._base, self._piece.path
        )
        if self._piece.sha256 is not None:
            self._digest.update(elements.data)
        return elements

    def check(self) -> None:
        """Compares what was read, the whole range, with what the driver had read.

        Raises:
            IntegrityError: it differs.
        """
        if self._piece.sha256 not in (None, self._digest.hexdigest()):
            raise IntegrityError(
                "an executor has read other bytes than the driver",
                file=self._piece.path,
                record_range=str(self._records),
                expected=f"SHA-256 {self._piece.sha256}",
                got=f"{self._digest.hexdigest()} on host {socket.gethostname()}",
                hint="Remove the file if it is staged, and run again",
            )


@contextlib.contextmanager
def open_piece(piece: Piece, records: RecordRange) -> Iterator[OpenPiece]:
    """Executor side: opens a piece, wherever it is, and checks header and length.

    Raises:
        IdxError: it can't be opened from here, which names the host, or isn't valid IDX.
        IntegrityError: it was damaged on its way.
    """
    try:
        stream, header = _open(piece)
    except MnistSparkError as error:
        raise error.within(record_range=str(records), got=_on_this_host(error.got)) from error
    with stream:
        yield OpenPiece(piece, records, stream, header)


def _open(piece: Piece) -> tuple[IO[bytes], idx.Header]:
    if piece.data is not None:
        try:
            codec = pa.Codec("zstd")
            payload = codec.decompress(piece.data, decompressed_size=piece.size, asbytes=True)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise IntegrityError(
                "the bytes of a task were damaged on their way", file=piece.path, got=error
            ) from error
        stream: IO[bytes] = BytesIO(payload)
        header = idx.read_header(stream, piece.path)
        idx.check_payload_size(header, len(payload), piece.path)
        return stream, header
    if "://" in piece.path:
        return _open_url(piece.path)
    return idx.open_payload(piece.path)


def _open_url(url: str) -> tuple[IO[bytes], idx.Header]:
    filesystem, path = storage.filesystem(url)
    try:
        stream = filesystem.open(path, "rb", block_size=_REMOTE_BLOCK_BYTES)
    except Exception as error:
        raise IdxError(
            "cannot open the payload", file=storage.redact(url), got=storage.reason(error)
        ) from error
    try:
        header = idx.read_header(stream, storage.redact(url))
        idx.check_payload_size(header, stream.size, storage.redact(url))
    except BaseException:
        stream.close()
        raise
    return stream, header


def _on_this_host(got: object) -> str:
    return f"{'' if got is None else f'{got} '}on host {socket.gethostname()}"
