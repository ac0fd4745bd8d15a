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
        keep_archive: whether the JVM's archive of earlier processes stays in the cache.
        slow: whether two writes per process are enough.
    """

    key: str
    title: str
    start: Callable[[Place], Write]
    keep_payloads: bool = False
    keep_archive: bool = True
    slow: bool = False


def ours(writer: str, *, batch: bool = False) -> Callable[[Place], Write]:
    """``mnist_spark.ingest``, as notebooks call it; ``batch``: as the commands do."""

    def start(place: Place) -> Write:
        import mnist_spark

        def write(target: Path) -> Mapping[str, float]:
            return mnist_spark.ingest(
                target=target,
                source=place.source,
                cache=place.cache,
                writer=writer,
                master=MASTER,
                batch=batch,
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


def pyarrow_tuned(place: Place) -> Write:
    """One process, no Spark: pyarrow's own Parquet writer at its best, a commit by delta-rs.

    zstd level 1, dictionaries for pixels and labels, one row group per split, no statistics of
    pixels.
    """

    def write(target: Path) -> None:
        import pyarrow.parquet as pq

        for split, rows in _arrow_by_split(place).items():
            names = [name for name in rows.column_names if name != "index"]
            path = target / f"split={split}" / "part-0.parquet"
            path.parent.mkdir(parents=True)
            pq.write_table(
                rows,
                path,
                row_group_size=len(rows),
                compression="zstd",
                compression_level=1,
                use_dictionary=names,
                column_encoding={"index": "DELTA_BINARY_PACKED"},
                write_statistics=["label", "index"],
            )
        _commit(place, target)

    return write


def polars(place: Place) -> Write:
    """One process, no Spark: a Polars DataFrame through delta-rs, zstd level 1."""

    def write(target: Path) -> None:
        import polars as pl
        from deltalake import WriterProperties

        frame = pl.from_arrow(_arrow(place))
        assert isinstance(frame, pl.DataFrame)
        options = WriterProperties(compression="ZSTD", compression_level=1)
        frame.write_delta(
            str(target),
            delta_write_options={"partition_by": ["split"], "writer_properties": options},
        )

    return write


def duckdb_copy(place: Place) -> Write:
    """One process of two threads, no Spark: DuckDB's COPY, zstd level 1; a commit by delta-rs."""

    def write(target: Path) -> None:
        import duckdb

        with duckdb.connect(config={"threads": CORES}) as connection:
            for split, rows in _arrow_by_split(place).items():
                path = target / f"split={split}" / "part-0.parquet"
                path.parent.mkdir(parents=True)
                connection.register("records", rows)
                connection.execute(
                    f"COPY records TO '{path}' (FORMAT parquet, COMPRESSION zstd,"
                    f" COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {len(rows)})"
                )
        _commit(place, target)

    return write


def physical_limit(place: Place) -> Write:
    """What any writer has to do, by as many processes as cores, with numpy and pyarrow alone.

    Gunzip, SHA-256 of the files and of the payloads, transposition, zstd level 1, and bytes on the
    disk. The result is no table.
    """
    from concurrent.futures import ProcessPoolExecutor

    from tests.benchmarks.data import SPLITS

    pool = ProcessPoolExecutor(CORES)
    # Fresh processes have imported nothing yet; every contender's first write is its cold one.

    def write(target: Path) -> None:
        target.mkdir()
        train, test = (pool.submit(_unpack, place, SPLITS[split]) for split in ("train", "test"))
        parts = [pool.submit(_compress, test.result(), 0, 1, target / "test")]
        parts += [
            pool.submit(_compress, train.result(), part, CORES, target / f"train-{part}")
            for part in range(CORES)
        ]
        for part in parts:
            part.result()

    return write


