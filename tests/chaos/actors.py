"""The processes of a chaos run: they do one thing for ever, and tell each time in a line of JSON.

``python -m tests.chaos.actors refresher|delta-rs|duckdb '{"argument": …}'``. They end when their
standard input does.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tests.chaos.content import digest

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import SparkSession

PAUSE = 0.2
"""Seconds between two reads or refreshes, so that all get their turn on two cores."""

_stopping = threading.Event()


def main(role: str, arguments: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Spark prints is no answer
    lock = threading.Lock()

    def tell(event: str, **fields: object) -> None:
        line = json.dumps({"event": event, "time": time.time()} | fields) + "\n"
        with lock:
            answers.write(line)

    threading.Thread(target=_wait_for_end, daemon=True).start()
    given: dict[str, Any] = json.loads(arguments)
    if role == "refresher":
        refresher(tell, **given)
    else:
        os.nice(10)
        read_forever(tell, role, {"delta-rs": by_delta_rs, "duckdb": by_duckdb}[role], **given)


def _wait_for_end() -> None:
    sys.stdin.read()
    _stopping.set()


# --- Refreshing -----------------------------------------------------------------------------------


def refresher(
    tell: Any, *, config: str, caches: list[str], master: str, reads: str | None, seed: int
) -> None:
    """Refreshes for ever with one session.

    Args:
        caches: one of which each refresh takes: who doesn't share a cache shares no lock either,
            as if on another machine.
        reads: table that the session reads meanwhile.
    """
    from mnist_spark.refresh.run import refresh
    from mnist_spark.spark import session

    dice = random.Random(seed)
    spark = session.session(master, delta=reads is not None)
    reader = threading.Thread(target=read_by_spark, args=(tell, spark, reads), daemon=True)
    if reads is not None:
        reader.start()
    tell("ready")
    while not _stopping.wait(PAUSE):
        try:
            deep = dice.random() < 0.2
            report = refresh(config, cache=dice.choice(caches), master=master, deep=deep)
        except Exception as error:  # noqa: BLE001 - a refresh must not raise anything here
            tell("raised", error=f"{type(error).__name__}: {error}")
            continue
        (table,) = report.tables
        tell(
            "refresh",
            outcome=table.outcome,
            cause=table.cause,
            error=table.error,
            version=table.version,
            seconds=table.seconds,
        )
    if reads is not None:
        reader.join()
    spark.stop()


# --- Reading --------------------------------------------------------------------------------------


def read_forever(tell: Any, name: str, read: Any, *, path: str, seed: int) -> None:
    dice = random.Random(seed)
    while not _stopping.wait(PAUSE):
        try:
            version, latest, rows = read(path, dice)
        except Exception as error:  # noqa: BLE001 - whatever it is, it's what the run is after
            tell("read-failed", reader=name, error=f"{type(error).__name__}: {error}")
            continue
        told = {"version": version, "latest": latest, "rows": len(rows), "digest": digest(rows)}
        tell("read", reader=name, **told)


def by_delta_rs(path: str, dice: random.Random) -> tuple[int | None, bool, pa.Table]:
    """The latest version."""
    from deltalake import DeltaTable

    table = DeltaTable(path)
    return table.version(), True, rows_of(table)


def rows_of(table: DeltaTable) -> pa.Table:
    from deltalake import QueryBuilder

    query = QueryBuilder().register("t", table).execute("SELECT * FROM t")
    return pa.table(query.read_all())


def by_duckdb(path: str, dice: random.Random) -> tuple[int | None, bool, pa.Table]:
    """The latest version or any other with rows: all are within the retention.

    DuckDB's Delta extension would have to be downloaded; so the files of the version are named.
    """
    import duckdb
    from deltalake import DeltaTable

    latest = DeltaTable(path).version()
    version = latest if dice.random() < 0.5 else dice.randint(1, latest)
    names = DeltaTable(path, version=version).file_uris()
    query = f"SELECT * FROM read_parquet({names}, hive_partitioning = true)"
    return version, version == latest, duckdb.sql(query).to_arrow_table()


def read_by_spark(tell: Any, spark: SparkSession, path: str) -> None:
    def read(path: str, dice: random.Random) -> tuple[int | None, bool, pa.Table]:
        return None, True, spark.read.format("delta").load(path).toArrow()

    while not (Path(path) / "_delta_log" / f"{1:020}.json").exists():
        time.sleep(PAUSE)
    read_forever(tell, "spark", read, path=path, seed=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
