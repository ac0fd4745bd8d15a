"""Delta tables in S3 and in Azure by the writer ``spark``, through Hadoop's connectors."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_spark.history import history
from mnist_spark.idx.sample import write_sample
from mnist_spark.spark import connector
from mnist_spark.verify import verify
from tests.support.idxfiles import write_dataset
from tests.support.jobs import write
from tests.support.lakes import S3_KEY, S3_SECRET, Lake, assert_rows, credentials_checked
from tests.support.processes import Driver
from tests.support.proxy import Fault, Proxy, proxied
from tests.support.servers import free_port, make_bucket
from tests.support.stores import ANSWERS, NEW, OLD, Store, job_for, labels, open_at, runs

WRONG = base64.b64encode(b"wrong" * 8).decode()


@pytest.fixture(scope="module")
def proxy(s3_endpoint) -> Iterator[Proxy]:
    """The way from Spark to S3."""
    with proxied(int(s3_endpoint.rpartition(":")[2])) as running:
        yield running


@pytest.fixture(scope="module")
def s3(s3_endpoint, proxy, tmp_path_factory) -> Lake:
    """``writing`` names a credentials file, ``reading`` has the keys themselves."""
    make_bucket(s3_endpoint, "hadoop")
    file = tmp_path_factory.mktemp("aws") / "credentials"
    file.write_text(f"[lake]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = {S3_SECRET}\n")
    profile = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "lake"}
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
    # By name: such a server has no name of its own for each bucket, as Amazon's has.
    by_spark = {"AWS_ENDPOINT_URL": f"http://localhost:{proxy.port}"} | profile
    place = {"AWS_ENDPOINT_URL": s3_endpoint} | keys
    region = {"AWS_DEFAULT_REGION": "us-east-1"}
    return Lake("s3", "s3a://hadoop", region | by_spark, region | place, {}, [S3_SECRET])


@pytest.fixture(scope="module")
def azure(azure_for_tables) -> Lake:
    from azure.storage import blob

    server = azure_for_tables
    with blob.BlobServiceClient.from_connection_string(server.connection()) as client:
        client.create_container("hadoop")
    return Lake(
        "azure",
        f"abfs://hadoop@{server.account}.dfs.core.windows.net",
        {"AZURE_STORAGE_ACCOUNT_KEY": server.key},
        {"AZURE_STORAGE_CONNECTION_STRING": server.connection()},
        {},
        [server.key],
    )


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """Where Spark logs what it is told."""
    folder = tmp_path_factory.mktemp("connectors") / "events"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def driver(s3, azure, azure_for_tables, events) -> Iterator[Driver]:
    """The embedded session, told besides where Azurite is, and odd things of some buckets."""
    odd = {
        "s3a.bucket.nobody.endpoint": f"http://127.0.0.1:{free_port()}",
        "s3a.bucket.stranger.aws.credentials.provider": "software.amazon.awssdk.auth.credentials"
        ".SystemPropertyCredentialsProvider",
        "azure.account.key.other.dfs.core.windows.net": WRONG,
        # Azurite has Blob storage's interface alone, without TLS, at another address.
        "azure.abfs.endpoint": f"127.0.0.1:{azure_for_tables.port}",
        "azure.always.use.https": "false",
        "azure.fns.account.service.type": "BLOB",
        "azure.account.hns.enabled": "false",
        "azure.networking.library": "JDK_HTTP_URL_CONNECTION",
    }
    settings = {f"spark.hadoop.fs.{key}": value for key, value in odd.items()}
    settings |= {"spark.eventLog.enabled": "true", "spark.eventLog.compress": "false"}
    settings["spark.eventLog.dir"] = events.as_uri()
    running = Driver(
        events.parent / "driver",
        tables=f"{s3.url} {azure.url}",
        conf=" ".join(f"--conf {key}={value}" for key, value in settings.items()),
        environment=s3.writing | azure.writing,
    )
    running.wait_ready()
    yield running
    running.close()


@pytest.fixture(params=["s3", "azure"])
def lake(request, monkeypatch) -> Lake:
    """With this process' environment set for reading, and no Java in it."""
    found = request.getfixturevalue(request.param)
    for name, value in (found.reading | {"JAVA_HOME": "/none"}).items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    dataset = write_sample(folder / "in", train=2000, test=500, progress=False)
    description = str(folder / "in" / "dataset.toml")
    return dataset, {"dataset": description, "cache": folder / "cache", "layout": "binary"}


