"""The driver's side of a dataset of a billion records: planning and committing many ranges.

No data is read or written: executors' answers are made up, in the form in which they come. What is
real: the plan, the tasks as they are handed out, the commit through delta-rs, the log.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deltalake import DeltaTable

from mnist_spark.catalog.dataset import find
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.decode.parquet_file import DataFile
from mnist_spark.decode.trace import TaskTrace
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.idx.sample import write_sample
from mnist_spark.ranges.plan import SplitSize, plan_ranges
from mnist_spark.ranges.task import PayloadSlice, RangeTask, to_json
from mnist_spark.spark.tasks import WAVE_TASKS
from mnist_spark.table import delta_columnar
from mnist_spark.table.job import WriteJob
from mnist_spark.table.target import Target

RECORDS = 1_000_000_000


def main() -> None:
    """Prints seconds and memory per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ranges", type=int, nargs="*", default=[2_921, 100_000])
    for count in parser.parse_args().ranges:
        with tempfile.TemporaryDirectory() as folder:
            measure(count, Path(folder))


def measure(count: int, folder: Path) -> None:
    """One size."""
    print(f"{RECORDS:,} records in {count:,} ranges")
    with step("plan the ranges"):
        ranges = plan_ranges([SplitSize("train", RECORDS, 784)], parallelism=64, count=count)
    with step("make the tasks, in waves"):
        piece = PayloadSlice("/lake/staging/" + "0" * 64 + ".idx", "0" * 64)
        largest = 0
        for start in range(0, count, WAVE_TASKS):
            wave = [RangeTask(each, piece, piece) for each in ranges[start : start + WAVE_TASKS]]
            largest = max(largest, len(to_json(wave)))
    files = [
        DataFile(
            f"split=train/part-{each.start:010d}-00000000-0000-0000-0000-000000000000.zstd.parquet",
            60_000_000,
            json.dumps(
                {
                    "numRecords": each.records,
                    "minValues": {"label": 0, "index": each.start},
                    "maxValues": {"label": 9, "index": each.stop - 1},
                    "nullCount": {"label": 0, "index": 0},
                }
            ),
            TaskTrace("train", each.start, each.stop, "worker", "0", 10.0),
        )
        for each in ranges
    ]
    write_sample(folder / "in", train=10, test=10, progress=False)
    dataset = find(str(folder / "in" / "dataset.toml"))
    splits = prepare(dataset, dataset.select(), Inputs(None, folder / "cache"))
    schema = catalog_schema(dataset, Layout.COLUMNS)
    target = Target.parse(str(folder / "table"))
    job = WriteJob(
        target=target, dataset=dataset, schema=schema, splits=splits, ranges=[], parallelism=64
    )
    (folder / "table").mkdir()
    with step("commit the files"):
        delta_columnar.commit(job, files)
    with step("open the table, list its files"):
        assert len(DeltaTable(target.text).file_uris()) == count
    log = sum(path.stat().st_size for path in (folder / "table" / "_delta_log").iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  largest wave {largest / 1e6:.2f} MB, log {log / 1e6:.1f} MB, peak RSS {peak:.0f} MB")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Times a step."""
    start = time.perf_counter()
    yield
    print(f"  {time.perf_counter() - start:7.2f} s  {name}")


if __name__ == "__main__":
    main()
