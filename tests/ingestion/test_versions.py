"""What an ingest needs of Spark, on whichever version is installed (``make test-matrix``)."""

from __future__ import annotations

import subprocess
import sys

import mnist_spark
from mnist_spark.verify import verify
from tests.support.sessions import has_delta


def test_what_the_columnar_writer_writes_is_verified_by_spark(spark, narrow, tmp_path):
    mnist_spark.ingest(
        narrow.description,
        target=tmp_path / "t",
        cache=narrow.cache,
        spark=spark,
        writer="columnar",
    )
    report = verify(tmp_path / "t", dataset=narrow.description, cache=narrow.cache, spark=spark)
    assert report.ok


def test_the_writer_spark_writes_or_says_what_it_lacks(narrow, tmp_path):
    """Delta Lake has no jars for some versions of Spark; the columnar writer needs none."""
    command = [sys.executable, "-m", "mnist_spark", "ingest", "--writer", "spark"]
    command += ["--dataset", narrow.description, "--cache", str(narrow.cache)]
    done = subprocess.run(
        [*command, "--target", str(tmp_path / "t")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if has_delta():
        assert done.returncode == 0, done.stderr
        assert verify(tmp_path / "t", dataset=narrow.description, cache=narrow.cache).ok
    else:
        assert done.returncode == 1
        assert "no Delta Lake known for this Spark" in done.stderr
        assert not (tmp_path / "t").exists()
