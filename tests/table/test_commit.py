"""The commit of the writer columnar, on a disk and without Spark: one version, whole, or none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake

from mnist_spark._version import __version__
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.errors import ConflictError, TableError
from mnist_spark.table import delta, delta_columnar
from mnist_spark.table.job import NUMBERED, WriteJob
from mnist_spark.table.properties import source_digests, strange_names
from mnist_spark.table.target import Target
from mnist_spark.table.versions import after_commit, from_entry, version_of_run, versions_since
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.jobs import encode, write, write_job

OLD = {"train": random_pair(20, 3, 2, seed=1), "test": random_pair(6, 3, 2, seed=2)}
NEW = {"train": random_pair(21, 3, 2, seed=3), "test": random_pair(7, 3, 2, seed=4)}


@dataclass
class Lake:
    """A folder with a table in it, or none yet."""

    folder: Path

    @property
    def path(self) -> str:
        return str(self.folder / "t")

    def dataset(
        self, folder: str, pairs: dict[str, tuple[bytes, bytes]], name: str = "tiny"
    ) -> Dataset:
        return write_dataset(self.folder / folder, pairs, name=name)

    def job(
        self, dataset: Dataset, *splits: str, kind: type[WriteJob] = WriteJob, **options: Any
    ) -> WriteJob:
        cache = self.folder / "cache"
        return write_job(dataset, self.path, cache, split=splits or "all", kind=kind, **options)

    def table(self) -> DeltaTable:
        return DeltaTable(self.path)

    def labels(self) -> dict[str, bytes]:
        files = self.table().file_uris()
        rows = ds.dataset(files, partitioning="hive", partition_base_dir=self.path).to_table()
        found = sorted(
            rows.select(["split", "index", "label"]).to_pylist(), key=lambda r: r["index"]
        )
        names = {row["split"] for row in found}
        return {n: bytes(r["label"] for r in found if r["split"] == n) for n in names}


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def old(lake) -> Dataset:
    return lake.dataset("old", OLD)


@pytest.fixture
def new(lake) -> Dataset:
    return lake.dataset("new", NEW)


def labels_of(pairs: dict[str, tuple[bytes, bytes]]) -> dict[str, bytes]:
    return {name: pair[1][8:] for name, pair in pairs.items()}


class Overtaken(WriteJob):
    """A job which somebody is faster than, right before its commit, so many times."""

    meanwhile: list[Callable[[], object]]

    def commit_metadata(self, *args: Any, **options: Any) -> str:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().commit_metadata(*args, **options)


def overtaken(job: WriteJob, *meanwhile: Callable[[], object]) -> WriteJob:
    object.__setattr__(job, "meanwhile", list(meanwhile))
    return job


def test_a_new_table(lake, old):
    job = lake.job(old)
    began = time.time_ns() // 1_000_000
    assert write(job) == 1
    table = lake.table()
    assert table.version() == 1
    assert lake.labels() == labels_of(OLD)
    assert table.metadata().partition_columns == ["split"]
    assert table.metadata().description == delta_columnar.description(old)
    noted = table.metadata().configuration
    assert noted.items() >= job.properties.items()
    assert noted["mnist_spark.version"] == __version__
    assert noted["mnist_spark.generated"] == "false"
    assert began <= table.transaction_version("mnist_spark") <= time.time_ns() // 1_000_000
    entry = table.history(1)[0]
    assert entry["operationParameters"] == {"mode": "Overwrite", "partitionBy": '["split"]'}
    note = json.loads(entry["userMetadata"])
    assert (note["mnist_spark"], note["run"]) == (__version__, job.run_id)
    assert (note["writer"], note["dataset"]) == ("columnar", "tiny")
    assert note["rows"] == {"train": 20, "test": 6}
    assert "replaced_sha256" not in note


def test_the_writer_and_its_executors(lake, old, monkeypatch):
    """Their tasks run in this process; real executors are in test_same_table.py."""
    spark, asked = object(), []

    def run(session: object, tasks: Any, schema: Any, folder: str, *, inline: bool) -> Any:
        assert (session, inline) == (spark, False)
        return [encode_range(task, schema, folder) for task in tasks]

    monkeypatch.setattr(delta_columnar, "check_reachable", lambda *args: asked.append(args))
    monkeypatch.setattr(delta_columnar, "write_files", run)
    job = lake.job(old)
    written = delta_columnar.write(spark, job, None)
    assert asked == [(spark, lake.path, job.probes)]
    assert (written.version, written.files) == (1, len(job.tasks))
    assert written.bytes == sum(path.stat().st_size for path in Path(lake.path).glob("*/*.parquet"))
    assert [task.records for task in written.tasks] == [task.records for task in job.tasks]
    assert lake.labels() == labels_of(OLD)
    deep = replace(job, target=Target.parse(f"{lake.folder}/a/b/t"))
    assert delta_columnar.write(spark, deep, None).version == 1
    del asked[1:]
    other = lake.job(lake.dataset("other", NEW, name="other"))
    with pytest.raises(TableError, match="the target is another table"):
        delta_columnar.write(spark, other, lake.table())
    assert len(asked) == 1, "before any executor has work"


def test_the_log_describes_files_and_columns(lake, old):
    began = time.time_ns() // 1_000_000
    write(lake.job(old, layout=Layout.ARRAY))
    actions = pa.table(lake.table().get_add_actions(flatten=True)).to_pylist()
    for action in actions:
        split = action["partition.split"]
        records = len(OLD[split][1]) - 8
        file = Path(lake.path, action["path"])
        assert (file.parent.name, file.stat().st_size) == (f"split={split}", action["size_bytes"])
        assert action["num_records"] == records
        assert (action["min.index"], action["max.index"]) == (0, records - 1)
        assert action["min.label"] == min(OLD[split][1][8:])
    log = Path(lake.path, "_delta_log", f"{1:020}.json").read_text("utf-8").splitlines()
    added = [entry["add"] for entry in map(json.loads, log) if "add" in entry]
    assert [each["dataChange"] for each in added] == [True, True]
    now = time.time_ns() // 1_000_000
    assert all(began <= each["modificationTime"] <= now for each in added)
    fields = {field.name: field for field in lake.table().schema().fields}
    assert list(fields) == ["image", "label", "index", "split"]
    assert not any(field.nullable for field in fields.values())
    schema = catalog_schema(old, Layout.ARRAY)
    comments = {column.name: column.comment for column in schema.columns}
    assert {name: field.metadata["comment"] for name, field in fields.items()} == comments
    # As Spark's SQL declares it: it can't say that an array has no null elements.
    assert fields["image"].type.contains_null
    assert fields["image"].type.element_type.type == "short"


def test_an_overwrite_leaves_nothing_of_the_old_rows(lake, old, new):
    write(lake.job(old))
    job = lake.job(new)
    assert write(job) == 2
    assert lake.labels() == labels_of(NEW)
    table = lake.table()
    # Rows first, then what the table says of them.
    assert table.version() == 3
    assert source_digests(table.metadata().configuration) == source_digests(job.properties)
    note = json.loads(table.history(2)[1]["userMetadata"])
    before = lake.job(old)
    assert note["replaced_sha256"] == source_digests(before.properties)
    # The same once more: there is nothing to describe.
    assert write(lake.job(new)) == 4
    assert lake.table().version() == 4


def test_one_split_is_replaced_and_the_other_kept(lake, old, new):
    write(lake.job(old))
    assert write(lake.job(new, "train")) == 2
    assert lake.labels() == labels_of({"train": NEW["train"], "test": OLD["test"]})
    noted = source_digests(lake.table().metadata().configuration)
    assert noted == source_digests(
        lake.job(old, "test").properties | lake.job(new, "train").properties
    )


def test_another_dataset_is_replaced_by_force_and_wholly(lake, old):
    other = lake.dataset("other", NEW, name="other")
    write(lake.job(old))
    for job in (lake.job(other), lake.job(old, layout=Layout.ARRAY)):
        with pytest.raises(TableError, match="the target is another table .file .*/t.*--force"):
            write(job)
    assert lake.labels() == labels_of(OLD)
    assert write(lake.job(other, "train", force=True)) == 2
    assert lake.labels() == labels_of({"train": NEW["train"]})
    table = lake.table()
    assert table.metadata().description == delta_columnar.description(other)
    assert table.metadata().configuration["mnist_spark.dataset"] == "other"


def test_another_layout_is_replaced_by_force_and_wholly(lake, old):
    write(lake.job(old))
    assert write(lake.job(old, "test", layout=Layout.ARRAY, force=True)) == 2
    assert lake.labels() == labels_of({"test": OLD["test"]})
    assert next(field.name for field in lake.table().schema().fields) == "image"
    assert lake.table().metadata().configuration["mnist_spark.layout"] == "array"


def test_a_numbered_transaction_is_committed_once(lake, old, new):
    first = lake.job(old, transaction=7)
    assert write(first) == 1
    assert lake.table().transaction_version(NUMBERED) == 7
    assert lake.table().transaction_version("mnist_spark") is None
    for number in (7, 6):
        with pytest.raises(ConflictError, match=f"no transaction from {number} on") as caught:
            write(lake.job(new, transaction=number))
        assert f"version 1, by run {first.run_id}" in str(caught.value)
    assert lake.labels() == labels_of(OLD)
    assert write(lake.job(new, transaction=8)) == 2


def test_the_commit_is_made_anew_for_what_another_run_left(lake, old, new):
    """Both want the whole table; so the rows are one run's, not both runs'."""
    write(lake.job(old))
    other = lake.job(old)
    job = overtaken(lake.job(new, kind=Overtaken), lambda: write(other))
    assert write(job) == 3
    assert lake.labels() == labels_of(NEW)
    runs = [entry.run for entry in versions_since(lake.table(), 1) if entry.run]
    assert runs == [job.run_id, other.run_id]


def test_an_empty_table_gets_one_runs_rows(lake, old):
    """delta-rs would add both runs' rows, unless their transactions are of one application."""
    other = lake.job(old, transaction=1)
    job = overtaken(lake.job(old, kind=Overtaken), lambda: write(other))
    assert write(job) == 2
    assert lake.labels() == labels_of(OLD)
    runs = [entry.run for entry in versions_since(lake.table(), 0)]
    assert runs == [job.run_id, other.run_id]


