"""How the bytes of a record range get from the driver to the executor that decodes them.

``shared``: a task opens the payload by path or URL and seeks to its range. ``inline``: the task
carries its range with it, as a compressed IDX payload of its own. Either way it knows the SHA-256
of what the driver has read, and compares. This is the driver's half; the executor's half is
:mod:`mnist_spark.decode.payload`. Knows nothing of Spark.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import pyarrow as pa

from mnist_spark.errors import UsageError, one_of
from mnist_spark.idx.format import Header, open_payload
from mnist_spark.idx.read import iter_records
from mnist_spark.ranges.plan import MAX_RANGE_BYTES, RecordRange
from mnist_spark.ranges.task import PayloadSlice, RangeTask
from mnist_spark.storage.urls import shown

if TYPE_CHECKING:
    from mnist_spark.idx.pair import Pair

INLINE_RANGE_BYTES = 32 << 20
"""Bytes of a range that travels inside its task, before compression: Spark sends a task as one
message of 128 MiB at most (``spark.rpc.message.maxSize``)."""

MAX_INLINE_BYTES = 64 << 20
"""Compressed bytes of such a range, if the user has chosen how many ranges there are."""

AUTO_INLINE_BYTES = 512 << 20
"""Payloads that ``auto`` lets travel inside tasks. Larger ones want a staging location."""


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
    staged = None if staging is None else f"staged in {shown(staging)}"
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


def plan_tasks(
    pairs: Sequence[Pair],
    ranges: Sequence[RecordRange],
    *,
    places: Mapping[str, str] | None = None,
    known: Mapping[str, Mapping[tuple[int, int], str]] | None = None,
    checked: bool = True,
    advance: Callable[[int], object] = lambda _: None,
) -> list[RangeTask]:
    """The tasks for some ranges, whose bytes the executors will open by path.

    Args:
        pairs: the payloads, on the driver's disk.
        places: payload → path or URL under which executors find it, if it's another.
        known: payload → digests of parts of it, as :mod:`mnist_spark.download.digests` has them.
        checked: whether to give each task the digest of what it has to read. Those that aren't
            known the driver computes from the payloads.
        advance: told how many records have been planned since.

    Raises:
        IdxError: a payload is no longer what it was when its pair was opened.
    """
    by_split = {pair.split: pair for pair in pairs}
    places, known = places or {}, known or {}

    def sha256(path: str, header: Header, records: RecordRange) -> str:
        start, stop = (
            header.size + number * header.record_size for number in (records.start, records.stop)
        )
        found = known.get(path, {}).get((start, stop))
        return found or range_sha256(path, header, records)

    def plan(records: RecordRange) -> RangeTask:
        pair = by_split[records.split]
        images, labels = (
            PayloadSlice(
                places.get(path, path),
                sha256(path, header, records) if checked else None,
            )
            for path, header in (
                (pair.images, pair.image_header),
                (pair.labels, pair.label_header),
            )
        )
        return RangeTask(records, images, labels)

    tasks: list[RangeTask] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # digests release Python's lock
        for task in pool.map(plan, ranges):
            tasks.append(task)
            advance(task.records.records)
    return tasks


def carry(task: RangeTask) -> RangeTask:
    """The same task with its bytes inside, read from where they are now: the driver's disk.

    Raises:
        UsageError: the range is too large for one message of Spark's.
        IdxError: a payload can't be opened or is no longer what it was.
    """
    if task.images.data is not None:
        return task
    images, labels = (_with_data(each, task.records) for each in (task.images, task.labels))
    return RangeTask(task.records, images, labels)


def _with_data(part: PayloadSlice, records: RecordRange) -> PayloadSlice:
    stream, header = open_payload(part.path)
    stream.close()
    alone = Header(header.dtype, (records.records, *header.record_shape))
    payload = bytearray(alone.pack())
    for chunk in _elements(part.path, header, records):
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
    sha256 = part.sha256 or hashlib.sha256(memoryview(payload)[alone.size :]).hexdigest()
    return PayloadSlice(part.path, sha256, data, len(payload))


def range_sha256(path: str, header: Header, records: RecordRange) -> str:
    """Hex SHA-256 of a range's elements in a payload."""
    digest = hashlib.sha256()
    for chunk in _elements(path, header, records):
        digest.update(chunk)
    return digest.hexdigest()


def _elements(path: str, header: Header, records: RecordRange) -> Iterator[memoryview]:
    """The bytes of a range's elements, in chunks."""
    with open(path, "rb") as stream:
        for _, chunk in iter_records(stream, header, path, records.start, records.stop):
            yield chunk.data
