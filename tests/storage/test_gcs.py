"""MNIST from a server of Google Cloud Storage's API, over connections that break."""

from __future__ import annotations

import pytest

from mnist_spark import catalog, storage, transfer
from mnist_spark.download import fetch
from mnist_spark.errors import DownloadError
from tests.storage.outcomes import run

MNIST = catalog.find("mnist")


@pytest.fixture
def bucket(gcs_endpoint, monkeypatch, real_data):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_endpoint)
    filesystem, path = storage.filesystem("gs://mnist/raw")
    if not filesystem.exists(path):
        for file in (real_data / "mnist").glob("*.gz"):
            filesystem.pipe_file(f"{path}/{file.name}", file.read_bytes())
    return filesystem


def test_cut_three_times(bucket, gcs_endpoint, cutter, tmp_path):
    broken = cutter(int(gcs_endpoint.rpartition(":")[2]), after=700_000, cuts=3)
    outcome = run(
        "GCS, anonymous, gs://, cut 3 times",
        "mnist",
        tmp_path,
        source="gs://mnist/raw",
        limits={"BACKOFF_SECONDS": 0.1},
        env={"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{broken.port}"},
    )
    assert outcome.error is None, outcome.text
    assert outcome.sha256 == tuple(file.payload_sha256 for file in MNIST.splits[0].files)
    assert broken.done == 3


def test_another_layout_is_found_and_probed(bucket, tmp_path):
    got = fetch(MNIST, MNIST.select("test"), source="gs://mnist", cache=tmp_path)
    assert {each.url.rpartition("/")[0] for each in got.values()} == {"gs://mnist/raw"}
    url = next(iter(got.values())).url
    first = transfer.probe(url)
    assert transfer.probe(url, first.etag).status == "unchanged"
    assert transfer.probe(url, '"other"').status == "changed"


def test_failures(bucket, tmp_path):
    for source in ("gs://mnist/absent", "gs://no-such-bucket/"):
        with pytest.raises(DownloadError, match="HTTP 404 Not Found|not found"):
            fetch(MNIST, MNIST.select("test"), source=source, cache=tmp_path)