def test_two_runs_create_the_table(lake, old, new):
    """The second finds the first's table, and replaces its rows."""
    Path(lake.path).mkdir()
    job = lake.job(new)
    files = encode(job)
    assert write(lake.job(old)) == 1
    assert delta_columnar.commit(job, files) == 2
    assert lake.labels() == labels_of(NEW)


def test_others_are_always_first(lake, old, new):
    write(lake.job(old))

    def disturb() -> None:
        lake.table().alter.set_table_properties({"delta.appendOnly": "false"})

    job = overtaken(lake.job(new, kind=Overtaken), *[disturb] * 99)
    with pytest.raises(ConflictError, match=r"10 commits of theirs, the last version 11, by ") as e:
        write(job)
    assert "delta-rs" in str(e.value)
    assert "Run the ingest again" in str(e.value)
    assert len(job.meanwhile) == 89
    assert lake.labels() == labels_of(OLD)


def test_failures_are_counted_in_a_row(lake, old, new):
    """Two with nobody's commit between them are the end; the disk is as it was."""
    write(lake.job(old))
    tries = []

    class Failing(WriteJob):
        def commit_metadata(self, *args: Any, **options: Any) -> str:
            tries.append(1)
            if len(tries) == 2:
                write(lake.job(old))
            raise OSError(28, "No space left on device")

    with pytest.raises(TableError, match="the commit to the table failed") as caught:
        write(lake.job(new, kind=Failing))
    assert len(tries) == 4
    text = str(caught.value)
    assert "No space left on device" in text
    assert lake.path in text
    assert "history has run" not in text  # that is for object stores, whose answers get lost
    job = replace(lake.job(new), target=Target.parse("s3://bucket/t"))
    assert f"history has run {job.run_id}" in str(delta_columnar._failed(job, OSError("reset")))
    assert lake.labels() == labels_of(OLD)


