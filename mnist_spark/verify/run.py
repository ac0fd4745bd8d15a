"""Table → the source's bytes → the same SHA-256?

Each split's two IDX payloads are rebuilt from the table's rows, window by window, and digested. So
a table is right if it holds the source, byte for byte, whatever files it is made of.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mnist_spark.download.inputs import Inputs
from mnist_spark.table.read import open_table
from mnist_spark.table.target import Target
from mnist_spark.verify.checks import check_columns, check_files, count_rows
from mnist_spark.verify.contents import Contents
from mnist_spark.verify.expected import expect
from mnist_spark.verify.findings import Findings, SplitReport, VerifyReport

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def verify(
    target: str | os.PathLike[str],
    *,
    deep: bool = True,
    dataset: str | None = None,
    source: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    spark: SparkSession | None = None,
) -> VerifyReport:
    """Checks a table against the dataset that it should hold.

    Args:
        target: path, URL, or ``schema.table``.
        deep: rebuild the payloads from all rows. If false, compare only what costs nearly nothing:
            properties, columns, rows per split, and that every data file is there with its size.
        dataset: name in the catalog or TOML file; default: what the table's properties name.
        source: folder or base URL of the dataset's files. With them, or with what the cache has
            of them, a difference is traced to records and pixels; they are not needed to find it.
        cache: cache folder; default ``$MNIST_SPARK_CACHE`` or the platform's.
        spark: for a table at a path: lets this session's executors rebuild it, which must reach
            the path; default: this process does. For catalog tables and URLs: the session to
            read with; default: the active one, else an embedded local one.

    Raises:
        TableError: there is no table, or it doesn't say what it should hold.
        MnistSparkError: the dataset can't be found.
    """
    started = time.perf_counter()
    place = Target.parse(os.fspath(target))
    table = open_table(place, spark)
    findings = Findings()
    expected = expect(place, table, dataset, findings)
    usable = check_columns(table, expected.schema, findings)
    check_files(table, findings)
    rows = count_rows(table, expected.splits, findings, deep=deep)
    sha256 = {}
    if deep and usable:
        inputs = Inputs.chosen(source, cache)
        executors = spark if table.engine != "spark" else None
        contents = Contents(table, expected, inputs, findings, executors)
        for split in expected.splits:
            if rows.get(split.name) != 0:
                sha256[split.name] = contents.check(split)
    return VerifyReport(
        ok=not findings.problems,
        target=str(place),
        dataset=expected.name,
        format=table.format,
        layout=expected.schema.layout,
        version=table.version,
        deep=deep,
        engine=table.engine,
        problems=findings.problems,
        notes=tuple(findings.notes),
        splits={
            split.name: SplitReport(rows.get(split.name), split.records, sha256.get(split.name, {}))
            for split in expected.splits
        },
        seconds=time.perf_counter() - started,
    )
