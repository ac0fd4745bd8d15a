"""What a verification finds: the first problems of each kind, how many more, and the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from mnist_spark.decode.window import NAMED, Fault
from mnist_spark.table.report import Report

FIRST = NAMED
"""Findings of one kind and split that are told one by one; the rest is counted."""


class What(StrEnum):
    """Kinds of problems."""

    PROPERTY = "table property"
    COLUMN = "column"
    SPLIT = "partition value"
    FILE = "data file"
    COUNT = "number of records"
    INDEX = "index outside the split"
    MISSING = "missing record"
    DUPLICATE = "rows of one record"
    NULL = Fault.NULL
    SIZE = Fault.SIZE
    PIXEL_RANGE = Fault.PIXEL_RANGE
    LABEL_RANGE = Fault.LABEL_RANGE
    DIGEST = "SHA-256 of the rebuilt payload"
    PIXEL = "pixel differs from the source"
    LABEL = "label differs from the source"


@dataclass(frozen=True)
class Problem:
    """Something that isn't as it should be.

    Attributes:
        split, record, column: where, as far as that can be said; records count from 0. A pixel's
            column is its own, or ``image[i]``.
        expected, got: what should be there, and what is.
        more: how many others of the kind are in the split beyond those that are told.
    """

    what: What
    split: str | None = None
    record: int | None = None
    column: str | None = None
    expected: str | int | None = None
    got: str | int | None = None
    more: int = 0

    def __str__(self) -> str:
        place = [
            self.split,
            None if self.record is None else f"record {self.record}",
            self.column,
        ]
        line = ", ".join(part for part in place if part is not None)
        line = f"{line}: {self.what}" if line else str(self.what)
        if self.expected is not None:
            line += f": expected {self.expected}"
        if self.got is not None:
            line += f"{',' if self.expected is not None else ':'} got {self.got}"
        return line + (f"; and {self.more:,} more" if self.more else "")


class Findings:
    """Collects problems, and notes: what is worth telling but no problem."""

    def __init__(self) -> None:
        self._kept: dict[tuple[What, str | None], list[Problem]] = {}
        self._count: dict[tuple[What, str | None], int] = {}
        self.notes: list[str] = []

    def add(self, problem: Problem, count: int = 1) -> None:
        """Adds a problem.

        Args:
            count: how many of its kind and split it stands for.
        """
        key = problem.what, problem.split
        kept = self._kept.setdefault(key, [])
        if len(kept) < FIRST:
            kept.append(problem)
        self._count[key] = self._count.get(key, 0) + count

    def add_records(
        self,
        what: What,
        split: str,
        records: npt.NDArray[Any],
        columns: Sequence[str | None] | str | None = None,
        expected: npt.NDArray[Any] | int | str | None = None,
        got: npt.NDArray[Any] | None = None,
    ) -> None:
        """Adds a problem for each of some records.

        Args:
            records: their numbers.
            columns: for each, of which the first :data:`FIRST` will do, or one for all.
            expected: for each, or one for all.
            got: for each.
        """
        for i, record in enumerate(records[:FIRST].tolist()):
            problem = Problem(
                what,
                split,
                record,
                columns if columns is None or isinstance(columns, str) else columns[i],
                int(expected[i]) if isinstance(expected, np.ndarray) else expected,
                None if got is None else int(got[i]),
            )
            # The last one that is told stands for the rest too.
            self.add(problem, 1 if i < FIRST - 1 else len(records) - i)

    def extend(self, problems: Iterable[Problem]) -> None:
        """Adds what was found elsewhere."""
        for problem in problems:
            self.add(replace(problem, more=0), 1 + problem.more)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """By kind and split, in the order of discovery."""
        found: list[Problem] = []
        for key, kept in self._kept.items():
            found += [*kept[:-1], replace(kept[-1], more=self._count[key] - len(kept))]
        return tuple(found)


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
class VerifyReport(Report):
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
