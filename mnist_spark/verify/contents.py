"""A split's rows, window by window: digests of the payloads, and where they differ from the source.

SHA-256 can't be combined from digests of parts. So the windows are digested in order, here in this
process; :mod:`mnist_spark.verify.distributed` says how executors share the work.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mnist_spark import progress
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.catalog.schema import TableSchema
from mnist_spark.download.cache import PAYLOADS
from mnist_spark.download.check import sha256_of
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.payload import unpack_all
from mnist_spark.errors import MnistSparkError, TableError
from mnist_spark.idx import format as idx
from mnist_spark.idx.read import iter_records
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.transport import range_sha256
from mnist_spark.table.reader import TableReader
from mnist_spark.verify import distributed
from mnist_spark.verify.expected import ROLES, Expected, ExpectedSplit
from mnist_spark.verify.findings import FIRST, Findings, Problem, What
from mnist_spark.verify.rebuild import Window, rebuilt_from

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from tqdm import tqdm

Buffer = memoryview | bytes

WINDOW_BYTES = 64 << 20
"""Payload bytes that are rebuilt at a time: 85,598 images of 28×28."""


@dataclass(frozen=True)
class Contents:
    """Checks what the rows hold, split by split.

    Attributes:
        inputs: where the dataset's files are, if a source was named, and the cache.
        executors: whose executors rebuild the windows; None: this process does.
    """

    table: TableReader
    expected: Expected
    inputs: Inputs
    findings: Findings
    executors: SparkSession | None

    def check(self, split: ExpectedSplit) -> dict[str, str]:
        """Rebuilds and digests a split's payloads; if they differ, says where.

        Returns:
            SHA-256 of the rebuilt payloads by role, as far as they could be rebuilt.
        """
        try:
            sha256, suspects = self._digest(split)
            differing = [role for role in split.sha256 if sha256.get(role) != split.sha256[role]]
            for role in differing:
                got = sha256.get(role, f"another, by {len(suspects)} of its ranges")
                self.findings.add(
                    Problem(What.DIGEST, split.name, None, role, split.sha256[role], got)
                )
            if differing:
                self._locate(split, differing, suspects)
        except TableError as error:
            self.findings.add(Problem(What.FILE, split.name, got=str(error.got or error)))
            return {}
        return sha256

    def _digest(self, split: ExpectedSplit) -> tuple[dict[str, str], list[RecordRange]]:
        """SHA-256 by role, and the ranges that may differ from the source."""
        ranges = list(windows(split, self.expected.schema))
        files = None if self.executors is None else self.table.files()
        with progress.bar("verifying", split.records, "rows") as bar:
            if self.executors is None or files is None:
                if self.executors is not None:
                    why = "rebuilt by this process, as executors cannot read such a table"
                    self.findings.notes.append(f"{split.name}: {why}")
                return _digest(split, self._rebuilt_here(ranges, bar)), ranges
            payloads = self._payloads(split)
            both = payloads.keys() == split.headers.keys()
            expected = self.expected
            rebuilt = distributed.rebuild_all(
                self.executors,
                files,
                ranges,
                expected.schema,
                expected.classes,
                self.findings,
                with_bytes=not both,
                advance=bar.update,
            )
            if not both:
                parts = ((window.images, window.labels) for window in rebuilt)
                return _digest(split, parts), ranges
            suspects, right = [], dict(split.sha256)
            for records, window in zip(ranges, rebuilt, strict=True):
                for role, path in payloads.items():
                    sha256 = range_sha256(str(path), split.headers[role], records)
                    if window.sha256[role] != sha256:
                        right.pop(role, None)
                        suspects.append(records)
            return right, list(dict.fromkeys(suspects))

    def _rebuilt_here(
        self, ranges: Sequence[RecordRange], bar: tqdm[NoReturn]
    ) -> Iterator[tuple[Buffer, Buffer]]:
        for records in ranges:
            window = rebuild(self.table, records, self.expected, self.findings)
            yield window.images.data, window.labels.data
            del window
            bar.update(records.records)

    def _payloads(self, split: ExpectedSplit) -> dict[str, Path]:
        """The source's, as far as they are at hand."""
        try:
            return find_payloads(split, self.expected.dataset, self.inputs)
        except MnistSparkError as error:
            self.findings.notes.append(f"{split.name}: the source isn't available: {error}")
            return {}

    def _locate(
        self, split: ExpectedSplit, differing: Sequence[str], suspects: Sequence[RecordRange]
    ) -> None:
        """Compares the records with the source's."""
        payloads = {r: path for r, path in self._payloads(split).items() if r in differing}
        if len(payloads) < len(differing):
            without = ", ".join(sorted(set(differing) - set(payloads)))
            self.findings.notes.append(
                f"{split.name}: which {without} differ can be said only with the source (--source)"
            )
        for records in suspects if payloads else ():
            # What the rebuilding finds is known already.
            window = rebuild(self.table, records, self.expected, Findings())
            for role, path in payloads.items():
                _compare(window, role, path, self.expected.schema, self.findings)


