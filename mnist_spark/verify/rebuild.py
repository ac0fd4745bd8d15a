"""A window of records, rebuilt from rows, and what is wrong with them.

Its pixels and labels have their place in the payload. Knows nothing of Spark; executors run it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.table_rows import TableFiles
from mnist_spark.decode.window import Fault, RecordWindow
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.verify.findings import Findings, What

WINDOW = "images_sha256 string, labels_sha256 string, problems string, images binary, labels binary"
"""What :func:`rebuild_window` returns, as Spark types."""


def rebuilt_from(schema: TableSchema) -> list[str]:
    """Names of the columns that a window is rebuilt from."""
    return [*schema.pixel_columns, *schema.label_columns, "index"]


class Window(RecordWindow):
    """The records of a range, with what is wrong among the findings.

    Args:
        classes: the labels that there may be.
    """

    def __init__(
        self, records: RecordRange, schema: TableSchema, classes: range, findings: Findings
    ) -> None:
        names = schema.pixel_columns, schema.label_columns
        super().__init__(records, schema.image_shape, *names, schema.labels, classes)
        self._findings = findings

    def fill(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Puts rows in their places; then notes records that are missing or there twice."""
        super().fill(batches)
        start, missing, several = self.records.start, self.rows == 0, self.rows > 1
        add = self._findings.add_records
        add(What.MISSING, self.records.split, start + np.flatnonzero(missing))
        twice = start + np.flatnonzero(several)
        add(What.DUPLICATE, self.records.split, twice, expected=1, got=self.rows[several])

    def note(self, fault: Fault, *args: Any, **kwargs: Any) -> None:
        """Adds findings."""
        self._findings.add_records(What(fault), self.records.split, *args, **kwargs)


def rebuild_window(
    files: TableFiles,
    records: RecordRange,
    schema: TableSchema,
    classes: range,
    *,
    with_bytes: bool,
) -> tuple[Any, ...]:
    """A window of a table, as :data:`WINDOW` describes it."""
    findings = Findings()
    window = Window(records, schema, classes, findings)
    window.fill(files.rows(records, rebuilt_from(schema)))
    parts = window.images.data, window.labels.data
    problems = [
        (p.what, p.split, p.record, p.column, p.expected, p.got, p.more) for p in findings.problems
    ]
    return (
        *(hashlib.sha256(part).hexdigest() for part in parts),
        json.dumps(problems),
        *(bytes(part if with_bytes else b"") for part in parts),
    )
