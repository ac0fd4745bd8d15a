"""Two ingests of one table at once: each row is in it once, whoever wins."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import TableError, UsageError
from mnist_spark.spark.tasks import write_files
from mnist_spark.table import delta_columnar
from mnist_spark.table.job import NUMBERED, WriteJob
from tests.support.jobs import write_job
from tests.support.processes import until
from tests.support.tables import dataset_of, difference, expected, normal

ROUNDS = 2


def right(path: Path, dataset: catalog.Dataset) -> None:
    found = normal(dataset_of(path).to_table())
    assert not difference(found, expected(dataset, "binary"))


def versions_are_whole(path: Path, sizes: set[int]) -> None:
    """Every version can be read and has each row once."""
    for version in range(DeltaTable(str(path)).version() + 1):
        rows = dataset_of(path, version).to_table(["split", "index"]).to_pylist()
        assert len({(row["split"], row["index"]) for row in rows}) == len(rows)
        assert len(rows) in sizes, version


@pytest.mark.parametrize("others", ["columnar", "spark"])
def test_two_ingests_at_once(drivers, narrow, tmp_path, others):
    pair = drivers.take(2)
    order = {"dataset": narrow.description, "cache": narrow.cache, "layout": "binary"}
    done = 0
    for _ in range(ROUNDS):
        path = tmp_path / "t"  # the first creates it
        for driver, writer in zip(pair, ("columnar", others), strict=True):
            driver.start(target=path, writer=writer, **order)
        answers = [driver.answer() for driver in pair]
        failed = [answer for answer in answers if "error" in answer]
        done += 2 - len(failed)
        assert len(failed) < 2, failed
        for answer in failed:
            assert answer["error"] == "ConflictError"
            assert re.search("[Rr]un (the ingest|this one) again", answer["line"])
        right(path, narrow.dataset)
        versions = [answer["table_version"] for answer in answers if "error" not in answer]
        assert len(set(versions)) == len(versions)
    versions_are_whole(path, {0, 3500})
    if others == "columnar":
        assert done == 2 * ROUNDS  # ours wait for nobody and lose to nobody


def test_a_transaction_happens_once(write, narrow, tmp_path):
    """Whichever writer has written it, and whichever comes late."""
    path = tmp_path / "t"
    refused = "another run has written the table meanwhile.*no transaction from {} on"
    for version, number, writer, other in (
        (1, 0, "spark", "columnar"),
        (2, 3, "columnar", "spark"),
    ):
        assert write(path, writer, transaction=number).table_version == version
        for late, by in ((number, writer), (max(0, number - 1), other)):
            with pytest.raises(TableError, match=refused.format(late)):
                write(path, by, transaction=late)
        table = DeltaTable(str(path))
        assert (table.version(), table.transaction_version(NUMBERED)) == (version, number)
    right(path, narrow.dataset)
    with pytest.raises(UsageError, match="only Delta tables have transactions"):
        write(path, transaction=1, format="parquet")


def test_two_splits_at_once(drivers, narrow, tmp_path):
    pair = drivers.take(2)
    for number in range(ROUNDS):
        for driver, split in zip(pair, ("train", "test"), strict=True):
            driver.start(
                dataset=narrow.description,
                cache=narrow.cache,
                layout="binary",
                target=tmp_path / f"t{number}",
                split=split,
            )
        answers = [driver.answer() for driver in pair]
        assert not [answer for answer in answers if "error" in answer]
        right(tmp_path / f"t{number}", narrow.dataset)
        versions_are_whole(tmp_path / f"t{number}", {0, 500, 3000, 3500})


def job(narrow, path: Path) -> WriteJob:
    found = narrow.dataset
    return write_job(found, path, narrow.cache, parallelism=2)


def test_a_commit_is_for_the_version_that_it_was_made_for(write, spark, narrow, tmp_path):
    """delta-rs alone would add the rows of both to an empty table: neither removes a file."""
    path = tmp_path / "t"
    path.mkdir()
    mine = job(narrow, path)
    files = write_files(spark, mine.tasks, mine.schema, str(path), inline=mine.inline)
    schema = delta_columnar._delta_schema(mine)
    table = delta_columnar._create(mine, schema)
    transaction = delta_columnar.Transaction("test", 1)
    write(path, "spark")
    with pytest.raises(CommitFailedError):
        delta_columnar._replace_rows(mine, table, schema, files, transaction)
    right(path, narrow.dataset)
    assert delta_columnar.commit(mine, files) == 2
    right(path, narrow.dataset)


@contextmanager
def somebody_else(path: Path, pause: float) -> Iterator[list[int]]:
    """Rewrites a file of the table again and again; lists the versions it made."""
    made: list[int] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(pause):
            table = DeltaTable(str(path))
            try:
                table.update(updates={"label": "label"}, predicate="split = 'test' AND index = 0")
            except CommitFailedError:
                continue  # ours was first
            made.append(table.version())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield made
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("writer", ["columnar", "spark"])
def test_while_somebody_else_changes_the_table(write, narrow, tmp_path, writer):
    path, lines = tmp_path / "t", []
    write(path, "columnar")
    # A few times within an ingest, which takes Spark some seconds.
    with somebody_else(path, 0.1 if writer == "columnar" else 0.3) as made:
        for _ in range(2):
            before = len(made)
            until(lambda: len(made) > before, "a change", pause=0.001)  # noqa: B023
            try:
                write(path, writer)
            except TableError as error:
                lines.append(str(error))
    assert len(made) > 2
    for line in lines:
        assert re.fullmatch(".*changed by others.*Run the ingest again", line)
    assert not (lines and writer == "columnar")
    right(path, narrow.dataset)
    write(path, writer)
    right(path, narrow.dataset)
    versions_are_whole(path, {0, 3500})
