"""What runs on executors runs where Python, numpy and pyarrow are, and PySpark for its pickles.

The processes here can import nothing else: not this package, nor what it needs on a driver. No
Spark is started; ``tests/cluster`` does the same on real clusters.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark import cloudpickle

import mnist_spark
from mnist_spark.catalog.schema import Layout, table_schema
from mnist_spark.decode.batches import decode_range
from mnist_spark.decode.parquet_file import encode_range
from mnist_spark.errors import IdxError, SparkError
from mnist_spark.idx.pair import open_pair
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import to_json
from mnist_spark.ranges.transport import carry, plan_tasks
from mnist_spark.spark import executors, failures
from mnist_spark.spark.formats import IdxDataSource, MnistDataSource
from mnist_spark.spark.planned import TRACE_COLUMN, PlannedFiles, PlannedRows
from mnist_spark.storage.files import try_folder
from mnist_spark.table.read import open_table
from mnist_spark.table.target import Target
from mnist_spark.verify.rebuild import rebuild_window
from tests.support.idxfiles import random_pair

UBYTE = np.dtype("u1")
RECORDS = RecordRange("train", 10, 45)

BARE = """
import pickle, sys, traceback

class NothingElse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        known = sys.stdlib_module_names | {"numpy", "pyarrow", "pyspark", "py4j"}
        if top not in known and not top.startswith("_"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NothingElse())
