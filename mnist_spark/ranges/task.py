"""What one task reads: a record range, and where the bytes of its images and labels are."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_spark.errors import UsageError
from mnist_spark.ranges.plan import RecordRange


@dataclass(frozen=True)
class PayloadSlice:
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
    images: PayloadSlice
    labels: PayloadSlice


def to_values(task: RangeTask) -> list[Any]:
    """The task as plain values, which need no class of this package to be unpickled."""
    records, slices = task.records, (task.images, task.labels)
    return [
        [records.split, records.start, records.stop],
        *([each.path, each.sha256, each.data, each.size] for each in slices),
    ]


def from_values(values: Sequence[Any]) -> RangeTask:
    """The task that :func:`to_values` has described."""
    records, images, labels = values
    return RangeTask(RecordRange(*records), PayloadSlice(*images), PayloadSlice(*labels))


def to_json(tasks: Iterable[RangeTask]) -> str:
    """Tasks as an option of a data source: :func:`to_values`, bytes in base64."""
    values = [to_values(task) for task in tasks]
    return json.dumps(values, separators=(",", ":"), default=_base64)


def from_json(text: str) -> list[RangeTask]:
    """The tasks that :func:`to_json` has described."""
    try:
        tasks = [from_values(values) for values in json.loads(text)]
        return [RangeTask(t.records, _bytes(t.images), _bytes(t.labels)) for t in tasks]
    except (ValueError, TypeError) as error:
        raise UsageError(
            "option tasks", expected="what mnist_spark itself has planned", got=error
        ) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(part: PayloadSlice) -> PayloadSlice:
    """The slice with bytes for its base64, if it has data."""
    if part.data is None:
        return part
    return PayloadSlice(part.path, part.sha256, base64.b64decode(part.data), part.size)
