"""Runs a fetch in a process of its own, and notes how it ended for the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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
    root = Path(mnist_spark.__file__).parents[1]
    child = [sys.executable, "-m", "tests.support.child", str(dataset), str(cache), source]
    done = subprocess.run(
        [*child, json.dumps(SHORT if limits is None else limits)],
        cwd=root,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        timeout=PATIENT_SECONDS,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    result = json.loads(done.stdout)
    for key in ("sha256", "urls"):
        result[key] = tuple(result.get(key, ()))
    outcome = Outcome(output=output, **result)
    told = "recovered" if outcome.error is None else f"{outcome.error}: {outcome.text}"
    told = told.partition(" got ")[2].partition(". Name a folder")[0] or told
    TABLE.append((case, told[:110], outcome.seconds, outcome.memory, outcome.disk))
    return outcome