def assert_holds(url: str, dataset, cache: Path) -> None:
    assert verify(url, cache=cache).ok
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    assert_rows(url, dataset, "binary", keys)


def test_a_life(lake, driver, events, sample):
    dataset, source = sample
    url = f"{lake.url}/life"
    first = driver.ingest(**source, target=url, writer="spark")
    assert first.get("line") is None
    assert_holds(url, dataset, source["cache"])
    other = url.replace("s3a:", "s3:")
    again = driver.ingest(**source, target=other, writer="spark")
    assert again.get("line") is None
    assert_holds(other, dataset, source["cache"])
    assert [(v.version, v.writer) for v in history(url) if v.run is not None] == [
        (again["table_version"], "spark"),
        (first["table_version"], "spark"),
    ]
    (log,) = (path.read_bytes() for path in events.rglob("*events_1_*"))
    assert b"fs.azure.account.key" in log
    said = json.dumps([first, again]).encode() + driver.log.read_bytes() + lake.everything()
    # Of the wrong key we have told Spark itself.
    assert not [secret for secret in (*lake.secrets, WRONG) if secret.encode() in said + log]


def test_what_goes_wrong_is_one_line(s3, azure, driver, sample):
    _, source = sample

    def reason(target: str) -> str:
        answer = driver.ingest(**source, target=target, writer="spark")
        assert answer["error"] == "TableError"
        assert len(answer["line"].splitlines()) == 1
        assert answer["line"].startswith(f"cannot write the table (file {target}): got ")
        return answer["line"].partition("): got ")[2]

    with credentials_checked(s3.reading["AWS_ENDPOINT_URL"]):
        assert reason(f"{s3.url}/t") == "HTTP 403 Forbidden"
    assert reason("s3a://no-bucket/t") == "HTTP 404 The specified bucket does not exist"
    assert reason("s3a://nobody/t") == "ConnectException: Connection refused"
    assert reason("s3a://stranger/t") == "no credentials"
    no_container = azure.url.replace("hadoop@", "none@") + "/t"
    assert reason(no_container) == "HTTP 404 The specified container does not exist"


def test_no_setting_holds_a_credential(monkeypatch):
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    azure = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN")
    for name in (*names, *azure):
        monkeypatch.setenv(name, WRONG)
        for url in ("s3://b/t", "abfss://c@account.dfs.core.windows.net/t"):
            assert connector.settings(url)
            assert WRONG not in connector.settings(url).values()
    for url in ("/t", "lake.t", "hdfs://h/t", "gs://b/t"):
        assert not connector.settings(url)
        assert not connector.packages(url)


@pytest.mark.parametrize(
    "answer", ["lost", "cut before", "412", "412 though done", "503", "503 though done"]
)
def test_answers_to_a_commit(driver, s3, proxy, tmp_path, monkeypatch, answer):
    """The connector's PUT has no condition, and most answers are tried again by Amazon's SDK."""
    old, _ = (write_dataset(tmp_path / n, pairs) for n, pairs in (("old", OLD), ("new", NEW)))
    status, done = ANSWERS[answer]
    for name, value in s3.reading.items():
        monkeypatch.setenv(name, value)
    store = Store(f"s3://hadoop/{tmp_path.name}", proxy)
    write(job_for(store, old, tmp_path / "cache"))
    order = {"cache": tmp_path / "cache", "layout": "binary", "writer": "spark"}
    proxy.put(Fault(f"PUT .*/{2:020}.json", status, done))
    answered = driver.ingest(
        dataset=f"{tmp_path}/new/dataset.toml", target=f"s3a://hadoop/{tmp_path.name}/t", **order
    )
    assert len(proxy.hits()) == 1
    proxy.put()
    table = open_at(store)
    if "error" in answered:
        # Nothing is committed, and the next run does it.
        assert not done
        assert str(status) in answered["line"]
        assert table.version() == 1
        assert labels(table) == {name: pair[1][8:] for name, pair in OLD.items()}
    else:
        assert runs(table)[0] == (answered["table_version"], answered["run_id"])
        assert [version for version, _ in runs(table)] == [answered["table_version"], 1]
        assert labels(table) == {name: pair[1][8:] for name, pair in NEW.items()}