def _unpack(place: Place, prefix: str) -> str:
    """Gunzips and digests the two files of a split; returns the payload of the images."""
    import hashlib
    import zlib

    for name in (f"{prefix}-labels-idx1-ubyte", f"{prefix}-images-idx3-ubyte"):
        packed = (place.source / f"{name}.gz").read_bytes()
        hashlib.sha256(packed).digest()
        payload = zlib.decompress(packed, wbits=31)
        hashlib.sha256(payload).digest()
        (place.work / name).write_bytes(payload)
    return str(place.work / name)


def _compress(payload: str, part: int, parts: int, path: Path) -> None:
    """Transposes one part of the images in blocks of 512 records, and compresses each column."""
    import numpy as np
    import pyarrow as pa

    from tests.benchmarks.data import PIXELS

    pixels = np.fromfile(payload, np.uint8, offset=16).reshape(-1, PIXELS)
    pixels = pixels[len(pixels) * part // parts : len(pixels) * (part + 1) // parts]
    columns = np.empty((PIXELS, len(pixels)), np.uint8)
    for first in range(0, len(pixels), 512):
        columns[:, first : first + 512] = pixels[first : first + 512].T
    codec = pa.Codec("zstd", compression_level=1)
    with open(path, "wb") as stream:
        stream.writelines(codec.compress(column) for column in columns)


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
COMMAND = Contender("command", "mnist-spark, the command", ours("columnar", batch=True), slow=True)
FIRST = Contender(
    "command-first",
    "mnist-spark, the command, first on a machine",
    ours("columnar", batch=True),
    keep_archive=False,
    slow=True,
)
LIMIT = Contender("limit", "limit: gunzip, digest, transpose, zstd, write", physical_limit)
WRITERS = (
    OURS,
    COMMAND,
    FIRST,
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
    Contender("pyarrow-tuned", "one process: pq.write_table, tuned", pyarrow_tuned),
    Contender("polars", "one process: Polars write_delta, zstd level 1", polars),
    Contender("duckdb", "one process: DuckDB COPY, zstd level 1", duckdb_copy),
    LIMIT,
)


def _session() -> SparkSession:
    from mnist_spark.spark import session

    return session.session(MASTER, delta=True)


def _save(frame: DataFrame, target: Path) -> None:
    frame.write.format("delta").partitionBy("split").save(str(target))


def _spark_schema() -> Any:
    from mnist_spark.catalog import dataset as catalog
    from mnist_spark.catalog.schema import Layout, catalog_schema
    from mnist_spark.spark.schema import spark_schema

    return spark_schema(catalog_schema(catalog.find("mnist"), Layout.COLUMNS))


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
    import pyarrow as pa

    return pa.concat_tables(
        rows.append_column("split", pa.repeat(split, len(rows)))
        for split, rows in _arrow_by_split(place).items()
    )


def _arrow_by_split(place: Place) -> dict[str, pa.Table]:
    import numpy as np
    import pyarrow as pa

    from tests.benchmarks.data import PIXELS, SPLITS, load

    tables = {}
    for split in SPLITS:
        pixels, labels = load(place.source, split)
        columns = {str(i): c for i, c in enumerate(np.ascontiguousarray(pixels.T, np.int16))}
        assert len(columns) == PIXELS
        columns["label"] = labels.astype(np.int16)
        columns["index"] = np.arange(len(labels), dtype=np.int32)
        tables[split] = pa.table(columns)
    return tables


def _commit(place: Place, target: Path) -> None:
    """Makes a Delta table of the Parquet files in the partition folders of a path."""
    from deltalake import Schema
    from deltalake.transaction import AddAction, create_table_with_add_actions

    from mnist_spark.catalog import dataset as catalog
    from mnist_spark.catalog.schema import Layout, catalog_schema

    schema = catalog_schema(catalog.find("mnist"), Layout.COLUMNS).arrow()
    actions = [
        AddAction(
            path.relative_to(target).as_posix(),
            path.stat().st_size,
            {"split": path.parent.name.removeprefix("split=")},
            0,
            True,
            "{}",
        )
        for path in sorted(target.glob("*/*.parquet"))
    ]
    create_table_with_add_actions(
        str(target), Schema.from_arrow(schema), actions, partition_by=["split"]
    )