def test_an_answer_that_was_lost_is_found_in_the_history(lake, old, new):
    """The commit is there, though it came back as an error: its run id tells."""
    write(lake.job(old))
    job = lake.job(new)

    class Lost(WriteJob):
        def commit_metadata(self, *args: Any, **options: Any) -> str:
            write(job)
            raise OSError("the answer was lost")

    lost = lake.job(new, kind=Lost, run_id=job.run_id)
    files = encode(lost)
    assert delta_columnar.commit(lost, files) == 2
    assert lake.labels() == labels_of(NEW)
    assert lake.table().version() == 3


def test_a_table_that_delta_rs_cannot_write(lake, old):
    write_deltalake(lake.path, pa.table({"a": [1], "b": [2]}), partition_by=["b"])
    with pytest.raises(TableError, match=r"columnar cannot commit.*partitioned.*--writer spark"):
        write(lake.job(old, force=True))
    why, table = delta.look(Target.parse(lake.path))
    assert why == "delta-rs cannot change by what the table is partitioned"
    assert table is not None


def protocol(lake: Lake, **versions: Any) -> None:
    """Changes the table's protocol as an engine would, by a line in its log."""
    log = Path(lake.path, "_delta_log")
    latest = max(int(path.stem) for path in log.glob("*.json"))
    (log / f"{latest + 1:020}.json").write_text(json.dumps({"protocol": versions}) + "\n")


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ({"minReaderVersion": 1, "minWriterVersion": 2}, None),
        ({"minReaderVersion": 1, "minWriterVersion": 3}, "those of writer version 3"),
        ({"minReaderVersion": 2, "minWriterVersion": 6}, "those of writer version 6"),
        (
            {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly"]},
            None,
        ),
        (
            {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"],
                "writerFeatures": ["invariants", "deletionVectors", "changeDataFeed"],
            },
            "changeDataFeed, deletionVectors",
        ),
    ],
)
def test_features_that_stand_in_the_way(lake, old, versions, why):
    write(lake.job(old))
    protocol(lake, **versions)
    wanted = None if why is None else f"delta-rs cannot write the table's features: {why}"
    assert delta.table_obstacle(lake.table()) == wanted
    assert delta.look(Target.parse(lake.path))[0] == wanted


