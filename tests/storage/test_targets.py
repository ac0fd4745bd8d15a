"""Delta tables in S3 and in Azure: written by Spark's executors, kept and read without Spark."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import CommitProperties

from mnist_spark.cli.main import main
from mnist_spark.errors import UsageError
from mnist_spark.history import history
from mnist_spark.storage import objects
from mnist_spark.storage.options import for_delta_rs
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer, choose_writer
from mnist_spark.upkeep import optimize, vacuum
from mnist_spark.verify import verify
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.lakes import S3_KEY, S3_SECRET, Lake, assert_rows, credentials_checked
from tests.support.processes import Driver
from tests.support.servers import make_bucket


@pytest.fixture(scope="module")
def s3(s3_endpoint, tmp_path_factory) -> Lake:
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
    place = {"AWS_ENDPOINT_URL": s3_endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    make_bucket(s3_endpoint, "lake")
    file = tmp_path_factory.mktemp("aws") / "credentials"
    lines = [f"{name.lower()} = {value}" for name, value in keys.items()]
    file.write_text("\n".join(["[lake]", *lines, ""]))
    profile = {"AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "lake"}
    return Lake("s3", "s3://lake", place | keys, place | profile, place | keys, [S3_SECRET])


@pytest.fixture(scope="module")
def azurite_lake(azure_for_tables) -> Lake:
    from azure.storage import blob

    server = azure_for_tables
    with blob.BlobServiceClient.from_connection_string(server.connection()) as client:
        client.create_container("lake")
    sas = blob.generate_container_sas(
        server.account,
        "lake",
        account_key=server.key,
        permission=blob.ContainerSasPermissions(
            read=True, list=True, write=True, create=True, delete=True
        ),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    by_sas = f"AccountName={server.account};BlobEndpoint={server.url()};SharedAccessSignature={sas}"
    other = base64.b64encode(secrets.token_bytes(64)).decode()
    wrong = server.connection().replace(server.key, other)
    signature = sas.partition("sig=")[2].partition("&")[0]
    return Lake(
        "azure",
        "az://lake",
        {"AZURE_STORAGE_CONNECTION_STRING": by_sas},
        {"AZURE_STORAGE_CONNECTION_STRING": server.connection()},
        {"AZURE_STORAGE_CONNECTION_STRING": wrong},
        [server.key, other, signature, unquote(signature)],
    )


@pytest.fixture(scope="module")
def driver(s3, azurite_lake, tmp_path_factory) -> Iterator[Driver]:
    """A session without Delta's jars and Hadoop's connectors."""
    clean = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
    environment = clean | s3.writing | azurite_lake.writing
    running = Driver(
        tmp_path_factory.mktemp("targets") / "driver", delta=False, environment=environment
    )
    running.wait_ready()
    yield running
    running.close()


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    pairs = {"train": random_pair(2000, 7, 5), "test": random_pair(500, 7, 5, seed=1)}
    dataset = write_dataset(folder / "in", pairs, image_shape=(7, 5))
    return dataset, {"dataset": str(folder / "in" / "dataset.toml"), "cache": folder / "cache"}


@pytest.fixture(params=["s3", "azurite_lake"])
def lake(request, monkeypatch) -> Lake:
    found = request.getfixturevalue(request.param)
    for name, value in found.reading.items():
        monkeypatch.setenv(name, value)
    return found


def test_a_life(lake, driver, sample, capsys):
    dataset, source = sample
    url = f"{lake.url}/life"
    first = driver.ingest(**source, target=url, ranges=4)
    assert first.get("line") is None
    assert (first["writer"], first["writer_reason"], first["table_files"]) == (
        "columnar",
        "executors and delta-rs can write it",
        4,
    )
    assert verify(url, cache=source["cache"]).ok
    again = driver.ingest(**source, target=url, writer="columnar")
    split = driver.ingest(**source, target=url, split="test")
    assert first["table_version"] < again["table_version"] < split["table_version"]

    ingests = [version for version in history(url) if version.run is not None]
    assert [(v.version, v.writer, dict(v.rows)) for v in ingests] == [
        (each["table_version"], "columnar", each["rows"]) for each in (split, again, first)
    ]
    driver.ingest(**source, target=url, ranges=6)
    small = optimize(url)
    assert (small.files_removed, small.files_added) == (5, 1)  # the test split is one file
    gone = vacuum(url, timedelta(0), force=True)
    assert gone.files >= 6 + 4
    assert gone.bytes > small.bytes_removed
    assert vacuum(url, timedelta(0), force=True).files == 0

    # Without any Java, so without Spark.
    env = os.environ | {"JAVA_HOME": "/none"}
    command = [sys.executable, "-m", "mnist_spark", "verify", url, "--debug"]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert main(["history", url]) == 0
    keys = {name: value for name, value in lake.writing.items() if name.startswith("AWS_")}
    assert_rows(url, dataset, "columns", keys)

    reports = json.dumps([first, again, split])
    said = (shown.stdout + reports + "".join(capsys.readouterr())).encode()
    for secret in map(str.encode, lake.secrets):
        assert secret not in said
        assert secret not in driver.log.read_bytes()
        assert secret not in lake.everything()


def test_refresh(lake, driver, sample, tmp_path, monkeypatch, capsys, package_log):
    _, source = sample
    monkeypatch.setenv("JAVA_HOME", "/none")  # in this process, only what needs no Spark
    driver.ingest(**source, target=f"{lake.url}/damaged", layout="binary")
    damaged = f"{lake.url}/damaged"
    objects.delete(f"{damaged}/{next(n for n in objects.sizes(damaged) if n.endswith('.parquet'))}")
    tables = [
        f'[tables.{name}]\ndataset = "{source["dataset"]}"\ntarget = "{lake.url}/{name}"\n'
        'layout = "binary"\nretention_days = 7\n'
        for name in ("damaged", "missing")
    ]
    config = tmp_path / "refresh.toml"
    config.write_text("\n".join(tables))

    def here(*options: str) -> dict[str, tuple[str, str, int]]:
        argv = ["refresh", "--config", str(config), "--cache", str(source["cache"]), *options]
        assert main([*argv, "--report", str(tmp_path / "report.json")]) == 0
        return outcomes(json.loads((tmp_path / "report.json").read_text()))

    def outcomes(report: dict) -> dict[str, tuple[str, str, int]]:
        return {
            each["table"]: (each["outcome"], each["cause"], each["version"])
            for each in report["tables"]
        }

    before = here("--dry-run")
    assert [each[:2] for each in before.values()] == [
        ("would be written", "damaged"),
        ("would be written", "missing"),
    ]
    report = driver.ingest(do="refresh", config=config, cache=source["cache"])
    assert report.get("ok"), report
    written = outcomes(report)
    assert {each[0] for each in written.values()} == {"written"}
    assert written["damaged"][2] > before["damaged"][2]
    after = here("--deep")
    assert {each[:2] for each in after.values()} == {("up to date", None)}
    for name in after:
        newest = history(f"{lake.url}/{name}")[0]
        assert after[name][2] == newest.version
        assert verify(f"{lake.url}/{name}", cache=source["cache"]).ok
    said = "".join(capsys.readouterr()) + json.dumps(report)
    for secret in lake.secrets:
        assert secret not in said
        assert secret not in driver.log.read_text()


def test_of_two_commits_at_once_one_fails(lake):
    place, options = for_delta_rs(f"{lake.url}/conflict")
    schema = Schema.from_arrow(pa.schema([("a", pa.int32())]))
    DeltaTable.create(place, schema, storage_options=options)
    both = [DeltaTable(place, storage_options=options) for _ in range(2)]
    once = CommitProperties(max_commit_retries=0)
    both[0].create_write_transaction([], "overwrite", schema, commit_properties=once)
    with pytest.raises(CommitFailedError):
        both[1].create_write_transaction([], "overwrite", schema, commit_properties=once)
    assert DeltaTable(place, storage_options=options).version() == 1


def test_a_wrong_credential(lake, sample, monkeypatch, capsys, tmp_path):
    _, source = sample
    for name, value in lake.wrong.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JAVA_HOME", "/none")
    url = f"{lake.url}/life"
    commands = [["verify", url], ["history", url]]
    commands += [["ingest", "--dataset", source["dataset"], "--target", url]]
    with credentials_checked(lake.wrong.get("AWS_ENDPOINT_URL")):
        for command in commands:
            assert main(command) == 1
            out, err = capsys.readouterr()
            assert out == ""
            assert len(err.splitlines()) == 1
            assert "HTTP 403 Forbidden" in err
            assert not [secret for secret in lake.secrets if secret in err]


def test_no_table_and_no_bucket(lake, capsys):
    for command in ("verify", "history"):
        assert main([command, f"{lake.url}/none"]) == 1
        assert "there is no table" in capsys.readouterr().err
        assert main([command, f"{lake.url}-none/none"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "HTTP 404" in line or "there is no table" in line


def test_a_token_in_the_target(lake, capsys):
    token = "sv=2026-01-01&sig=kW8xQz7Lr0vTfYc2mHjN5bDpUeAoXiRgS1w9ZtBq"
    for command in (["verify"], ["history"], ["ingest", "--target"]):
        assert main([*command, f"{lake.url}/life?{token}"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "credentials in the target's URL" in line
        assert "sig=" not in line


@pytest.mark.parametrize("writer", list(Writer))
def test_parquet_in_cloud_storage_is_refused(writer):
    for target in ("s3://lake/p", "default.p"):
        with pytest.raises(UsageError, match="local or mounted folder"):
            choose_writer(writer, Target.parse(target), Format.PARQUET)


def test_what_only_spark_reads(monkeypatch):
    needs = ["lake.mnist", "hdfs://host/t", "dbfs:/t"]
    needless = ["/lake/mnist", "s3://b/t", "abfss://c@account.dfs.core.windows.net/t", "gs://b/t"]
    assert all(Target.parse(text).needs_spark for text in needs)
    assert not any(Target.parse(text).needs_spark for text in needless)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert [Target.parse(text).needs_spark for text in needless] == [False, True, True, True]


@pytest.mark.parametrize(
    ("environment", "url", "place", "options"),
    [
        ({}, "/lake/t", "/lake/t", {}),
        ({}, "hdfs://host/t", "hdfs://host/t", {}),
        ({}, "s3a://b/t", "s3a://b/t", {"aws_force_credential_load": "true"}),
        (
            {"AWS_ENDPOINT_URL": "http://h:1", "AWS_ENDPOINT_URL_S3": "https://s3.h"},
            "s3://b/t",
            "s3://b/t",
            {
                "aws_force_credential_load": "true",
                "aws_endpoint_url": "https://s3.h",
                "allow_http": "false",
            },
        ),
        (
            {"AZURE_STORAGE_ACCOUNT_KEY": "k"},
            "wasbs://c@acc.blob.core.chinacloudapi.cn/a/t",
            "az://c/a/t",
            {
                "azure_storage_account_name": "acc",
                "azure_storage_endpoint": "https://acc.blob.core.chinacloudapi.cn",
            },
        ),
        (
            {},
            "abfss://c@acc.dfs.core.windows.net/t",
            "az://c/t",
            {
                "azure_storage_account_name": "acc",
                "azure_storage_endpoint": "https://acc.blob.core.windows.net",
                "azure_skip_signature": "true",
            },
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;"
                "AccountName=acc;AccountKey=a2V5==;EndpointSuffix=core.windows.net"
            },
            "az://c/t",
            "az://c/t",
            {
                "azure_storage_account_name": "acc",
                "azure_storage_account_key": "a2V5==",
                "azure_storage_endpoint": "https://acc.blob.core.windows.net",
            },
        ),
    ],
)
def test_what_delta_rs_is_told(monkeypatch, environment, url, place, options):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    got_place, got = for_delta_rs(url)
    limits = ("connect_timeout", "timeout", "max_retries", "retry_timeout")
    assert (got_place, {k: v for k, v in got.items() if k not in limits}) == (place, options)
