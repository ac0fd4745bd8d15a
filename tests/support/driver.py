"""A process that does as it is told, to be watched and killed: a line of JSON in, one out.

Arguments: Spark master or ``sc://…`` (Spark Connect); whether Spark itself writes Delta tables
("delta" or "", and URLs of some).
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_spark import register
from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.errors import MnistSparkError
from mnist_spark.ingestion import ingest
from mnist_spark.ranges.plan import plan_ranges, split_size
from mnist_spark.ranges.transport import carry, plan_tasks
from mnist_spark.refresh.run import refresh
from mnist_spark.spark import failures, session
from mnist_spark.spark.planned import PlannedFiles, planned
from mnist_spark.verify import verify
from tests.support.serverless import refuse

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def start(master: str, delta: str) -> SparkSession:
    spark = session.session(master, delta=bool(delta), tables=delta.split()[1:])
    if session.is_connect(spark):
        refuse()  # what works there needs no setting, and so works with Databricks' server too
    return spark


def read(spark: SparkSession, **order: Any) -> dict[str, Any]:
    """What a data source gives, summed up by the executors."""
    from pyspark.sql import functions as f

    register(spark)
    frame = spark.read.format(order.pop("format")).options(**order).load()
    row = (
        frame.withColumn("task", f.spark_partition_id())
        .agg(
            f.count("*").alias("rows"),
            f.sum("label").alias("labels"),
            f.sum("index").alias("indices"),
            f.count_distinct("task").alias("tasks"),
        )
        .first()
    )
    assert row is not None
    return row.asDict()


def write_damaged(spark: SparkSession, dataset: str, cache: str, target: str, **_: Any) -> None:
    """Has tasks write files whose bytes travel inside them, one of these bytes another one."""
    found = catalog.find(dataset)
    splits = prepare(found, found.select(), Inputs(None, Path(cache)))
    pairs = [split.pair for split in splits]
    ranges = plan_ranges([split_size(pair) for pair in pairs], parallelism=2)
    tasks = [carry(task) for task in plan_tasks(pairs, ranges)]
    data = bytearray(tasks[0].images.data or b"")
    data[len(data) // 2] ^= 1
    tasks[0] = replace(tasks[0], images=replace(tasks[0].images, data=bytes(data)))
    schema = catalog_schema(found, Layout.COLUMNS)
    planned(spark, PlannedFiles, tasks, schema, inline=True, folder=target).collect()


def answer(spark: SparkSession, order: dict[str, Any]) -> dict[str, Any]:
    try:
        do = order.pop("do", "ingest")
        if do == "read":
            return read(spark, **order)
        if do == "write_damaged":
            write_damaged(spark, **order)
        if do == "verify":
            return json.loads(verify(order.pop("target"), spark=spark, **order).to_json())
        if do == "refresh":
            return json.loads(refresh(**order).to_json())
        return json.loads(ingest(spark=spark, **order).to_json())
    except MnistSparkError as error:
        return {"error": type(error).__name__, "line": str(error)}
    except Exception as error:  # noqa: BLE001 - Spark's, if nobody of ours is between
        found = failures.from_spark(error)
        return {"error": type(found).__name__, "line": str(found)}


def main(master: str, delta: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Spark prints is no answer
    spark = start(master, delta)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        forever = order.pop("forever", False)
        while True:
            print(json.dumps(answer(spark, dict(order))), file=answers, flush=True)
            if not forever:
                break
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
