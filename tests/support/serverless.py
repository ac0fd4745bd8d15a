"""A session that refuses what Databricks serverless refuses: Spark Connect, a server of ours.

The server's Python processes, planners and executors alike, have numpy and pyarrow and nothing of
ours, no network and 1 GB of memory.
What is refused, and the text of the errors:
https://docs.databricks.com/aws/en/compute/serverless/limitations and
https://github.com/databricks/databricks-sdk-py/issues/1112.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
import pytest

from mnist_spark.spark import session
from mnist_spark.spark.java import find_java
from tests.cluster.standalone import PYTHON, numpy_and_pyarrow
from tests.support.processes import INTERPRETED
from tests.support.servers import free_port, running

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ALLOWED = {
    "spark.databricks.execution.timeout",
    "spark.sql.ansi.enabled",
    "spark.sql.autoBroadcastJoinThreshold",
    "spark.sql.files.maxPartitionBytes",
    "spark.sql.legacy.timeParserPolicy",
    "spark.sql.readSideCharPadding",
    "spark.sql.session.timeZone",
    "spark.sql.shuffle.partitions",
}
"""The settings that can be read and set there."""

WORKER_BYTES = 1 << 30
"""What a Python worker may take there."""

_SET = re.compile(r"\s*(?:SET|RESET)\s+(?!VAR|TIME\s+ZONE)`?([\w.-]*)", re.IGNORECASE)
_UNSUPPORTED_SQL = re.compile(r"\s*(?:UN)?CACHE\s|\s*CREATE\s.*\bGLOBAL\s+TEMP", re.IGNORECASE)


def refuse(replace: Callable[[type, str, Any], None] = setattr) -> None:
    """Makes this process's Spark Connect client refuse.

    Args:
        replace: puts an attribute in the place of another; of a ``MonkeyPatch``, until its end.
    """
    from pyspark.sql.connect.conf import RuntimeConf
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

    for name in ("get", "set", "unset", "isModifiable"):
        replace(RuntimeConf, name, _checked_setting(getattr(RuntimeConf, name)))
    replace(RuntimeConf, "getAll", property(lambda _: _not_supported("reading all settings")))
    replace(SparkSession, "sql", _checked_statement(SparkSession.sql))
    for name in ("cache", "persist", "createGlobalTempView", "createOrReplaceGlobalTempView"):
        replace(DataFrame, name, lambda *_, name=name, **__: _not_supported(name))


def _checked_setting(original: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: Any, key: str, *values: Any) -> Any:
        # Databricks' own client asks for none that its server refuses.
        if not sys._getframe(1).f_globals["__name__"].startswith("pyspark."):
            _check_allowed(key)
        return original(self, key, *values)

    return checked


def _checked_statement(original: Callable[..., Any]) -> Callable[..., Any]:
    def checked(self: Any, statement: str, *args: Any, **kwargs: Any) -> Any:
        setting = _SET.match(statement)
        if setting is not None:
            _check_allowed(setting[1])
        if _UNSUPPORTED_SQL.match(statement):
            _not_supported(statement)
        return original(self, statement, *args, **kwargs)

    return checked


def _check_allowed(key: str) -> None:
    if key not in ALLOWED:
        raise _error("CONFIG_NOT_AVAILABLE", f"Configuration {key} is not available.", "42K0I")


def _not_supported(what: str) -> None:
    line = f"{what} is not supported on serverless compute."
    raise _error("NOT_SUPPORTED_WITH_SERVERLESS", line, "0A000")


def _error(condition: str, line: str, state: str) -> Exception:
    from pyspark.errors.exceptions.connect import AnalysisException

    text = f"[{condition}] {line} SQLSTATE: {state}"
    return AnalysisException(text, errorClass=condition, sql_state=state)


def can_cut_off() -> bool:
    """Whether this machine lets the tests start processes without a network."""
    try:
        return not subprocess.run(["unshare", "-n", "true"], check=False).returncode
    except OSError:
        return False


@contextlib.contextmanager
def connect_server(home: Path) -> Iterator[str]:
    """A Connect server on ``local[2]`` with Delta Lake, whose workers are limited; its URL."""
    python = home / "python"
    cut_off = "unshare -n " if can_cut_off() else ""
    limited = f"ulimit -d {WORKER_BYTES >> 10}\nexec {cut_off}'{PYTHON}' \"$@\"\n"
    python.write_text(f"#!/bin/sh\n{limited}")
    python.chmod(0o755)
    port = free_port()
    settings = (
        session.DELTA_SETTINGS
        | {
            "spark.jars.packages": session.delta_package(),
            "spark.connect.grpc.binding.port": str(port),
            # Workers without a network talk to the JVM through a socket in a folder.
            "spark.python.unix.domain.socket.enabled": "true",
            "spark.python.unix.domain.socket.dir": str(home),
            # VACUUM would shuffle a few rows to 200 tasks, and list two folders in thousands.
            "spark.sql.shuffle.partitions": "4",
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
            "spark.sql.warehouse.dir": str(home / "warehouse"),
            "spark.ui.enabled": "false",
        }
        | INTERPRETED
    )
    command = [
        str(Path(pyspark.__file__).parent / "bin" / "spark-class"),
        "org.apache.spark.deploy.SparkSubmit",
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
        *("--master", "local[2]", "--driver-memory", "1g"),
        *(f"--conf={key}={value}" for key, value in settings.items()),
        "spark-internal",
    ]
    environment = {
        "JAVA_HOME": find_java(),
        "PYSPARK_PYTHON": str(python),
        "PYTHONPATH": str(numpy_and_pyarrow(home / "lib")),
    }
    with running(command, port, home / "server.log", **environment):
        yield f"sc://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def connect_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a Connect server with limited workers listens."""
    with connect_server(tmp_path_factory.mktemp("connect")) as url:
        yield url


@pytest.fixture(scope="session")
def _connected(connect_url: str) -> Iterator[SparkSession]:
    from pyspark.sql.connect.session import SparkSession as ConnectSession

    client = ConnectSession.builder.remote(connect_url).getOrCreate()
    yield client
    client.stop()


@pytest.fixture
def serverless(_connected: SparkSession, monkeypatch: pytest.MonkeyPatch) -> SparkSession:
    """A session as on Databricks serverless; the active one for the time of the test."""
    refuse(monkeypatch.setattr)
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "client.4.9")
    return _connected
