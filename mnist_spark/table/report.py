"""What an ingest did, for people (a short summary) and, as every report, for machines (JSON)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mnist_spark.decode.trace import TaskTrace
from mnist_spark.errors import MnistSparkError, os_errors
from mnist_spark.storage.files import replacing


@dataclass(frozen=True)
class SourceFile:
    """One file of the source.

    Attributes:
        url: where its bytes came from, without credentials.
        sha256: of the published file, if known.
        payload_sha256: of the decompressed file, as found.
    """

    split: str
    file: str
    url: str
    sha256: str | None
    payload_sha256: str


@dataclass(frozen=True)
class Report:
    """What a command did, as one dataclass."""

    def to_json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON, whole or not at all."""
        write_whole(Path(path), self.to_json() + "\n")


@dataclass(frozen=True)
class IngestReport(Report):
    """What an ingest did.

    Attributes:
        rows: records per split.
        label_counts: records per class and split, in the order of ``classes``.
        writer, writer_reason: who wrote, and why it was chosen.
        transport, transport_reason: how bytes got to the executors, and why so.
        tasks: who decoded which range in what time: the proof that the read was spread. Empty
            where Spark's writer has replaced a table of another layout, and doesn't tell.
        ranges: the record ranges, a task each, as ``split[start:stop]``.
        payload_bytes: decompressed bytes that were decoded.
        downloaded_bytes: bytes that travelled; 0 if all was cached or in a local folder.
        table_version: the Delta table's version; None for Parquet.
        table_files, table_bytes: data files of the commit.
        seconds: per step, in order.
    """

    dataset: str
    generated: bool
    target: str
    format: str
    layout: str
    writer: str
    writer_reason: str
    table_version: int | None
    table_files: int
    table_bytes: int
    rows: Mapping[str, int]
    classes: Sequence[str]
    label_counts: Mapping[str, Sequence[int]]
    transport: str
    transport_reason: str
    ranges: Sequence[str]
    tasks: Sequence[TaskTrace]
    payload_bytes: int
    downloaded_bytes: int
    sources: Sequence[SourceFile]
    seconds: Mapping[str, float]
    package_version: str
    run_id: str

    def summary(self) -> str:
        """A few lines for people."""
        version = "" if self.table_version is None else f" version {self.table_version}"
        width = max(map(len, (*self.classes, "transport")))
        lines = [
            f"{self.dataset}{' (generated sample)' if self.generated else ''} → {self.target}",
            f"  table      {self.format}{version}, layout {self.layout},"
            f" {self.table_files} files, {self.table_bytes / 1e6:.1f} MB",
            f"  writer     {self.writer} ({self.writer_reason})",
            "  rows       " + ", ".join(f"{split} {n:,}" for split, n in self.rows.items()),
            f"  ranges     {len(self.ranges)} from {self.payload_bytes / 1e6:.1f} MB of payload",
            f"  transport  {self.transport} ({self.transport_reason})",
            f"  tasks      {self._tasks() or 'not told'}",
            "  source     "
            + ", ".join(sorted({_folder(s.url) for s in self.sources}))
            + f" ({self.downloaded_bytes / 1e6:.1f} MB downloaded)",
            "  seconds    " + ", ".join(f"{step} {s:.1f}" for step, s in self.seconds.items()),
            f"  {'label':<{width}}" + "".join(f"  {split:>8}" for split in self.rows),
        ]
        for i, name in enumerate(self.classes):
            counts = "".join(f"  {counts[i]:>8,}" for counts in self.label_counts.values())
            lines.append(f"  {name:<{width}}{counts}")
        return "\n".join(lines)

    def _tasks(self) -> str:
        per_executor: dict[str, list[TaskTrace]] = {}
        for task in self.tasks:
            per_executor.setdefault(f"{task.host}/{task.executor}", []).append(task)
        shown = [
            f"{name}: {len(tasks)} in {sum(task.seconds for task in tasks):.1f} s"
            for name, tasks in sorted(per_executor.items())
        ]
        more = f", and {len(shown) - 4} executors more" if len(shown) > 4 else ""
        return ", ".join(shown[:4]) + more


def write_whole(path: Path, text: str) -> None:
    """Writes a report, whole or not at all.

    Raises:
        MnistSparkError: the file can't be written.
    """
    with (
        os_errors(MnistSparkError, "cannot write the report", file=path),
        replacing(path) as stream,
    ):
        stream.write(text.encode())


def _folder(url: str) -> str:
    return url.rpartition("/")[0] + "/"