def test_what_is_at_the_target(lake, old):
    target = Target.parse(lake.path)
    assert delta.look(target) == (None, None)
    with pytest.raises(TableError, match=r"there is no table.*/t\)"):
        delta.open_existing(target)
    with pytest.raises(TableError, match="only Delta tables have a history.*there is no table"):
        delta.open_existing(target, "have a history")
    write(lake.job(old))
    assert delta.open_existing(target, "have a history").version() == 1
    assert delta.look(target)[0] is None
    assert delta.inspect(delta.open_existing(target))["mnist_spark.dataset"] == "tiny"
    odd = Target.parse(lake.path + "%?")
    assert delta.look(odd) == ("delta-rs cannot write to a path with % ?", None)


def test_what_is_no_delta_table(lake):
    folder = Path(lake.path)
    folder.mkdir()
    target = Target.parse(lake.path)
    for harmless in ("split=train", "_temporary", ".crc"):
        (folder / harmless).mkdir()
    assert delta.open_table(target) is None
    for name in ("b.txt", "a.txt"):
        (folder / name).write_text("mine")
    assert strange_names(folder) == ["a.txt", "b.txt"]
    for look in (delta.open_table, delta.look):
        with pytest.raises(
            TableError, match=r"not a Delta table \(file .*/t\).*with a.txt in it.*Choose"
        ):
            look(target)
    with pytest.raises(TableError, match=r"not a Delta table.*a file"):
        delta.open_table(Target.parse(str(folder / "a.txt")))


