"""``make bench-scale``: does the time per row stay the same, and the memory bounded?

Generated samples, uncompressed, of rising size; each is ingested by the writer columnar in a fresh
process (so the first seconds are a cold start) and then checked as in ``make bench``. The step
``write`` is all from the session being there to the commit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import disturb, measure
from tests.benchmarks.check import check, content
from tests.benchmarks.data import BENCH, PIXELS, ROOT, SPLITS
from tests.benchmarks.show import machine, machine_line, megabytes, table
from tests.benchmarks.writers import CORES

RESULT = BENCH / "scale.json"
TEST_RECORDS = 10_000
TIMEOUT = 3600.0
_DISK_PER_RECORD = 785 * 2  # payload and table


def main() -> int:
    """Runs, prints, saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="+", type=float, help="millions of records")
    args = parser.parse_args()
    sizes = sorted(round(size * 1e6) for size in args.sizes)
    if sizes[0] <= TEST_RECORDS:
        parser.error(f"{TEST_RECORDS:,} records are the test split's; ask for more")
    work = BENCH / "scale"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    free, needed = shutil.disk_usage(work).free, sizes[-1] * _DISK_PER_RECORD
    if free < needed:
        parser.error(f"needs {needed / 1e9:.1f} GB on the disk of data/, {free / 1e9:.1f} are free")
    results = []
    try:
        for size in sizes:
            results.append(_ingest(size, work))
            print(f"{size:,} records: {results[-1]['error'] or 'done'}", file=sys.stderr)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    RESULT.write_text(
        json.dumps({"made": made, "machine": machine(), "runs": results}, indent=1) + "\n"
    )
    print(_report(results))
    return 1 if any(result["error"] for result in results) else 0


def _ingest(size: int, work: Path) -> dict[str, Any]:
    from mnist_spark import write_sample

    source, target, output = work / "source", work / "table", work / "noted.json"
    for folder in (source, target):
        shutil.rmtree(folder, ignore_errors=True)
    write_sample(source, train=size - TEST_RECORDS, test=TEST_RECORDS, gzip=False)
    os.sync()  # else the kernel writes the payload to disk while the table is being written
    order = {
        "kind": "scale",
        "dataset": str(source / "dataset.toml"),
        "target": str(target),
        "cache": str(work / "cache"),
        "output": str(output),
    }
    seen = measure.run(
        [sys.executable, "-m", "tests.benchmarks.child", json.dumps(order)],
        cwd=work,
        env={"PYTHONPATH": str(ROOT)},
        log=BENCH / "scale.log",
        timeout=TIMEOUT,
    )
    result: dict[str, Any] = {
        "records": size,
        "error": f"exit code {seen.status}, see data/bench/scale.log" if seen.status else None,
        "process_seconds": seen.seconds,
        "sampler_cpu_seconds": seen.sampler_cpu,
        "peaks": asdict(seen.peaks),
        "disturbed": asdict(seen.disturbed) if seen.disturbed else None,
    }
    if seen.status:
        return result
    noted = json.loads(output.read_text())
    stop, write = noted["stop"], noted["steps"]["write"]
    busy = seen.cpu_between(stop - write, stop) / write / CORES
    result |= {"steps": noted["steps"], "ranges": noted["ranges"], "busy": busy}
    result |= {"seconds": stop - seen.started, "busy_tenths": _tenths(seen, stop - write, stop)}
    try:
        wanted = {split: content(*_payloads(source, split)) for split in SPLITS}
        result["size"] = asdict(check(target, wanted))
    except ValueError as error:
        result["error"] = f"wrong table: {error}"
    return result


def _tenths(seen: measure.Run, start: float, stop: float) -> list[float]:
    """How busy the cores were in each tenth of the write."""
    bounds = np.linspace(start, stop, 11)
    return [
        round(seen.cpu_between(a, b) / (b - a) / CORES, 2) for a, b in itertools.pairwise(bounds)
    ]


def _payloads(source: Path, split: str) -> tuple[Any, Any]:
    prefix = source / SPLITS[split]
    pixels = np.memmap(f"{prefix}-images-idx3-ubyte", np.uint8, "r", offset=16)
    labels = np.memmap(f"{prefix}-labels-idx1-ubyte", np.uint8, "r", offset=8)
    return pixels.reshape(-1, PIXELS), labels


def _report(results: list[dict[str, Any]]) -> str:
    heads = (
        *("records", "write s", "µs/row", "rows/s", "cores busy", "whole ingest s", "µs/row"),
        *("peak MB: driver", "JVM", "worker", "tree RSS", "PSS", "table MB", "files", "ranges"),
    )
    good = [result for result in results if not result["error"]]
    rows = []
    for result in good:
        records, write, whole = result["records"], result["steps"]["write"], result["seconds"]
        rows.append(
            [
                f"{records:,}",
                f"{write:.2f}",
                f"{write / records * 1e6:.1f}",
                f"{records / write:,.0f}",
                f"{result['busy']:.0%}",
                f"{whole:.2f}",
                f"{whole / records * 1e6:.1f}",
                *(megabytes(result["peaks"][n]) for n in ("driver", "jvm", "worker", "rss", "pss")),
                megabytes(result["size"]["data"]),
                str(result["size"]["files"]),
                str(result["ranges"]),
            ]
        )
    parts = ["", machine_line(), "", table(heads, rows) if rows else "nothing to show", ""]
    if len(good) > 1:
        records = [result["records"] for result in good]
        for what, seconds in (
            ("write", [result["steps"]["write"] for result in good]),
            ("whole ingest", [result["seconds"] for result in good]),
        ):
            slope, fixed = np.polyfit(records, seconds, 1)
            parts.append(f"fitted, {what}: {fixed:.2f} s + {slope * 1e6:.2f} µs per row")
        a, b = good[-2:]
        per_row = [r["steps"]["write"] / r["records"] for r in (a, b)]
        parts.append(
            f"write, time per row at {b['records']:,} ÷ at {a['records']:,}: "
            f"{per_row[1] / per_row[0]:.3f}"
        )
    for result in good:
        busy = " ".join(f"{tenth:.0%}" for tenth in result["busy_tenths"])
        parts.append(f"cores busy in each tenth of the write of {result['records']:,}: {busy}")
    parts += [
        "Process tree only: its CPU seconds ÷ seconds ÷ cores. Payloads were in the page cache.",
        "Memory: single processes' by the kernel's high-water mark; the tree's is sampled.",
    ]
    seen = [disturb.Disturbance(**r["disturbed"]) for r in results if r["disturbed"]]
    parts += [disturb.summary(seen)] if seen else []
    parts += [f"FAILED: {r['records']:,} records: {r['error']}" for r in results if r["error"]]
    return "\n".join(parts)


if __name__ == "__main__":
    os.environ.pop("SPARK_CONF_DIR", None)
    sys.exit(main())
