"""MNIST from servers of S3 and of Google Cloud Storage's API, over connections that break."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import CommitProperties

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import transfer
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import DownloadError
from mnist_spark.storage import objects
from mnist_spark.storage.files import names_in, read_file, remove_file, sizes_in
from mnist_spark.storage.options import for_delta_rs
from tests.support.outcomes import run
from tests.support.servers import make_bucket

MNIST = catalog.find("mnist")
SECRET = "s3cr3t-key-of-the-tests"


@dataclass(frozen=True)
class Bucket:
    """MNIST's files, in the folder ``raw`` of the bucket ``mnist``.

    Attributes:
        access: for the name of the case.
        variable: of the environment, says where the server is.
    """

    url: str
    access: str
    variable: str
    endpoint: str


@pytest.fixture
def s3(s3_endpoint, monkeypatch) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return Bucket("s3://mnist", "S3, key", "AWS_ENDPOINT_URL", s3_endpoint)


@pytest.fixture
def gs(gcs_endpoint) -> Bucket:
    return Bucket("gs://mnist", "GCS, anonymous", "STORAGE_EMULATOR_HOST", gcs_endpoint)


@pytest.fixture(params=["s3", "gs"])
def bucket(request, monkeypatch, real_data) -> Bucket:
    found: Bucket = request.getfixturevalue(request.param)
    monkeypatch.setenv(found.variable, found.endpoint)
    if request.param == "s3":
        make_bucket(found.endpoint, "mnist")
    if "raw" not in objects.names(found.url):
        for file in (real_data / "mnist").glob("*.gz"):
            objects.put_file(file, f"{found.url}/raw/{file.name}")
    return found


def test_cut_many_times(bucket, cutter, tmp_path):
    cuts = 10
    broken = cutter(int(bucket.endpoint.rpartition(":")[2]), after=700_000, cuts=cuts)
    outcome = run(
        f"{bucket.access}, cut {cuts} times",
        "mnist",
        tmp_path,
        source=f"{bucket.url}/raw",
        limits={"BACKOFF_SECONDS": 0.1},
        env={bucket.variable: f"http://127.0.0.1:{broken.port}"},
    )
    assert outcome.error is None, outcome.text
    assert outcome.sha256 == tuple(file.payload_sha256 for file in MNIST.splits[0].files)
    assert broken.done == cuts
    assert SECRET not in outcome.output


def test_another_layout_is_found_and_probed(bucket, tmp_path):
    got = fetch(MNIST, MNIST.select("test"), Inputs(bucket.url, tmp_path))
    assert {each.url.rpartition("/")[0] for each in got.values()} == {f"{bucket.url}/raw"}
    url = next(iter(got.values())).url
    first = transfer.probe(url)
    assert transfer.probe(url, first.etag).status == "unchanged"
    assert transfer.probe(url, '"other"').status == "changed"


def test_nothing_there(bucket, tmp_path):
    for source in (f"{bucket.url}/absent", f"{bucket.url}-no-such-bucket/"):
        with pytest.raises(DownloadError, match="HTTP 404 Not Found|not found"):
            fetch(MNIST, MNIST.select("test"), Inputs(source, tmp_path))


def test_a_table_takes_one_of_two_commits(bucket):
    """The bytes that obstore and delta-rs write are found by each other."""
    url = f"{bucket.url}/table"
    place, options = for_delta_rs(url)
    schema = Schema.from_arrow(pa.schema([("a", pa.int32())]))
    DeltaTable.create(place, schema, storage_options=options)
    both = [DeltaTable(place, storage_options=options) for _ in range(2)]
    once = CommitProperties(max_commit_retries=0)
    both[0].create_write_transaction([], "overwrite", schema, commit_properties=once)
    with pytest.raises(CommitFailedError):
        both[1].create_write_transaction([], "overwrite", schema, commit_properties=once)
    assert DeltaTable(place, storage_options=options).version() == 1
    logs = [f"_delta_log/{version:020}.json" for version in range(2)]
    assert names_in(url) == ["_delta_log"]
    assert sorted(sizes_in(url, [*logs, "none"])) == logs
    assert b"protocol" in read_file(url, logs[0], 1 << 20)
    for name in logs:
        remove_file(url, name)
    assert sizes_in(url, logs) == {}


def test_no_credentials(s3, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv(s3.variable, s3.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(DownloadError, match="no credentials"):
        fetch(MNIST, MNIST.select("test"), Inputs("s3://mnist/raw", tmp_path))
