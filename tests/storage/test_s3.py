"""MNIST from an S3 server, over connections that break."""

from __future__ import annotations

import pytest

from mnist_spark import catalog, storage, transfer
from mnist_spark.download import fetch
from mnist_spark.errors import DownloadError
from tests.storage.outcomes import run

SECRET = "s3cr3t-key-of-the-tests"
FILES = tuple(file.payload_sha256 for file in catalog.find("mnist").splits[0].files)


@pytest.fixture
def bucket(s3_endpoint, monkeypatch, real_data):
    environment(monkeypatch, s3_endpoint)
    filesystem, path = storage.filesystem("s3://mnist")
    if not filesystem.exists(path):
        filesystem.mkdir(path)
        filesystem.put(str(real_data / "mnist") + "/", f"{path}/raw/", recursive=True)
    return filesystem


def environment(monkeypatch, endpoint):
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


def test_cut_ten_times(bucket, s3_endpoint, cutter, tmp_path):
    port = int(s3_endpoint.rpartition(":")[2])
    broken = cutter(port, after=700_000, cuts=10)
    outcome = run(
        "S3, key, s3://, cut ten times",
        "mnist",
        tmp_path,
        source="s3://mnist/raw",
        limits={"BACKOFF_SECONDS": 0.1},
        env={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{broken.port}"},
    )
    assert outcome.error is None, outcome.text
    assert outcome.sha256 == FILES
    assert broken.done == 10
    assert SECRET not in outcome.output


def test_another_layout_is_found_and_probed(bucket, tmp_path):
    mnist = catalog.find("mnist")
    got = fetch(mnist, mnist.select("test"), source="s3://mnist", cache=tmp_path)
    assert {each.url.rpartition("/")[0] for each in got.values()} == {"s3://mnist/raw"}
    url = next(iter(got.values())).url
    first = transfer.probe(url)
    assert transfer.probe(url, first.etag).status == "unchanged"
    assert transfer.probe(url, '"other"').status == "changed"


def test_failures(bucket, tmp_path, monkeypatch):
    mnist = catalog.find("mnist")
    for source in ("s3://mnist/absent", "s3://no-such-bucket/"):
        with pytest.raises(DownloadError, match="HTTP 404 Not Found|not found"):
            fetch(mnist, mnist.select("test"), source=source, cache=tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(DownloadError, match="no credentials"):
        fetch(mnist, mnist.select("test"), source="s3://mnist/raw", cache=tmp_path)
