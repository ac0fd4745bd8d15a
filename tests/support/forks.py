"""Processes that are quickly there, to be killed: forks of one that has imported what they need."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["mnist_spark.ingestion", "mnist_spark.table.delta_columnar", "tests.support.idxfiles"]
)


@contextmanager
def forked(
    function: Callable[..., None], *arguments: object
) -> Iterator[tuple[ForkServerProcess, Connection]]:
    """Calls a function of a module with a pipe and the arguments; the process, the pipe's end."""
    ours, theirs = _SERVER.Pipe()
    process = _SERVER.Process(target=function, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()
