"""The read side: published files → DataFrame, and Spark scanning tables that were written.

All readers of a group run in turns within one process, so that whatever slows down one of them
slows down the others too. The decompressed files are in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.data import PIXELS
from tests.benchmarks.writers import MASTER, Place

if TYPE_CHECKING:
    import pandas as pd

Read = Callable[[], object]

TITLES = {
    "pandas": {
        "numpy": "floor: numpy reshape + DataFrame, int16",
        "decode": "mnist-spark decode → Arrow → pandas",
        # to_pandas_dataframe() belongs here, once there is one, and in _pandas_readers().
    },
    "spark": {
        "noop": 'spark.read.format("mnist") → noop sink',
        "groupby": '… groupBy("label").count()',
    },
    "scan": {
        "columnar-all": "table by writer columnar, all columns",
        "spark-all": "table by writer spark, all columns",
        "columnar-two": "table by writer columnar, 2 columns",
        "spark-two": "table by writer spark, 2 columns",
    },
}
"""Readers by group, a process each. The first of a group is what its others are compared with."""


def run(order: Mapping[str, Any], note: Callable[..., None]) -> None:
    """In the fresh process: runs a group's readers in turns."""
    place = Place(*(Path(order[name]) for name in ("source", "cache", "work")))
    start = {"pandas": _pandas_readers, "spark": _spark_readers, "scan": _scan_readers}
    readers = start[order["key"]](place, order.get("tables", {}))
    assert list(readers) == list(TITLES[order["key"]])
    for _ in range(order["repeat"]):
        for key, read in readers.items():
            began = time.monotonic()
            read()
            note(reader=key, start=began, stop=time.monotonic())


def _pandas_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from mnist_spark import catalog
    from mnist_spark.decode import decode_range
    from mnist_spark.prepare import prepare
    from mnist_spark.ranges import RecordRange
    from mnist_spark.schema import Layout, catalog_schema

    dataset = catalog.find("mnist")
    prepared = prepare(dataset, dataset.select("all"), source=str(place.source), cache=place.cache)
    pairs = [split.pair for split in prepared]
    schema = catalog_schema(dataset, Layout.COLUMNS)
    names = [*map(str, range(PIXELS)), "label"]

    def numpy() -> pd.DataFrame:
        parts = []
        for pair in pairs:
            pixels = np.fromfile(pair.images, np.uint8, offset=16).reshape(-1, PIXELS)
            labels = np.fromfile(pair.labels, np.uint8, offset=8).reshape(-1, 1)
            parts.append(np.hstack([pixels, labels]))
        return pd.DataFrame(np.vstack(parts).astype(np.int16), columns=names)

    def decode() -> pd.DataFrame:
        batches = [
            batch.select(names)
            for pair in pairs
            for batch in decode_range(
                pair.images,
                pair.labels,
                RecordRange(pair.split, 0, pair.size.records),
                schema,
            )
        ]
        frame: pd.DataFrame = pa.Table.from_batches(batches).to_pandas()
        return frame

    pd.testing.assert_frame_equal(numpy(), decode())
    return {"numpy": numpy, "decode": decode}


def _spark_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    import mnist_spark
    from mnist_spark import session

    spark = session.session(MASTER, delta=False)
    mnist_spark.register(spark)
    rows = (
        spark.read.format("mnist").options(source=str(place.source), cache=str(place.cache)).load()
    )
    return {
        "noop": lambda: rows.write.format("noop").mode("overwrite").save(),
        "groupby": lambda: rows.groupBy("label").count().collect(),
    }


def _scan_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    from mnist_spark import session

    spark = session.session(MASTER, delta=True)

    def scan(writer: str, *columns: str) -> Read:
        def read() -> None:
            rows = spark.read.format("delta").load(tables[writer]).select(*columns)
            rows.write.format("noop").mode("overwrite").save()

        return read

    centre = str(PIXELS // 2 + 14)
    return {
        "columnar-all": scan("columnar", "*"),
        "spark-all": scan("spark", "*"),
        "columnar-two": scan("columnar", "label", centre),
        "spark-two": scan("spark", "label", centre),
    }