def test_a_log_that_cannot_be_read(lake, old):
    write(lake.job(old))
    for path in Path(lake.path, "_delta_log").glob("*.json"):
        path.write_text("{")
    target = Target.parse(lake.path)
    with pytest.raises(TableError, match=r"cannot open the table.*/t"):
        delta.open_table(target)
    why, table = delta.look(target)
    assert why is not None
    assert why.startswith("delta-rs cannot open the table: ")
    assert table is None


def test_after_a_commit_every_error_says_that_it_is_made():
    target = Target.parse("/lake/t")
    with after_commit(target, 3):
        pass
    for version, text in ((3, "the new version 3 of"), (None, "the new version of")):
        with (
            pytest.raises(TableError, match=f"{text} the table is committed, but") as caught,
            after_commit(target, version),
        ):
            raise ValueError("out of luck")
        assert isinstance(caught.value.__cause__, ValueError)
        assert "/lake/t" in str(caught.value)
        assert "out of luck" in str(caught.value)
        assert "mnist-spark verify" in str(caught.value)


NOTE = {"mnist_spark": "1", "run": "r1", "dataset": "mnist", "writer": "spark"}


def entry(**values: Any) -> dict[str, Any]:
    return {"version": 4, "timestamp": 1_700_000_000_000, "operation": "WRITE"} | values


def test_a_version_of_an_ingest():
    rows, digests = {"train": 60000, "test": 3}, {"a.gz": "0123456789ab", "b.gz": "ff" * 32}
    note = json.dumps(NOTE | {"rows": rows, "sha256": digests})
    version = from_entry(entry(userMetadata=note, engineInfo="engine 1"))
    assert version.when == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (version.version, version.run, version.engine) == (4, "r1", "engine 1")
    assert (version.rows, version.sha256) == (rows, digests)
    assert version.origin() == "version 4, by run r1"
    assert version.line() == (
        "4",
        "2023-11-14 22:13:20Z",
        "WRITE",
        "mnist",
        "train 60,000, test 3",
        "spark",
        "01234567 ffffffff",
    )


@pytest.mark.parametrize(
    "note",
    [None, "", "{", "[]", "7", '{"run": "r9", "rows": {"a": 1}}', '["mnist_spark"]'],
)
def test_a_version_of_others(note):
    version = from_entry(entry(userMetadata=note, engineInfo="Spark"))
    assert (version.run, version.dataset, version.writer) == (None, None, None)
    assert (version.rows, version.sha256) == ({}, {})
    assert version.origin() == "version 4, by Spark (WRITE)"
    assert version.line() == ("4", "2023-11-14 22:13:20Z", "WRITE", "", "", "", "")


def test_a_note_of_another_form():
    note = json.dumps(NOTE | {"rows": [1], "sha256": "x"})
    version = from_entry({"version": 1, "timestamp": 0, "userMetadata": note})
    assert (version.rows, version.sha256, version.operation) == ({}, {}, "")
    assert version.engine is None


def test_versions_since(lake, old):
    write(lake.job(old))
    write(lake.job(old))
    table = lake.table()
    assert [each.version for each in versions_since(table, None)] == [2, 1, 0]
    assert [each.version for each in versions_since(table, 0)] == [2, 1]
    assert [each.version for each in versions_since(table, 1)] == [2]
    assert versions_since(table, 2) == []
    assert versions_since(table, 3) == []
    found = versions_since(table, None)
    assert version_of_run(found, str(found[1].run)) == 1
    assert version_of_run(found, "nobody") is None
