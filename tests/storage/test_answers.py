"""Answers of object stores that are lost or wrong: a run ends with its rows, once, or says why not.

A proxy before moto and before Azurite breaks the connection after a request has been carried out,
or answers 409, 412, 500 or 503 once, before or after that. The commit is the product's own, and so
are the files; no Spark is needed to call them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.errors import ConflictError, TableError
from mnist_spark.table import delta_columnar
from mnist_spark.table.job import WriteJob
from tests.support.idxfiles import write_dataset
from tests.support.jobs import encode, write
from tests.support.proxy import Fault, Proxy, proxied
from tests.support.servers import make_bucket
from tests.support.stores import ANSWERS, NEW, OLD, Store, job_for, labels, open_at, runs


@pytest.fixture(scope="module")
def s3_proxy(s3_endpoint: str) -> Iterator[Proxy]:
    make_bucket(s3_endpoint, "answers")
    with proxied(int(s3_endpoint.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def azure_proxy(azure_for_tables) -> Iterator[Proxy]:
    from azure.storage import blob

    with blob.BlobServiceClient.from_connection_string(azure_for_tables.connection()) as client:
        client.create_container("answers")
    with proxied(azure_for_tables.port) as proxy:
        yield proxy


def s3_environment(proxy: Proxy) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }


@pytest.fixture(params=["s3", "azure"])
def store(request, monkeypatch, tmp_path) -> Store:
    """A folder of its own, and this process' environment set for it."""
    name = tmp_path.name
    if request.param == "s3":
        proxy = request.getfixturevalue("s3_proxy")
        environment = s3_environment(proxy)
        found = Store(f"s3://answers/{name}", proxy)
    else:
        proxy = request.getfixturevalue("azure_proxy")
        server = request.getfixturevalue("azure_for_tables")
        environment = {"AZURE_STORAGE_CONNECTION_STRING": server.connection(proxy.port)}
        found = Store(f"az://answers/{name}", proxy)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    proxy.put()
    return found


@pytest.fixture
def datasets(tmp_path) -> tuple[Dataset, Dataset]:
    """Two of one name, with other bytes."""
    old, new = (
        write_dataset(tmp_path / name, pairs) for name, pairs in (("old", OLD), ("new", NEW))
    )
    return old, new


def assert_written_once(store: Store, job: WriteJob, version: int, pairs: Any) -> None:
    """One version is the run's; the table holds its rows and says so."""
    table = open_at(store)
    assert [each for each, run in runs(table) if run == job.run_id] == [version]
    assert labels(table) == {name: pair[1][8:] for name, pair in pairs.items()}
    noted = table.metadata().configuration
    for split in job.splits:
        for role, payload in zip(("images", "labels"), split.payloads, strict=True):
            assert noted[f"mnist_spark.source.{split.name}.{role}.sha256"] == payload.sha256


@pytest.mark.parametrize("answer", ANSWERS)
def test_once_for_everything_that_is_written(store, datasets, tmp_path, answer):
    """No write has two faults in its commit of rows: of two in a row, that one gives up."""
    old, new = datasets
    status, done = ANSWERS[answer]

    def meets(job: WriteJob, pairs: Any, *patterns: str) -> None:
        store.proxy.put(*(Fault(pattern, status, done) for pattern in patterns))
        version = write(job)
        assert len(store.proxy.hits()) == len(patterns)
        store.proxy.put()
        assert_written_once(store, job, version, pairs)

    first = job_for(store, old, tmp_path / "cache", staging=f"{store.url}/staged")
    creation, rows, properties = (rf"PUT .*/{version:020}\.json" for version in (0, 2, 3))
    meets(first, OLD, r"(PUT|POST) .*\.idx", creation)
    second = job_for(store, new, tmp_path / "cache")
    meets(second, NEW, r"(PUT|POST) .*\.parquet", rows, properties)
    open_at(store).alter.set_table_properties({"delta.checkpointInterval": "1"})
    meets(job_for(store, old, tmp_path / "cache"), OLD, r"PUT .*_delta_log/.*checkpoint")


def test_all_answers_to_the_commit_are_lost(store, datasets, tmp_path):
    """Nobody can know; so the error says how to find out."""
    old, new = datasets
    write(job_for(store, old, tmp_path / "cache"))
    job = job_for(store, new, tmp_path / "cache")
    files = encode(job)
    store.proxy.put(Fault(f"PUT .*/{2:020}.json", 403, done=True, times=10**6, then="."))
    with pytest.raises(TableError, match=f"commit.*failed.*run {job.run_id}"):
        delta_columnar.commit(job, files)
    store.proxy.put()
    assert runs(open_at(store))[0] == (2, job.run_id)


def test_of_two_runs_the_later_names_the_other(store, datasets, tmp_path):
    """One number, two runs: the second commits between the first's look and its commit."""
    old, new = datasets
    first = job_for(store, old, tmp_path / "cache", transaction=1)
    write(first)
    late, other = (job_for(store, new, tmp_path / "cache", transaction=2) for _ in range(2))
    files = encode(late)
    store.proxy.put(Fault(f"PUT .*/{2:020}.json", None, done=True, hold=True))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(delta_columnar.commit, late, files)
        store.proxy.wait_held()
        try:
            assert write(other) == 2
        finally:
            store.proxy.go_on()
        with pytest.raises(ConflictError, match=f"version 2, by run {other.run_id}"):
            answer.result()
    assert_written_once(store, other, 2, NEW)


def test_the_properties_cannot_be_written(store, datasets, tmp_path):
    """The rows are committed by then, and the error says so."""
    old, new = datasets
    write(job_for(store, old, tmp_path / "cache"))
    job = job_for(store, new, tmp_path / "cache")
    store.proxy.put(Fault(f"PUT .*/{3:020}.json", 403, done=False, times=10**6))
    with pytest.raises(TableError, match=r"the new version 2 of the table is committed, but.*403"):
        write(job)
    store.proxy.put()
    table = open_at(store)
    assert (table.version(), runs(table)[0]) == (2, (2, job.run_id))
    assert write(job_for(store, new, tmp_path / "cache")) == 3
    assert open_at(store).version() == 4
