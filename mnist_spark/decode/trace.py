"""What executors tell of themselves: who has decoded which range in what time.

The first is the proof that a read is spread over a cluster.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from urllib.parse import parse_qs, urlsplit

from mnist_spark.ranges.plan import RecordRange


@dataclass(frozen=True, order=True)
class TaskTrace:
    """One task that has succeeded.

    Attributes:
        split, start, stop: its record range.
        host: the executor's host name.
        executor: the executor's id, as Spark's web interface shows it.
        seconds: from opening the payloads to the last record.
    """

    split: str
    start: int
    stop: int
    host: str
    executor: str
    seconds: float

    @property
    def records(self) -> RecordRange:
        """The range."""
        return RecordRange(self.split, self.start, self.stop)

    def to_json(self) -> str:
        """What :meth:`from_json` makes the same trace from, on the driver."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TaskTrace:
        """The trace that :meth:`to_json` has described."""
        return cls(**json.loads(text))


def trace(records: RecordRange, started: float) -> TaskTrace:
    """Executor side: what has just been done.

    Args:
        started: :func:`time.perf_counter` at the task's start.
    """
    seconds = round(time.perf_counter() - started, 6)
    host = socket.gethostname()
    return TaskTrace(records.split, records.start, records.stop, host, _executor(), seconds)


def _executor() -> str:
    """The executor's id from what cluster managers leave in its environment.

    Python's TaskContext doesn't tell. Kubernetes sets SPARK_EXECUTOR_ID, YARN CONTAINER_ID; the
    standalone worker puts the id into the address of the executor's log. A local master's only
    executor is called "driver" by Spark itself.
    """
    for variable in ("SPARK_EXECUTOR_ID", "CONTAINER_ID"):
        if os.environ.get(variable):
            return os.environ[variable]
    query = parse_qs(urlsplit(os.environ.get("SPARK_LOG_URL_STDOUT", "")).query)
    return query.get("executorId", ["driver"])[0]
