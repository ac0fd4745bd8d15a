"""``make bench-scans``: how fast Spark reads the table, by layout and by its reader's settings.

70,000 rows. Each query runs several times in one session; the first time Spark also makes its plan
and code. CPU seconds are the session's JVM's, those of tasks and of the compiler together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import mnist_spark
from mnist_spark.spark.session import session
from tests.benchmarks import disturb
from tests.benchmarks.data import PIXELS, mnist_folder
from tests.benchmarks.show import machine_line, table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MASTER = "local[2]"
FIELDS, BATCH = "spark.sql.codegen.maxFields", "spark.sql.parquet.columnarReaderBatchSize"
SETTINGS = ((100, 4096), (1000, 4096), (1000, 1024), (1000, 256))
"""Values of the two settings; the first pair is Spark's default."""

NAMES = [str(i) for i in range(PIXELS)]


def sum_columns(rows: DataFrame) -> None:
    """Each pixel's sum."""
    from pyspark.sql.functions import sum as total

    rows.agg(*(total(name) for name in NAMES)).collect()


def sum_array(rows: DataFrame) -> None:
    """The sum over all elements."""
    from pyspark.sql.functions import expr

    rows.selectExpr("aggregate(image, 0L, (a, x) -> a + x) AS one").agg(expr("sum(one)")).collect()


def few_columns(rows: DataFrame) -> None:
    """Sums of 90 pixels."""
    from pyspark.sql.functions import sum as total

    rows.agg(*(total(name) for name in NAMES[300:390])).collect()


def train_columns(rows: DataFrame) -> None:
    """``VectorAssembler``, then a logistic regression."""
    from pyspark.ml.feature import VectorAssembler

    _train(VectorAssembler(inputCols=NAMES, outputCol="features").transform(rows))


def train_array(rows: DataFrame) -> None:
    """``array_to_vector``, then a logistic regression."""
    from pyspark.ml.functions import array_to_vector

    _train(rows.select(array_to_vector("image").alias("features"), "label"))


def _train(rows: DataFrame) -> None:
    from pyspark.ml.classification import LogisticRegression

    LogisticRegression(maxIter=5, regParam=0.1).fit(rows.select("features", "label"))


def to_pandas(rows: DataFrame) -> None:
    """The test split in a pandas DataFrame."""
    assert len(rows.where("split = 'test'").toPandas()) == 10_000


QUERIES: dict[str, dict[str, Callable[[DataFrame], None]]] = {
    "columns": {
        "sum of each pixel": sum_columns,
        "sums of 90 pixels": few_columns,
        "VectorAssembler + logistic regression": train_columns,
        "toPandas of test": to_pandas,
    },
    "array": {
        "sum of all elements": sum_array,
        "array_to_vector + logistic regression": train_array,
        "toPandas of test": to_pandas,
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-scans", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each query (default: 3)")
    arguments = parser.parse_args()
    before = disturb.now()
    print(machine_line(), flush=True)
    spark = session(MASTER, delta=True)
    with tempfile.TemporaryDirectory() as folder:
        for layout, queries in QUERIES.items():
            target = Path(folder, layout)
            mnist_spark.ingest(target=target, layout=layout, source=mnist_folder(), spark=spark)
            for title, query in queries.items():
                lines = [
                    _measure(spark, target, query, fields, batch, arguments.repeat)
                    for fields, batch in SETTINGS
                ]
                heads = ["fields, batch", "first s", "then s", "CPU s", "vectorised"]
                print(f"\n{layout}: {title}\n{table(heads, lines)}", flush=True)
    print("\n" + disturb.summary([disturb.since(before, ours=_jvm_cpu())]))
    return 0


def _measure(
    spark: SparkSession,
    target: Path,
    query: Callable[[DataFrame], None],
    fields: int,
    batch: int,
    repeat: int,
) -> list[str]:
    spark.conf.set(FIELDS, fields)
    spark.conf.set(BATCH, batch)
    seconds, cpu = [], []
    for _ in range(repeat):
        rows = spark.read.format("delta").load(str(target))
        began, began_cpu = time.perf_counter(), _jvm_cpu()
        try:
            query(rows)
        except Exception as error:  # noqa: BLE001 - what fails is a result too
            return [f"{fields}, {batch}", type(error).__name__, "-", "-", "-"]
        seconds.append(time.perf_counter() - began)
        cpu.append(_jvm_cpu() - began_cpu)
    chosen = rows.select(*rows.columns[:-1])
    plan = chosen._jdf.queryExecution().executedPlan().toString()
    return [
        f"{fields}, {batch}",
        f"{seconds[0]:.2f}",
        f"{min(seconds[1:] or seconds):.2f}",
        f"{min(cpu[1:] or cpu):.2f}",
        "yes" if "Batched: true" in plan else "no",
    ]


def _jvm_cpu() -> float:
    """CPU seconds of the session's JVM so far."""
    found = 0.0
    for process in psutil.Process().children(recursive=True):
        if process.name() == "java":
            times = process.cpu_times()
            found += times.user + times.system
    return found


if __name__ == "__main__":
    sys.exit(main())
