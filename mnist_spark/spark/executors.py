"""Runs functions of this package on Spark's executors, which don't have the package.

Code travels by value, with the tasks: executors need Python, numpy and pyarrow. That asks three
things of all that runs there (``tests/spark/test_executors.py`` runs it without the package):

- Refer to functions and classes of this package, never to a module of it: a module would travel
  whole, with whatever it imports.
- Import this package at the top of a module, never within a function.
- No ``functools.cache``: such a function is pickled by name.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.datasource import DataSource

MAX_MESSAGE_BYTES = 80 << 20
"""Base64 within one plan that a Connect server accepts: its limit is 128 MiB
(``spark.connect.grpc.maxInboundMessageSize``)."""

_PICKLING = threading.Lock()
_code: dict[Callable[..., Any], bytes] = {}
_PACKAGE = sys.modules[__name__.partition(".")[0]]


@contextlib.contextmanager
def _by_value() -> Iterator[Any]:
    """PySpark's ``cloudpickle``, which within the block pickles this package's code too.

    The choice is the process's, and users' own functions shall be pickled as ever. So this holds
    for as long as our pickling takes, and not longer.
    """
    from pyspark.cloudpickle import cloudpickle

    pickler: Any = cloudpickle  # it has no types
    with _PICKLING:
        chosen = _PACKAGE.__name__ in pickler.list_registry_pickle_by_value()
        pickler.register_pickle_by_value(_PACKAGE)
        try:
            yield pickler
        finally:
            if not chosen:
                pickler.unregister_pickle_by_value(_PACKAGE)


def dumps(value: object) -> bytes:
    """Pickles a value, or a function with its values, together with the code that it needs."""
    with _by_value() as pickler:
        return bytes(pickler.dumps(value))


def code_of(function: Callable[..., Any]) -> bytes:
    """A function of this package, pickled by value, once per process: that takes some 50 ms.

    Where the code travels apart from the values, these may not be of this package's classes.
    """
    if function not in _code:
        _code[function] = dumps(function)
    return _code[function]


def run(spark: SparkSession, function: Callable[[int], Any], returns: str, tasks: int) -> list[Any]:
    """Calls a function on executors, a Spark task per call. Classic and Connect.

    Args:
        function: is called with 0 up to ``tasks - 1``. What it holds, each task gets.
        returns: the Spark type of what the function returns.

    Returns:
        what the calls have returned, in the order of the numbers.

    Raises:
        PySparkException: a call failed, see :func:`mnist_spark.spark.failures.from_spark`.
    """
    from pyspark.sql.functions import udf

    code = dumps(function)

    def call(number: int) -> Any:
        return pickle.loads(code)(number)  # noqa: S301 - what dumps() has made

    # Not deterministic: Spark must neither repeat nor drop a call. Without Arrow: a few values per
    # task aren't worth its imports.
    column = udf(call, returns, useArrow=False).asNondeterministic()("id").alias("result")
    return [row["result"] for row in spark.range(0, tasks, 1, tasks).select(column).collect()]


def register(spark: SparkSession, source: type[DataSource]) -> None:
    """Makes a Python data source known to a session, whose planner and executors get its code."""
    with _by_value():
        spark.dataSource.register(source)
