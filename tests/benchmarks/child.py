"""The fresh process of one contender: ``python -m tests.benchmarks.child JSON``.

Imports nothing that the contender doesn't need. Writes a JSON line per repetition: when it began
and ended by the machine's monotonic clock, which the parent shares.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Order = Mapping[str, Any]
Note = Callable[..., None]


def main() -> None:
    order = json.loads(sys.argv[1])
    with open(order["output"], "w", buffering=1) as output:

        def note(**values: object) -> None:
            print(json.dumps(values), file=output)

        if order["kind"] == "write":
            _write(order, note)
        elif order["kind"] == "scale":
            _scale(order, note)
        else:
            from tests.benchmarks import reads

            reads.run(order, note)


def _write(order: Order, note: Note) -> None:
    from tests.benchmarks.writers import BARE, WRITERS, Place

    (contender,) = (c for c in (BARE, *WRITERS) if c.key == order["key"])
    place = Place(*(Path(order[name]) for name in ("source", "cache", "work")))
    write = contender.start(place)
    for number in range(order["repeat"]):
        if number and not contender.keep_payloads:
            shutil.rmtree(place.cache / "payloads", ignore_errors=True)
        target = place.work / f"table-{number}"
        start = time.monotonic()
        steps = write(target)
        note(start=start, stop=time.monotonic(), target=str(target), steps=dict(steps or {}))


def _scale(order: Order, note: Note) -> None:
    import mnist_spark
    from tests.benchmarks.writers import MASTER

    start = time.monotonic()
    report = mnist_spark.ingest(
        order["dataset"],
        target=order["target"],
        cache=order["cache"],
        writer="columnar",
        master=MASTER,
    )
    note(
        start=start,
        stop=time.monotonic(),
        steps=dict(report.seconds),
        ranges=len(report.ranges),
        files=report.table_files,
    )


if __name__ == "__main__":
    main()