def _digest(split: ExpectedSplit, parts: Iterable[tuple[Buffer, Buffer]]) -> dict[str, str]:
    """SHA-256 by role, of images and labels in order."""
    digests = {role: hashlib.sha256(header.pack()) for role, header in split.headers.items()}
    for images, labels in parts:
        digests["images"].update(images)
        digests["labels"].update(labels)
        del images, labels  # else there would be two windows at a time
    return {role: digest.hexdigest() for role, digest in digests.items()}


def windows(split: ExpectedSplit, schema: TableSchema) -> Iterator[RecordRange]:
    """The split's records in order, in ranges that memory holds."""
    step = max(1, WINDOW_BYTES // schema.record_bytes)
    for start in range(0, split.records, step):
        yield RecordRange(split.name, start, min(start + step, split.records))


def rebuild(
    table: TableReader, records: RecordRange, expected: Expected, findings: Findings
) -> Window:
    """The records of a range, from the table's rows."""
    window = Window(records, expected.schema, expected.classes, findings)
    columns = rebuilt_from(expected.schema)
    window.fill(table.batches(records.split, records.start, records.stop, columns))
    return window


def _compare(
    window: Window, role: str, path: Path, schema: TableSchema, findings: Findings
) -> None:
    start, stop = window.records.start, window.records.stop
    what, rebuilt = {
        "images": (What.PIXEL, window.images),
        "labels": (What.LABEL, window.labels),
    }[role]
    stream, header = idx.open_payload(path)
    with stream:
        for first, records in iter_records(stream, header, path, start, stop):
            source = records.reshape(len(records), -1)
            some = slice(first - start, first - start + len(records))
            got = rebuilt[some]
            differs = (got != source) & (window.rows[some] > 0)[:, None]
            rows, places = np.nonzero(differs)
            findings.add_records(
                what,
                window.records.split,
                first + rows,
                [
                    schema.pixel_name(place) if role == "images" else schema.label_columns[place]
                    for place in places[:FIRST]
                ],
                source[rows, places],
                got[rows, places],
            )


def find_payloads(split: ExpectedSplit, dataset: Dataset | None, inputs: Inputs) -> dict[str, Path]:
    """Paths of the split's payloads by role, of exactly the expected digests.

    They come from the named source, or from the cache. Nothing is downloaded if none is named.

    Raises:
        MnistSparkError: the named source doesn't have them.
    """
    found = {}
    if inputs.source is not None and dataset is not None:
        (wanted,) = dataset.select(split.name)
        fetched = fetch(dataset, [wanted], inputs)
        payloads = unpack_all(fetched, inputs.cache)
        for role, file in zip(ROLES, wanted.files, strict=True):
            payload = payloads[file.name]
            if payload.sha256 == split.sha256.get(role):
                found[role] = payload.path
    for role, sha256 in split.sha256.items():
        path = inputs.cache / PAYLOADS / f"{sha256}.idx"
        with contextlib.suppress(OSError):  # it isn't there
            if role not in found and sha256_of(path) == sha256:
                found[role] = path
    return found
