"""A process that ingests as it is told, to be watched and killed: a line of JSON in, one out.

Arguments: Spark master, and whether Spark itself writes Delta tables ("delta" or "").
"""

from __future__ import annotations

import json
import os
import sys

from mnist_spark import session
from mnist_spark.errors import MnistSparkError
from mnist_spark.ingestion import ingest


def main(master: str, delta: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Spark prints is no answer
    spark = session.session(master, delta=bool(delta))
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        forever = order.pop("forever", False)
        while True:
            try:
                report = ingest(spark=spark, **order)
                answer = {"writer": report.writer, "version": report.table_version}
            except MnistSparkError as error:
                answer = {"error": type(error).__name__, "line": str(error)}
            print(json.dumps(answer), file=answers, flush=True)
            if not forever:
                break
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
