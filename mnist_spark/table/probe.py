"""Whether all executors reach the table's folder, found out before any work is done."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from mnist_spark.errors import TableError
from mnist_spark.spark import executors, session
from mnist_spark.storage.files import new_file, remove_file, try_folder
from mnist_spark.storage.urls import is_url

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
    if not is_url(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    token = uuid4().hex
    mark = f".mnist_spark-{token}"  # readers of tables skip what begins with a dot
    with new_file(folder, mark) as stream:
        stream.write(token.encode())

    def probe(number: int) -> str | None:
        return try_folder(folder, mark, f"{mark}-{number}", token)

    try:
        answers = executors.run(spark, probe, "string", tasks)
    finally:
        with contextlib.suppress(Exception):
            remove_file(folder, mark)
    problems = sorted({problem for problem in answers if problem})
    if problems:
        raise TableError(
            "executors do not reach the table's folder",
            file=folder,
            got="; ".join(problems[:3]),
            hint="Use a folder or URL that all nodes reach, or a catalog table with --writer spark",
        )
