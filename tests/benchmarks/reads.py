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
    import pyarrow as pa

Read = Callable[[], object]

TITLES = {
    "pandas": {
        "numpy": "floor: numpy reshape + DataFrame, int16",
        "ours": "mnist-spark to_pandas_dataframe(), digests checked",
    },
    "spark": {
        "noop": 'spark.read.format("mnist") → noop sink',
        "groupby": '… groupBy("label").count()',
        "count": "mnist-spark to_spark_dataframe().count()",
    },
    "verify": {
        "digest": "floor: SHA-256 of the four payloads",
        "verify": "mnist_spark.verify.verify of a table by writer columnar",
    },
    "load": {
        "pyarrow": "floor: pyarrow.dataset, the same columns to an Arrow table",
        "load_table": "mnist_spark.load_table, train, to two NumPy arrays",
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
    start = {
        "pandas": _pandas_readers,
        "spark": _spark_readers,
        "verify": _verify_readers,
        "load": _load_readers,
        "scan": _scan_readers,
    }
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

    from mnist_spark import MNIST
    from mnist_spark.catalog import dataset as catalog
    from mnist_spark.download.inputs import Inputs
    from mnist_spark.download.split import prepare

    dataset = catalog.find("mnist")
    prepared = prepare(dataset, dataset.select("all"), Inputs(str(place.source), place.cache))
    pairs = [split.pair for split in prepared]
    names = [*map(str, range(PIXELS)), "label"]
    mnist = MNIST.get_tabular_dataset(source=place.source, cache=place.cache)

    def numpy() -> pd.DataFrame:
        parts = []
        for pair in pairs:
            pixels = np.fromfile(pair.images, np.uint8, offset=16).reshape(-1, PIXELS)
            labels = np.fromfile(pair.labels, np.uint8, offset=8).reshape(-1, 1)
            parts.append(np.hstack([pixels, labels]))
        return pd.DataFrame(np.vstack(parts).astype(np.int16), columns=names)

    pd.testing.assert_frame_equal(numpy(), mnist.to_pandas_dataframe())
    return {"numpy": numpy, "ours": mnist.to_pandas_dataframe}


def _spark_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    import mnist_spark
    from mnist_spark.spark import session

    spark = session.session(MASTER, delta=False)
    mnist_spark.register(spark)
    rows = (
        spark.read.format("mnist").options(source=str(place.source), cache=str(place.cache)).load()
    )
    mnist = mnist_spark.MNIST.get_tabular_dataset(source=place.source, cache=place.cache)
    return {
        "noop": lambda: rows.write.format("noop").mode("overwrite").save(),
        "groupby": lambda: rows.groupBy("label").count().collect(),
        "count": lambda: mnist.to_spark_dataframe(spark).count(),
    }


def _verify_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    import hashlib

    from mnist_spark.verify import verify

    payloads = list((place.cache / "payloads").glob("*.idx"))

    def digest() -> None:
        for payload in payloads:
            with open(payload, "rb") as stream:
                hashlib.file_digest(stream, "sha256")

    def check() -> None:
        report = verify(tables["columnar"], cache=place.cache)
        assert report.ok, report.problems

    return {"digest": digest, "verify": check}


def _load_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    import numpy as np
    import pyarrow.dataset as ds

    from mnist_spark import load_table

    table = tables["columnar"]
    columns = [*map(str, range(PIXELS)), "label", "index"]

    def pyarrow() -> pa.Table:
        return ds.dataset(f"{table}/split=train", format="parquet").to_table(columns)

    rows = pyarrow().sort_by("index")
    images, labels = load_table(table)
    centre = rows[str(PIXELS // 2 + 14)].to_numpy()
    np.testing.assert_array_equal(images.reshape(len(images), -1)[:, PIXELS // 2 + 14], centre)
    np.testing.assert_array_equal(labels, rows["label"].to_numpy())
    return {"pyarrow": pyarrow, "load_table": lambda: load_table(table)}


def _scan_readers(place: Place, tables: Mapping[str, str]) -> dict[str, Read]:
    from mnist_spark.spark import session

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
