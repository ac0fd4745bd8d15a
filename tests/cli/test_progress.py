"""Progress bars: on terminals and in notebooks, and nowhere else."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from mnist_spark import progress, write_sample
from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import prepare
from mnist_spark.idx.pair import open_pair
from mnist_spark.ranges.staging import stage
from mnist_spark.storage import objects
from tests.support.jobs import write_job
from tests.support.servers import make_bucket
from tests.support.terminal import Screen, on_terminal

WORK = """
import time
from mnist_spark import progress
progress.DELAY_SECONDS = 0.0
with progress.bar("unpacking", 2 << 20, "B") as bar:
    for _ in range(4):
        bar.update(512 << 10)
        time.sleep(0.15)
"""


def watch(monkeypatch) -> Screen:
    """Makes stderr a terminal, on which also short work shows its bars."""
    monkeypatch.setattr(progress, "DELAY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.0)
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal(columns):
    seen = on_terminal([sys.executable, "-c", WORK], dict(os.environ), columns)
    lines = seen.replace("\r", "\n").splitlines()
    assert any(
        re.search(r"unpacking: +\d+%\|.*\| [\d.]+[kM]/2.00M \[00:00<00:00, [\d.]+MB/s\]", line)
        for line in lines
    )
    assert max(map(len, lines)) in (columns - 1, columns)
    assert lines[-1].strip() == ""  # nothing is left of it


def test_not_in_a_pipe():
    done = subprocess.run([sys.executable, "-c", WORK], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_in_a_notebook():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(WORK)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (cell,) = notebook.cells
    shown = "".join(str(output) for output in cell.outputs)
    assert "unpacking" in shown
    assert "MB/s" in shown
    assert "Warning" not in shown


def test_short_work_shows_none(monkeypatch):
    screen = watch(monkeypatch)
    monkeypatch.setattr(progress, "DELAY_SECONDS", 60)
    with progress.bar("unpacking", 10, "B") as bar:
        bar.update(10)
    assert screen.getvalue() == ""


def test_unpacking_and_planning(tmp_path, monkeypatch):
    write_sample(tmp_path / "in", train=3000, test=500, progress=False)
    dataset = catalog.find(str(tmp_path / "in" / "dataset.toml"))
    screen = watch(monkeypatch)
    inputs = Inputs.chosen(None, tmp_path / "cache", dataset=str(tmp_path / "in" / "dataset.toml"))
    (split,) = prepare(dataset, dataset.select("train"), inputs)
    assert "unpacking: 100%" in screen.getvalue()
    job = write_job(dataset, tmp_path / "table", inputs.cache, split="train", ranges=2)
    assert len(job.tasks) == 2
    assert re.search(r"planning: 100%.*3.00k/3.00k .*rows/s", screen.getvalue())
    path = tmp_path / "staged"
    stage(split.images.path, split.images.sha256, str(path))
    assert "staging: 100%" in screen.getvalue()
    assert open_pair("train", str(next(path.iterdir())), split.pair.labels).records == 3000


def test_uploads(tmp_path, monkeypatch, s3_endpoint):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    make_bucket(s3_endpoint, "progress")
    payload = tmp_path / "payload"
    payload.write_bytes(os.urandom(12 << 20))  # three parts
    screen = watch(monkeypatch)
    url = stage(payload, "0" * 64, "s3://progress/staging")
    assert objects.head(url).size == 12 << 20
    shown = [int(each) for each in re.findall(r"staging: +(\d+)%", screen.getvalue())]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (0, 100)
    told: list[int] = []
    objects.put_file(payload, url, told.append)
    assert sum(told) == 12 << 20
    assert len(told) > 2
