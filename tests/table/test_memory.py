"""The memory of an ingest doesn't grow with the number of rows."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import psutil
import pytest

from mnist_spark.idx.sample import write_sample
from tests.support.processes import Driver
from tests.support.tables import dataset_of

DRIVER_MB, WORKER_MB = 400, 500


def peak(process: psutil.Process) -> float:
    """The most resident memory that the process has ever had, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0  # none: it has just ended


def write_long_sample(folder: Path, times: int) -> Path:
    """A sample of 10,000 training records, the same ones so many times; its description.

    To draw 400,000 digits would take a minute.
    """
    records = 10_000
    write_sample(folder, train=records, test=1000, gzip=False, progress=False)
    description = folder / "dataset.toml"
    text = description.read_text("utf-8")
    text = text.replace(f"records = {records}\n", f"records = {records * times}\n")
    for role, size in (("images-idx3", 784), ("labels-idx1", 1)):
        path = folder / f"train-{role}-ubyte"
        old = path.read_bytes()
        header = old[: len(old) - records * size]
        new = header[:4] + (records * times).to_bytes(4, "big") + header[8:]
        new += old[len(header) :] * times
        path.write_bytes(new)
        text = text.replace(f"size = {len(old)}\n", f"size = {len(new)}\n")
        text = text.replace(hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
    description.write_text(text, "utf-8")
    return description


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to measure with")
def test_peak_memory(tmp_path):
    """300 MB of payload; Python's peaks are by the kernel, sampled for workers that end."""
    description = write_long_sample(tmp_path / "in", 40)
    driver = Driver(tmp_path / "driver", delta=False)
    driver.wait_ready()
    peaks: dict[int, float] = {}

    def sample() -> None:
        for process in driver.tree():
            try:
                if "python" in process.name():
                    peaks[process.pid] = peak(process)
            except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                continue

    driver.start(
        dataset=str(description),
        cache=tmp_path / "cache",
        target=tmp_path / "t",
        writer="columnar",
    )
    while not (answered := driver.poll(0.05)):
        sample()
    sample()
    driver.close()
    assert (answered["writer"], answered["table_version"]) == ("columnar", 1)
    assert dataset_of(tmp_path / "t").count_rows() == 401_000
    print(f"peaks in MB, the driver's first: {[round(each) for each in peaks.values()]}")
    assert peaks.pop(driver.process.pid) < DRIVER_MB
    # The daemon that forks the workers, and one worker at least.
    assert len(peaks) >= 2
    assert max(peaks.values()) < WORKER_MB
