"""Whether a table has to be written, and why. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.errors import TableError
from mnist_spark.history import Version, history
from mnist_spark.refresh.config import TableConfig
from mnist_spark.refresh.source import Source
from mnist_spark.table.properties import Properties, check_replaceable, source_digests
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format


class Cause(StrEnum):
    """Why a table has to be written."""

    MISSING = "missing"
    CHANGED = "source changed"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Decision:
    """What to do with a table.

    Attributes:
        cause: None if there is nothing to do.
        reason: the finding behind it, for people.
        version: of the Delta table as it is; None if there is none.
        rows: per split, as far as the table was looked at.
        sha256: of the payloads that the table was made from, by ``split.role``.
    """

    cause: Cause | None
    reason: str
    version: int | None = None
    rows: Mapping[str, int] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


def decide(table: TableConfig, source: Source, *, deep: bool) -> Decision:
    """Compares the table with what its source has.

    A table at a path or in cloud storage is looked at within this process; a catalog's needs the
    active Spark session.

    Args:
        deep: read all rows and compare them with the source's digests, not only what the table
            says of itself.

    Raises:
        TableError: the target is another table, or can't be opened.
    """
    existing = _inspect(table.target, table.format)
    if existing is None:
        return Decision(Cause.MISSING, "there is no table")
    digests = source_digests(existing)
    versions = history(table.target.text) if table.format == Format.DELTA else []
    version = versions[0].version if versions else None
    if source.dataset is None:
        # A dry run downloads nothing, so it can't say whether the bytes differ.
        return Decision(Cause.CHANGED, source.reason, version, sha256=digests)
    check_replaceable(table.target, existing, source.dataset, table.layout, force=False)
    if change := _change(source.dataset, table.split, digests):
        cause, reason = change
        return Decision(cause, reason, version, sha256=digests)
    if (unfinished := _unfinished(versions, digests)) is not None:
        reason = f"the ingest of version {unfinished} was killed before it noted its source"
        return Decision(Cause.DAMAGED, reason, version, sha256=digests)

    from mnist_spark.verify import verify

    try:
        report = verify(
            table.target.text,
            deep=deep,
            dataset=source.argument,
            source=table.source,
            cache=source.cache,
        )
    except TableError as error:
        # It can be opened but not read: a data file is cut short, say. Elsewhere than on a disk it
        # may as well be the network, and nothing is rewritten for that.
        if table.target.local is None:
            raise
        return Decision(Cause.DAMAGED, str(error), version, sha256=digests)
    counted = {name: split.rows for name, split in report.splits.items()}
    rows = {name: n for name, n in counted.items() if n is not None}
    # A problem in a split that this table doesn't write isn't mended by writing it.
    ours = [split.name for split in source.dataset.select(table.split)]
    whole = len(ours) == len(source.dataset.splits)
    problems = [p for p in report.problems if whole or p.split is None or p.split in ours]
    if not problems:
        how = "contents verified" if deep else "intact"
        reason = f"{how}; the source is the same: {source.reason}"
        return Decision(None, reason, report.version, rows, digests)
    more = len(problems) - 1
    reason = f"{problems[0]}{f', and {more} more problems' if more else ''}"
    return Decision(Cause.DAMAGED, reason, report.version, rows, digests)


def _change(
    dataset: Dataset, splits: tuple[str, ...], digests: Mapping[str, str]
) -> tuple[Cause, str] | None:
    """What of the source isn't in the table, going by the digests that the table notes."""
    for split in dataset.select(splits):
        for role, file in zip(("images", "labels"), split.files, strict=True):
            recorded, now = digests.get(f"{split.name}.{role}"), file.payload_sha256
            if recorded is None:
                return Cause.MISSING, f"the split {split.name} is not in the table"
            if now is not None and now != recorded:
                return (
                    Cause.CHANGED,
                    f"{split.name} {role}: SHA-256 {now[:12]}…, was {recorded[:12]}…",
                )
    return None


def _unfinished(versions: Sequence[Version], digests: Mapping[str, str]) -> int | None:
    """The latest ingest's version if the table's properties don't say what its commit says.

    They are two commits. Killed between them, the rows are new and what the table says is old; if
    the source then goes back to what it was, nothing else would tell.
    """
    latest = next((version for version in versions if version.sha256), None)
    if latest is None or set(latest.sha256.values()) <= set(digests.values()):
        return None
    return latest.version


def _inspect(target: Target, table_format: Format) -> Properties | None:
    """What the table says of itself; None if there is none."""
    if table_format == Format.PARQUET:
        from mnist_spark.table import parquet

        return parquet.inspect(target)
    if not target.needs_spark:
        from mnist_spark.table import delta

        table = delta.open_table(target)
        return None if table is None else delta.inspect(table)

    from mnist_spark.spark import session
    from mnist_spark.table import delta_spark

    return delta_spark.inspect(session.session(), target)
