"""What a writer is asked to write, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import uuid4

from mnist_spark import progress
from mnist_spark._version import __version__
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.catalog.schema import TableSchema
from mnist_spark.decode.parquet_file import DataFile
from mnist_spark.decode.trace import TaskTrace
from mnist_spark.download.split import PreparedSplit
from mnist_spark.errors import ConflictError
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.staging import stage
from mnist_spark.ranges.task import RangeTask
from mnist_spark.ranges.transport import Transport, TransportChoice, plan_tasks
from mnist_spark.table.properties import Properties, source_digests, table_properties
from mnist_spark.table.target import Target
from mnist_spark.table.versions import Version

NUMBERED = "mnist_spark.numbered"
"""Delta's application id of the jobs whose transactions the caller numbers."""

_SHARED = TransportChoice(Transport.SHARED, "executors read the driver's cache folder")

_MAX_PROBES = 16


@dataclass(frozen=True, kw_only=True)
class WriteJob:
    """One ingest, as all writers take it.

    Attributes:
        splits: what to write: all splits of the dataset, or those that are to be replaced.
        ranges: how the splits are read, a task each.
        parallelism: tasks that can run at once.
        force: whether a table that isn't ours, or of another dataset or layout, may be replaced.
        transport: how the payloads' bytes get to the executors.
        staging: the folder or URL where they are put for that, if anywhere.
        transaction: see :func:`mnist_spark.ingest`.
        run_id: identifies this run in the table's history.
    """

    target: Target
    dataset: Dataset
    schema: TableSchema
    splits: Sequence[PreparedSplit]
    ranges: Sequence[RecordRange]
    parallelism: int
    force: bool = False
    transport: TransportChoice = _SHARED
    staging: str | None = None
    transaction: int | None = None
    run_id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def probes(self) -> int:
        """How many executors to ask whether they reach the table.

        Where the parallelism is unknown it is 1, and the ranges tell how many there may be.
        """
        return max(self.parallelism, min(len(self.ranges), _MAX_PROBES))

    @cached_property
    def tasks(self) -> list[RangeTask]:
        """The ranges with where their bytes are. Stages the payloads, if they are to be."""
        pairs = [split.pair for split in self.splits]
        payloads = [payload for split in self.splits for payload in split.payloads]
        places = {}
        if self.staging is not None:
            places = {str(p.path): stage(p.path, p.sha256, self.staging) for p in payloads}
        known = {str(p.path): p.parts for p in payloads}
        total = sum(records.records for records in self.ranges)
        with progress.bar("planning", total, "rows") as bar:
            return plan_tasks(pairs, self.ranges, places=places, known=known, advance=bar.update)

    def overtaken(self, versions: Sequence[Version]) -> ConflictError:
        """What a writer raises if the table has a transaction of that number or a later one.

        Args:
            versions: the table's latest, among them that of the other run.
        """
        return ConflictError(
            "another run has written the table meanwhile",
            file=self.target,
            expected=f"no transaction from {self.transaction} on",
            got=next((each.origin() for each in versions if each.run), None),
            hint="Look whether there is anything left to do",
        )

    @property
    def properties(self) -> dict[str, str]:
        """What the table says of itself once it is written."""
        return table_properties(self.dataset, self.schema.layout, self.splits)

    @property
    def inline(self) -> bool:
        """Whether the bytes travel inside the tasks."""
        return self.transport.transport == Transport.INLINE

    @property
    def whole(self) -> bool:
        """Whether the job replaces the whole table, not some of its splits."""
        return len(self.splits) == len(self.dataset.splits)

    @property
    def split_names(self) -> list[str]:
        """Names of the splits to write."""
        return [split.name for split in self.splits]

    def commit_metadata(self, before: Properties | None, *, writer: str) -> str:
        """JSON for the table's history: which bytes this version was made from.

        Args:
            before: the table that is replaced; the digests of other bytes that it was made from
                are noted too.
            writer: who writes, ``columnar`` or ``spark``.
        """
        new = {
            f"{split.name}.{role}": payload.sha256
            for split in self.splits
            for role, payload in zip(("images", "labels"), split.payloads, strict=True)
        }
        old = {} if before is None else source_digests(before)
        replaced = {key: old[key] for key in new if key in old and old[key] != new[key]}
        return json.dumps(
            {
                "mnist_spark": __version__,
                "run": self.run_id,
                "dataset": self.dataset.name,
                "writer": writer,
                "rows": {split.name: split.pair.records for split in self.splits},
                "sha256": {p.file.name: p.sha256 for s in self.splits for p in s.payloads},
            }
            | ({"replaced_sha256": replaced} if replaced else {})
        )


@dataclass(frozen=True)
class Written:
    """What a writer has committed.

    Attributes:
        version: the Delta table's version; None for Parquet.
        files: number of data files of the commit.
        bytes: their size.
        tasks: who decoded which range, in the order of the ranges.
    """

    version: int | None
    files: int
    bytes: int
    tasks: Sequence[TaskTrace]

    @classmethod
    def of_files(cls, version: int | None, files: Sequence[DataFile]) -> Written:
        """What the columnar writers have committed."""
        size, traces = sum(file.size for file in files), [file.trace for file in files]
        return cls(version, len(files), size, traces)
