"""The contenders that write: each turns the gzip files on disk into a Delta table, its own way.

A contender is a function that is called once in a fresh process and returns the function that
writes one table. It imports what it needs itself, so that its cold start has nothing of another's.
All that use Spark get the same session from :mod:`mnist_spark.spark.session`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

CORES = 2
MASTER = f"local[{CORES}]"

Write = Callable[[Path], Mapping[str, float] | None]
"""Writes a new table to a path. May return seconds per step."""


@dataclass(frozen=True)
class Place:
    """Where things are.

    Attributes:
        source: the folder with the gzip files.
        cache: mnist-spark's cache, which has the verified gzip files already.
        work: a folder for a contender's own files.
    """

    source: Path
    cache: Path
    work: Path


@dataclass(frozen=True)
class Contender:
    """One way to write the table.

    Attributes:
        keep_payloads: whether decompressed files stay in mnist-spark's cache between writes.
            Otherwise every write decompresses, as every other contender does.
        slow: whether two writes per process are enough.
    """

    key: str
    title: str
    start: Callable[[Place], Write]
    keep_payloads: bool = False
    slow: bool = False


def ours(writer: str) -> Callable[[Place], Write]:
    """``mnist_spark.ingest``, as the command line calls it."""

    def start(place: Place) -> Write:
        import mnist_spark

        def write(target: Path) -> Mapping[str, float]:
            return mnist_spark.ingest(
                target=target,
                source=place.source,
                cache=place.cache,
                writer=writer,
                master=MASTER,
            ).seconds

        return write

    return start


def pandas_frame(place: Place) -> Write:
    """All rows in a pandas DataFrame, handed to Spark."""
    spark = _session()

    def write(target: Path) -> None:
        _save(spark.createDataFrame(_pandas(place), _spark_schema()), target)

    return write


def pandas_frame_pickled(place: Place) -> Write:
    """The same without Arrow, which was off by default before Spark 4.2."""
    _session().conf.set("spark.sql.execution.arrow.pyspark.enabled", "false")
    return pandas_frame(place)


def rdd_of_tuples(place: Place) -> Write:
    """A Python tuple per row, as tutorials do."""
    spark = _session()

    def write(target: Path) -> None:
        from tests.benchmarks.data import SPLITS, load

        rows: list[tuple[Any, ...]] = []
        for split in SPLITS:
            pixels, labels = load(place.source, split)
            rows += [
                (*image.tolist(), int(label), index, split)
                for index, (image, label) in enumerate(zip(pixels, labels, strict=True))
            ]
        rdd = spark.sparkContext.parallelize(rows, 16)
        _save(spark.createDataFrame(rdd, _spark_schema()), target)

    return write


def arrow_frame(place: Place) -> Write:
    """All rows in an Arrow table, handed to Spark (new in Spark 4)."""
    spark = _session()

    def write(target: Path) -> None:
        _save(spark.createDataFrame(_arrow(place), _spark_schema()), target)

    return write


def pyarrow_deltalake(place: Place) -> Write:
    """One process, no Spark: an Arrow table through delta-rs."""

    def write(target: Path) -> None:
        from deltalake import write_deltalake

        write_deltalake(str(target), _arrow(place), partition_by=["split"])

    return write


def pyarrow_deltalake_zstd(place: Place) -> Write:
    """The same with our compression."""

    def write(target: Path) -> None:
        from deltalake import WriterProperties, write_deltalake

        options = WriterProperties(compression="ZSTD", compression_level=1)
        write_deltalake(
            str(target), _arrow(place), partition_by=["split"], writer_properties=options
        )

    return write


def polars(place: Place) -> Write:
    """One process, no Spark: a Polars DataFrame through delta-rs."""

    def write(target: Path) -> None:
        import polars as pl

        frame = pl.from_arrow(_arrow(place))
        assert isinstance(frame, pl.DataFrame)
        frame.write_delta(str(target), delta_write_options={"partition_by": ["split"]})

    return write


def physical_limit(place: Place) -> Write:
    """What must be done, by as many processes as cores, without Spark and without checks.

    Gunzip, decode and encode with mnist-spark's own functions, and a commit by delta-rs.
    """
    from concurrent.futures import ProcessPoolExecutor

    from deltalake import Schema
    from deltalake.transaction import AddAction, create_table_with_add_actions

    from mnist_spark.catalog import dataset as catalog
    from mnist_spark.catalog.schema import Layout, catalog_schema
    from mnist_spark.decode.parquet_file import encode_range
    from mnist_spark.idx.pair import open_pair
    from mnist_spark.ranges.plan import plan_ranges
    from mnist_spark.ranges.transport import plan_tasks
    from tests.benchmarks.data import SPLITS

    pool = ProcessPoolExecutor(CORES)
    schema = catalog_schema(catalog.find("mnist"), Layout.COLUMNS)
    files = {
        split: (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        for split, prefix in SPLITS.items()
    }

    def write(target: Path) -> None:
        target.mkdir()
        unpacked = {s: pool.submit(_gunzip, place, names) for s, names in files.items()}
        tasks = []
        # Test first: it is encoded while a process still decompresses train.
        for split in reversed(unpacked):
            pair = open_pair(split, *unpacked[split].result())
            ranges = plan_ranges([pair.size], parallelism=CORES)
            tasks += [
                pool.submit(encode_range, task, schema, str(target))
                for task in plan_tasks([pair], ranges, checked=False)
            ]
        actions = [
            AddAction(f.path, f.size, {"split": f.records.split}, 0, True, f.statistics)
            for f in (task.result() for task in tasks)
        ]
        create_table_with_add_actions(
            str(target), Schema.from_arrow(schema.arrow()), actions, partition_by=["split"]
        )

    return write


def bare_session(place: Place) -> Write:
    """No table at all: a Spark session with our settings that counts one row."""
    from pyspark.sql import SparkSession

    from mnist_spark.spark.session import SETTINGS

    builder = SparkSession.builder.master(MASTER)
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()

    def write(target: Path) -> None:
        spark.range(1).count()

    return write


BARE = Contender("bare", "bare SparkSession, range(1).count()", bare_session)
OURS = Contender("columnar", "mnist-spark, writer columnar", ours("columnar"))
WRITERS = (
    OURS,
    Contender(
        "columnar-cached", "  … files decompressed before", ours("columnar"), keep_payloads=True
    ),
    Contender("spark", "mnist-spark, writer spark (df.write)", ours("spark")),
    Contender("pandas", "pandas → createDataFrame → Delta", pandas_frame),
    Contender("pandas-pickled", "  … without Arrow", pandas_frame_pickled, slow=True),
    Contender("rdd", "RDD of tuples → Delta", rdd_of_tuples, slow=True),
    Contender("arrow", "Arrow table → createDataFrame → Delta", arrow_frame),
    Contender("pyarrow", "one process: pyarrow + write_deltalake", pyarrow_deltalake),
    Contender("pyarrow-zstd", "  … with zstd level 1", pyarrow_deltalake_zstd),
    Contender("polars", "one process: Polars write_delta", polars),
    Contender("limit", "limit: 2 processes, no Spark, no checks", physical_limit),
)


def _gunzip(place: Place, names: tuple[str, str]) -> tuple[str, str]:
    import zlib

    for name in names:
        packed = (place.source / f"{name}.gz").read_bytes()
        (place.work / name).write_bytes(zlib.decompress(packed, wbits=31))
    images, labels = names
    return str(place.work / images), str(place.work / labels)


def _session() -> SparkSession:
    from mnist_spark.spark import session

    return session.session(MASTER, delta=True)


def _save(frame: DataFrame, target: Path) -> None:
    frame.write.format("delta").partitionBy("split").save(str(target))


def _spark_schema() -> Any:
    from mnist_spark.catalog import dataset as catalog
    from mnist_spark.catalog.schema import Layout, catalog_schema

    return catalog_schema(catalog.find("mnist"), Layout.COLUMNS).spark()


def _pandas(place: Place) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from tests.benchmarks.data import PIXELS, SPLITS, load

    frames = []
    for split in SPLITS:
        pixels, labels = load(place.source, split)
        frame = pd.DataFrame(pixels.astype(np.int16), columns=[str(i) for i in range(PIXELS)])
        frame["label"] = labels.astype(np.int16)
        frame["index"] = np.arange(len(labels), dtype=np.int32)
        frame["split"] = split
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _arrow(place: Place) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    from tests.benchmarks.data import PIXELS, SPLITS, load

    tables = []
    for split in SPLITS:
        pixels, labels = load(place.source, split)
        columns = {str(i): c for i, c in enumerate(np.ascontiguousarray(pixels.T, np.int16))}
        assert len(columns) == PIXELS
        columns["label"] = labels.astype(np.int16)
        columns["index"] = np.arange(len(labels), dtype=np.int32)
        table = pa.table(columns)
        tables.append(table.append_column("split", pa.repeat(split, len(labels))))
    return pa.concat_tables(tables)
