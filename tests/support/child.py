"""Processes that fetch and unpack a dataset's training split and say how it went, as JSON.

Each is a fork of this one, which has imported everything. A line of JSON in names the description
of the dataset, the cache folder, the source ("" for the mirrors), the limits, the environment, and
the file for stdout and stderr, logs of level DEBUG among them. A line out is its exit code.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import limits, payload
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import MnistSparkError


def disk(folder: Path) -> int:
    """Bytes of all files below, temporary ones too."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # renamed meanwhile
            total += path.stat().st_size
    return total


def peak_memory() -> int:
    """Bytes. Not getrusage's: that of a process includes what its parent had when it forked."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) << 10


def work(name: str, folder: str, source: str, changed: dict[str, float]) -> dict[str, object]:
    cache = Path(folder)
    for key, value in changed.items():
        setattr(limits, key, value)
    logging.basicConfig(level=logging.DEBUG)
    dataset = catalog.find(name)
    peak = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, disk(cache))

    watcher = threading.Thread(target=watch)
    watcher.start()
    result: dict[str, object] = {"error": None, "text": ""}
    start = time.perf_counter()
    try:
        fetched = fetch(dataset, dataset.select("train"), Inputs(source or None, cache))
        payloads = [payload.unpack(each, cache) for each in fetched.values()]
        result["sha256"] = [each.sha256 for each in payloads]
        result["urls"] = [each.url for each in payloads]
        result["downloaded"] = sum(each.downloaded for each in fetched.values())
    except MnistSparkError as error:
        result |= {"error": type(error).__name__, "text": str(error)}
    finally:
        over.set()
    result["seconds"] = time.perf_counter() - start
    watcher.join()
    result["disk"] = max(peak, disk(cache)) / 1e6
    result["memory"] = peak_memory() / 1e6
    return result


def fork(arguments: list[Any], environment: dict[str, str], output: str, result: str) -> int:
    """Does the work in a process of its own, and returns its exit code."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    code = 1
    try:
        with open(output, "wb") as stream:
            for number in (1, 2):
                os.dup2(stream.fileno(), number)
        os.environ.clear()
        os.environ.update(environment)
        Path(result).write_text(json.dumps(work(*arguments)), "utf-8")
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not go on as its parent does
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        print(fork(**json.loads(line)), flush=True)
