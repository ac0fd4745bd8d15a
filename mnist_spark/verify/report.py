"""What a verification found, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from mnist_spark.verify.findings import Problem


@dataclass(frozen=True)
class SplitReport:
    """What was found of a split.

    Attributes:
        rows: rows in the table; None if they can't be counted.
        records: records that it should have.
        sha256: of the rebuilt payloads, by role (``images``, ``labels``); empty if they could not
            be rebuilt, or weren't to be.
    """

    rows: int | None
    records: int
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        ok: whether there is no problem.
        dataset: name of the dataset that the table should hold.
        version: the Delta table's version; None for Parquet.
        deep: whether the data was read.
        engine: who read the table.
        problems: what is wrong; the first few of each kind in each split.
        notes: what is unusual and does no harm, or why something wasn't checked.
        splits: by name.
    """

    ok: bool
    target: str
    dataset: str
    format: str
    layout: str
    version: int | None
    deep: bool
    engine: str
    problems: Sequence[Problem]
    notes: Sequence[str]
    splits: Mapping[str, SplitReport]
    seconds: float

    def to_json(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    def summary(self) -> str:
        """A few lines for people."""
        version = "" if self.version is None else f" version {self.version}"
        verdict = "verified" if self.ok else f"{len(self.problems)} problems"
        if self.ok and not self.deep:
            verdict = "intact, contents not read"
        lines = [
            f"{self.target}: {verdict}",
            f"  {self.dataset}, {self.format}{version}, layout {self.layout}, "
            f"{self.seconds:.1f} s, read by {self.engine}",
        ]
        rows = {n: "?" if s.rows is None else f"{s.rows:,}" for n, s in self.splits.items()}
        records = {name: f"{split.records:,}" for name, split in self.splits.items()}
        widths = [
            max(map(len, texts), default=0) for texts in (rows, rows.values(), records.values())
        ]
        for name, split in self.splits.items():
            digests = "".join(f", {role} {sha256[:12]}…" for role, sha256 in split.sha256.items())
            lines.append(
                f"  {name:<{widths[0]}}  {rows[name]:>{widths[1]}} rows of"
                f" {records[name]:>{widths[2]}}{digests}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  {problem}" for problem in self.problems]
        return "\n".join(lines)
