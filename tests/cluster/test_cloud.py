"""A table in S3, written by executors of the standalone cluster.

They have no disk in common with the driver, and no environment of its: its credentials are theirs
only if the user says so.
"""

from __future__ import annotations

import pytest
from deltalake import DeltaTable

from mnist_spark.storage import objects
from mnist_spark.storage.options import for_delta_rs
from mnist_spark.verify import verify
from tests.cluster.conftest import standalone
from tests.support.servers import make_bucket
from tests.support.tables import difference, expected, normal


@pytest.fixture
def bucket(s3_endpoint, monkeypatch) -> dict[str, str]:
    """The environment that gives access to ``s3://cluster``; this process has it."""
    environment = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "AKIATESTSOFCLUSTER00",
        "AWS_SECRET_ACCESS_KEY": "tYc2mHjN5bDpUeAoXiRgS1w9ZtBqkW8xQz7Lr0vf",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    make_bucket(s3_endpoint, "cluster")
    return environment


def test_columnar_to_s3_with_staging_there(cluster, large, bucket):
    url = "s3://cluster/table"
    order = {
        "dataset": cluster.driver_only / "large" / "dataset.toml",
        "target": url,
        "staging": "s3://cluster/staged",
        "ranges": 4,
    }
    path = cluster.cloud_python_path
    without = standalone(cluster, "without-keys", python_path=path)
    answer = without.ingest(**order)
    without.close()
    assert answer["error"] == "TableError"
    assert "executors do not reach the table's folder" in answer["line"]
    assert "credentials" in answer["line"]
    assert not [name for name in objects.sizes(url) if name.endswith(".parquet")]

    conf = " ".join(f"--conf spark.executorEnv.{name}={value}" for name, value in bucket.items())
    site = standalone(cluster, "with-keys", conf=conf, python_path=path)
    report = site.ingest(**order)
    checked = site.driver.ingest(do="verify", target=url, cache=cluster.driver_only / "cache")
    site.close()
    assert "error" not in report, report
    assert (checked["ok"], checked["notes"]) == (True, []), checked
    assert (report["writer"], report["transport"]) == ("columnar", "shared")
    assert all(task["host"].startswith("worker") for task in report["tasks"])
    place, options = for_delta_rs(url)
    rows = DeltaTable(place, storage_options=options).to_pyarrow_table()
    assert difference(normal(rows), expected(large, "columns")) == ""
    assert verify(url, cache=cluster.driver_only / "cache").ok
