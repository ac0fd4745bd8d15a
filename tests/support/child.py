"""A process that fetches and unpacks a dataset's training split and says how it went, as JSON.

Arguments: the description of the dataset, the cache folder, the source ("" for the mirrors), and
the limits as JSON. Logs of level DEBUG go to stderr.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import threading
import time
from pathlib import Path

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


def main() -> None:
    name, cache, source, changed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    for key, value in json.loads(changed).items():
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
    print(json.dumps(result))


if __name__ == "__main__":
    main()
