"""Whether all executors reach the table's folder, found out before any work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from mnist_spark.errors import TableError
from mnist_spark.spark import session
from mnist_spark.storage.files import new_file, read_file, remove_file

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def check_reachable(spark: SparkSession, folder: str, tasks: int) -> None:
    """Driver side: leaves a mark in the folder, has executors read it and write one of their own.

    With a local master there is nothing to find out.

    Args:
        folder: path or URL of the table's folder, which is made if it isn't there.
        tasks: how many executors to ask, if there are so many.

    Raises:
        TableError: one of them doesn't see the mark, or can't write; names the host.
    """
    if session.is_local(spark):
        return
    from pyspark.sql.functions import udf

    if "://" not in folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
    token = uuid4().hex
    mark = f".mnist_spark-{token}"  # readers of tables skip what begins with a dot
    with new_file(folder, mark) as stream:
        stream.write(token.encode())
    try:
        probe = udf(_task(folder, mark, token), "string", useArrow=False).asNondeterministic()
        answers = spark.range(0, tasks, 1, tasks).select(probe("id").alias("problem")).collect()
    finally:
        with contextlib.suppress(Exception):
            remove_file(folder, mark)
    problems = sorted({row["problem"] for row in answers if row["problem"]})
    if problems:
        raise TableError(
            "executors do not reach the table's folder",
            file=folder,
            got="; ".join(problems[:3]),
            hint="Use a folder or URL that all nodes reach, or a catalog table with --writer spark",
        )


def _task(folder: str, mark: str, token: str) -> Callable[[int], str | None]:
    def probe(number: int) -> str | None:
        from mnist_spark.table.probe import try_folder

        return try_folder(folder, mark, f"{token}-{number}", token)

    return probe


def try_folder(folder: str, mark: str, own: str, token: str) -> str | None:
    """Executor side: what is wrong with the folder as seen from here; None if nothing.

    Args:
        mark: name of the driver's file.
        own: name of the file to write and remove again.
        token: what the driver's file holds.
    """
    import socket

    host = socket.gethostname()
    try:
        if read_file(folder, mark, len(token) + 1) != token.encode():
            return f"host {host} sees another folder"
        with new_file(folder, f".mnist_spark-{own}") as stream:
            stream.write(b"")
        remove_file(folder, f".mnist_spark-{own}")
    except (TableError, OSError) as error:
        return f"host {host}: {getattr(error, 'got', None) or error}"
    return None