while code := pickle.load(sys.stdin.buffer):
    try:
        answer = pickle.loads(code)(), None
    except Exception:
        answer = None, traceback.format_exc()
    pickle.dump(answer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
"""

Call = Callable[[Callable[[], Any]], Any]


def other_process(home: Path) -> Iterator[Call]:
    """Calls functions in a process that has nothing of ours."""
    with subprocess.Popen(
        [sys.executable, "-c", BARE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=home,
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def send(code: bytes) -> None:
            pickle.dump(code, process.stdin)
            process.stdin.flush()

        def call(function: Callable[[], Any]) -> Any:
            send(executors.dumps(function))
            result, error = pickle.load(process.stdout)
            if error is not None:
                raise RuntimeError(error)
            return result

        yield call
        send(b"")


@pytest.fixture(scope="module")
def executor(tmp_path_factory) -> Iterator[Call]:
    yield from other_process(tmp_path_factory.mktemp("executor"))


@pytest.fixture(scope="module")
def planner(tmp_path_factory) -> Iterator[Call]:
    yield from other_process(tmp_path_factory.mktemp("planner"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    paths = folder / "images.idx", folder / "labels.idx"
    for path, data in zip(paths, random_pair(50, 3, 2), strict=True):
        path.write_bytes(data)
    return open_pair("train", *map(str, paths))


@pytest.fixture
def task(pair):
    (planned,) = plan_tasks([pair], [RECORDS])
    return planned


def schema_of(layout: Layout):
    return table_schema(layout, (3, 2), pixels=UBYTE, labels=UBYTE)


def rows(task, schema) -> list[dict[str, Any]]:
    return [row for batch in decode_range(task, schema) for row in batch.to_pylist()]


def test_ranges_are_decoded_in_every_layout(executor, task):
    schemas = [schema_of(layout) for layout in Layout]
    tasks = [task, carry(task)]

    def decode() -> list[Any]:
        return [
            [row for batch in decode_range(each, schema) for row in batch.to_pylist()]
            for schema in schemas
            for each in tasks
        ]

    wanted = [rows(task, schema) for schema in schemas for _ in tasks]
    assert executor(decode) == wanted
    assert len(wanted[0]) == RECORDS.records


def test_files_are_written(executor, task, tmp_path):
    schemas, folder = [schema_of(layout) for layout in Layout], str(tmp_path)
    written = executor(lambda: [encode_range(task, schema, folder).row() for schema in schemas])
    for schema, (path, size, statistics, *who) in zip(schemas, written, strict=True):
        assert (tmp_path / path).stat().st_size == size
        assert json.loads(statistics)["numRecords"] == RECORDS.records
        assert who[:3] == ["train", 10, 45]
        found = pa.parquet.read_table(tmp_path / path, partitioning=None).to_pylist()
        assert [row | {"split": "train"} for row in found] == rows(task, schema)


def test_a_folder_is_probed(executor, tmp_path):
    folder = str(tmp_path)
    (tmp_path / "mark").write_text("token")
    assert executor(lambda: try_folder(folder, "mark", "own", "token")) is None
    assert "sees another folder" in executor(lambda: try_folder(folder, "mark", "own", "other"))


@pytest.mark.parametrize("inline", [False, True], ids=["shared", "inline"])
@pytest.mark.parametrize("source", [PlannedRows, PlannedFiles, IdxDataSource])
def test_data_sources(planner, executor, pair, task, tmp_path, source, inline):
    """Spark's steps: a planner makes the source and its reader, an executor reads."""
    schema = schema_of(Layout.BINARY)
    options = {
        "tasks": to_json([task, task]),
        "schema": schema.to_json(),
        "inline": str(inline).lower(),
        "folder": str(tmp_path),
    }
    if source is IdxDataSource:
        options = {
            "splits": json.dumps({"train": [pair.images, pair.labels]}),
            "layout": "binary",
            "ranges": "2",
            "transport": "inline" if inline else "shared",
        }

    def create() -> tuple[bytes, str]:
        made = source(options)
        found = made.schema()
        text = found if isinstance(found, str) else found.simpleString()
        return cloudpickle.dumps(made), text

    made, columns = planner(create)

    def plan() -> tuple[bytes, list[bytes]]:
        reader = pickle.loads(made).reader(None)
        return cloudpickle.dumps(reader), [cloudpickle.dumps(p) for p in reader.partitions()]

    reader, partitions = planner(plan)
    assert len(partitions) == 2
    assert max(map(len, partitions)) < 2_000
    if inline:
        assert len(reader) < 300_000  # the code that travels

    def read() -> list[Any]:
        batches = pickle.loads(reader).read(pickle.loads(partitions[1]))
        return [batch.to_pylist() if hasattr(batch, "to_pylist") else batch for batch in batches]

    (found,) = executor(read)
    if source is PlannedFiles:
        assert columns.startswith("path string")
        assert (tmp_path / found[0]).stat().st_size == found[1]
    elif source is PlannedRows:
        traces = [row.pop(TRACE_COLUMN) for row in found]
        assert found == rows(task, schema)
        assert traces[:-1] == [None] * (len(found) - 1)
        assert json.loads(traces[-1])["stop"] == 45
    else:
        (second,) = plan_tasks([pair], [RecordRange("train", 25, 50)])
        assert found == rows(second, schema)


def test_the_format_mnist_says_what_its_planner_lacks(planner):
    with pytest.raises(RuntimeError) as raised:
        planner(lambda: MnistDataSource({}).schema())
    error = failures.from_spark(raised.value)
    assert isinstance(error, SparkError)
    assert "the format mnist downloads beside Spark's driver" in str(error)
    assert "No module named 'mnist_spark'" in str(error)
    assert "to_spark_dataframe" in str(error)


def test_the_format_mnist_refuses_another_version(monkeypatch):
    monkeypatch.setattr(MnistDataSource, "version", "0.0.1")
    with pytest.raises(SparkError, match=r"another version of mnist-spark.*expected 0\.0\.1"):
        MnistDataSource({}).schema()


def test_errors_are_recognised(executor, task, pair):
    (missing,) = plan_tasks(
        [pair], [RECORDS], places={pair.images: "/nowhere/images", pair.labels: "/nowhere/labels"}
    )
    schema = schema_of(Layout.BINARY)
    with pytest.raises(RuntimeError) as raised:
        executor(lambda: list(decode_range(missing, schema)))
    error = failures.from_spark(raised.value)
    assert isinstance(error, IdxError)
    assert "cannot open the payload (file /nowhere/images, records train[10:45])" in str(error)


def write_table(folder: Path, task, layout: Layout) -> list[RecordRange]:
    """A Delta table of two files in two partitions, the second of which is of another split."""
    table = pa.Table.from_batches(list(decode_range(task, schema_of(layout))))
    other = table.drop_columns(["split"]).append_column("split", pa.array(["test"] * len(table)))
    write_deltalake(
        folder, pa.concat_tables([table.cast(other.schema), other]), partition_by=["split"]
    )
    return [RecordRange("train", 10, 30), RecordRange("train", 30, 45)]


@pytest.mark.parametrize("layout", [Layout.COLUMNS, Layout.BINARY])
def test_windows_of_a_table_are_rebuilt(executor, task, tmp_path, layout):
    ranges = write_table(tmp_path / "t", task, layout)
    table = open_table(Target(str(tmp_path / "t"), is_name=False))
    schema, files = table_schema(layout, (3, 2), pixels=UBYTE, labels=UBYTE), table.files()

    def rebuild() -> list[Any]:
        return [rebuild_window(files, r, schema, range(10), with_bytes=True) for r in ranges]

    found = executor(rebuild)
    content = Path(task.images.path).read_bytes()[16:], Path(task.labels.path).read_bytes()[8:]
    for records, (_, _, problems, images, labels) in zip(ranges, found, strict=True):
        assert json.loads(problems) == []
        assert images == content[0][records.start * 6 : records.stop * 6]
        assert labels == content[1][records.start : records.stop]


def test_a_file_that_cannot_be_read_is_named(executor, task, tmp_path):
    ranges = write_table(tmp_path / "t", task, Layout.BINARY)
    table = open_table(Target(str(tmp_path / "t"), is_name=False))
    schema, files = table_schema(Layout.BINARY, (3, 2), pixels=UBYTE, labels=UBYTE), table.files()
    for uri in DeltaTable(tmp_path / "t").file_uris():
        Path(uri).write_bytes(b"PAR1")
    with pytest.raises(
        RuntimeError, match=r"TableError: cannot read the table \(file split=train/"
    ):
        executor(lambda: rebuild_window(files, ranges[0], schema, range(10), with_bytes=True))


def test_others_functions_are_pickled_as_ever():
    executors.dumps(decode_range)
    assert len(cloudpickle.dumps(decode_range)) < 100
    cloudpickle.register_pickle_by_value(mnist_spark)
    try:
        executors.dumps(decode_range)
        assert len(cloudpickle.dumps(decode_range)) > 10_000
    finally:
        cloudpickle.unregister_pickle_by_value(mnist_spark)
