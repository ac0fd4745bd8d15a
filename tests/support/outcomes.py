"""Runs a fetch in a process of its own, and notes how it ended for the table."""

from __future__ import annotations

import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import mnist_spark

TABLE: list[tuple[str, str, float, float, float]] = []
"""Rows: fault, outcome, seconds, peak MB of memory, peak MB in the cache folder."""

SHORT = {
    "CONNECT_SECONDS": 0.5,
    "READ_SECONDS": 0.5,
    "TOTAL_SECONDS": 4.0,
    "SLOWEST_BYTES_PER_SECOND": 1e12,
    "BACKOFF_SECONDS": 0.05,
}
"""Limits for servers that hang."""
PATIENT_SECONDS = 60
"""Far beyond those limits: a process that still runs hangs."""


@functools.cache
def _parent() -> subprocess.Popen[str]:
    """The process whose forks do the work: it imports everything once, and ends with this one."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.child"],
        cwd=Path(mnist_spark.__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _fork(**order: Any) -> str:
    parent = _parent()
    assert parent.stdin is not None
    assert parent.stdout is not None
    print(json.dumps(order), file=parent.stdin, flush=True)
    ready, _, _ = select.select([parent.stdout], [], [], PATIENT_SECONDS)
    if not ready:
        _parent.cache_clear()
        for process in [*psutil.Process(parent.pid).children(), parent]:
            process.kill()
    return parent.stdout.readline()


@dataclass(frozen=True)
class Outcome:
    """How a fetch ended.

    Attributes:
        error: the class of the error, None if there was none.
        text: its line.
        memory, disk: peak MB of the process (resident), and of all files in the cache folder.
        output: all that the process printed and logged.
    """

    error: str | None
    text: str
    seconds: float
    memory: float
    disk: float
    output: str
    sha256: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    downloaded: int = 0


def run(
    case: str,
    dataset: str | Path,
    cache: Path,
    *,
    source: str = "",
    limits: dict[str, float] | None = None,
    env: dict[str, str] | None = None,
) -> Outcome:
    """Fetches and unpacks the dataset's training split; adds a row to the table."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("output", "result")]
        code = _fork(
            arguments=[str(dataset), str(cache), source, SHORT if limits is None else limits],
            environment=os.environ | (env or {}),
            output=str(files[0]),
            result=str(files[1]),
        )
        output = files[0].read_text("utf-8", "replace")
        assert code == "0\n", output[-4000:]
        result = json.loads(files[1].read_text("utf-8"))
    for key in ("sha256", "urls"):
        result[key] = tuple(result.get(key, ()))
    outcome = Outcome(output=output, **result)
    told = "recovered" if outcome.error is None else f"{outcome.error}: {outcome.text}"
    told = told.partition(" got ")[2].partition(". Name a folder")[0] or told
    TABLE.append((case, told[:110], outcome.seconds, outcome.memory, outcome.disk))
    return outcome
