"""Metrics for Prometheus' node_exporter (``--collector.textfile.directory``) or anything like it.

=====================================================  ============  ==============================
metric                                                 labels        meaning
=====================================================  ============  ==============================
``mnist_spark_refresh_last_run_timestamp_seconds``                   when the last refresh ended
``mnist_spark_refresh_last_run_success``                             1 if no table failed
``mnist_spark_table_last_success_timestamp_seconds``   table         when it was last found or made
                                                                     right
``mnist_spark_table_last_run_success``                 table         1 unless it failed last time
``mnist_spark_table_last_run_seconds``                 table         how long that took
``mnist_spark_table_rows``                             table, split  rows
``mnist_spark_table_version``                          table         version of the Delta table
=====================================================  ============  ==============================

What a table had at its last success stays through failures. Tables that the config doesn't have any
more disappear. An alert: ``time() - mnist_spark_table_last_success_timestamp_seconds > 2 * 86400``
also goes off when nothing runs any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mnist_spark.download import cache as caching
from mnist_spark.errors import MnistSparkError, UsageError, os_errors
from mnist_spark.refresh.report import Outcome, RefreshReport

_RUN, _TABLE = "mnist_spark_refresh_last_run", "mnist_spark_table"
_SUCCESS, _ROWS, _VERSION = (
    f"{_TABLE}_last_success_timestamp_seconds",
    f"{_TABLE}_rows",
    f"{_TABLE}_version",
)
_KEPT = _SUCCESS, _ROWS, _VERSION

_Samples = dict[tuple[str, ...], float]


def check_available() -> None:
    """Raises UsageError unless the library that writes metrics is installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "prometheus-client is not installed", hint='Install "mnist-spark[metrics]"'
        ) from error


def write(path: Path, report: RefreshReport) -> None:
    """Writes the file, whole or not at all. What the old one says of earlier successes stays."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, text: str, samples: _Samples, labels: Sequence[str] = ("table",)) -> None:
        metric = Gauge(name, text, labels, registry=registry)
        for values, value in samples.items():
            (metric.labels(*values) if labels else metric).set(value)

    with os_errors(MnistSparkError, "cannot write the metrics", file=path), caching.locked(path):
        old = _read(path)
        stamps, rows, versions = (_kept(old, name, report) for name in _KEPT)
        for table in report.tables:
            if table.outcome == Outcome.FAILED:
                continue
            stamps[table.table,] = report.finished
            rows |= {(table.table, split): n for split, n in (table.rows or {}).items()}
            if table.version is not None:
                versions[table.table,] = table.version
        passed: _Samples = {(t.table,): t.outcome != Outcome.FAILED for t in report.tables}
        seconds: _Samples = {(t.table,): t.seconds for t in report.tables}
        gauge(f"{_RUN}_timestamp_seconds", "End of the last refresh", {(): report.finished}, ())
        gauge(f"{_RUN}_success", "1 if no table failed", {(): report.ok}, ())
        gauge(_SUCCESS, "When the table was last found or made right", stamps)
        gauge(f"{_TABLE}_last_run_success", "1 unless the table failed", passed)
        gauge(f"{_TABLE}_last_run_seconds", "Seconds that the table took", seconds)
        gauge(_ROWS, "Rows of the table", rows, ("table", "split"))
        gauge(_VERSION, "Version of the Delta table", versions)
        write_to_textfile(str(path), registry)


def _kept(old: Mapping[str, _Samples], name: str, report: RefreshReport) -> _Samples:
    """An earlier run's samples of the tables that have failed now."""
    found = old.get(name, {})
    return {labels: value for labels, value in found.items() if labels[0] in report.failed}


def _read(path: Path) -> Mapping[str, _Samples]:
    """The samples of an earlier run, by metric and labels; nothing if the file is no good."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, _Samples] = {}
    try:
        for family in text_string_to_metric_families(path.read_text("utf-8")):
            for sample in family.samples:
                labels = tuple(sample.labels.get(key, "") for key in ("table", "split"))
                if math.isfinite(sample.value):
                    key = labels if sample.name == _ROWS else labels[:1]
                    found.setdefault(sample.name, {})[key] = sample.value
    except (FileNotFoundError, UnicodeDecodeError, ValueError):
        return {}
    return found
