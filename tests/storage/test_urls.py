"""What a URL and the environment say: which cloud, which place, whose credentials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnist_spark.errors import UsageError
from mnist_spark.storage import urls
from mnist_spark.storage.azure import azure_options
from mnist_spark.storage.options import cloud_variables, for_delta_rs, locate

LIMITS = {
    "connect_timeout": "10s",
    "timeout": "30s",
    "max_retries": "4",
    "retry_timeout": "60s",
}


@pytest.fixture
def env(monkeypatch, tmp_path):
    """Sets variables; without any, nothing on this machine gives credentials."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLOUDSDK_CONFIG", raising=False)

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("text", "scheme", "is_url", "is_cloud"),
    [
        ("/lake/t", "", False, False),
        ("lake", "", False, False),
        ("C:/lake", "", False, False),
        ("a:b", "", False, False),
        ("dbfs:/lake", "dbfs", False, False),
        ("file:/lake", "file", False, False),
        ("file:///lake", "file", True, False),
        ("https://host/x", "https", True, False),
        ("S3://b/k", "s3", True, True),
        ("s3a://b/k", "s3a", True, True),
        ("gs://b", "gs", True, True),
        ("gcs://b", "gcs", True, True),
        ("az://c/k", "az", True, True),
        ("abfss://c@a.dfs.core.windows.net/k", "abfss", True, True),
        ("wasbs://c@a.blob.core.windows.net/k", "wasbs", True, True),
        ("az:/c/k", "az", False, False),
        ("x-y.z+1://h", "x-y.z+1", True, False),
        ("1s3://b", "", False, False),
        (" s3://b", "", False, False),
    ],
)
def test_which_texts_are_urls(text, scheme, is_url, is_cloud):
    assert (urls.scheme(text), urls.is_url(text), urls.is_cloud(text)) == (scheme, is_url, is_cloud)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket/a/b", ("bucket", "a/b")),
        ("s3://bucket/a%20b c?d#e/", ("bucket", "a%20b c?d#e")),
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket//a//", ("bucket", "a")),
        ("s3:///a", ("", "a")),
        ("s3://b/x://y/z", ("b", "x://y/z")),
    ],
)
def test_bucket_and_key(url, parts):
    assert urls.bucket_and_key(url) == parts


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/x?sig=SECRET#SECRET", "https://host/x"),
        ("https://user:SECRET@host:8080/x", "https://host:8080/x"),
        ("https://SECRET@host/x", "https://host/x"),
        ("s3://KEY@bucket/x", "s3://bucket/x"),
        ("abfss://c@a.dfs.core.windows.net/x?sig=SECRET", "abfss://c@a.dfs.core.windows.net/x"),
        ("az://c:SECRET@a/x", "az://a/x"),
        ("https://user:SEC/RET@host/x", "https://(malformed)"),
        ("s3://[bad/x", "s3://(malformed)"),
    ],
)
def test_what_is_shown_of_a_url(url, shown):
    assert urls.redact(url) == shown
    assert urls.shown(url) == shown
    assert "SECRET" not in shown


def test_a_path_is_shown_as_it_is():
    assert urls.shown("/lake/a?b#c@d") == "/lake/a?b#c@d"


ACCOUNT = "abfss://c@acc.dfs.core.windows.net/a/t"
STRING = "AZURE_STORAGE_CONNECTION_STRING"


@pytest.mark.parametrize(
    ("environment", "url", "options"),
    [
        # Anonymous, unless something in the environment gives credentials.
        ({}, ACCOUNT, {"azure_skip_signature": "true"}),
        ({"AZURE_STORAGE_ACCOUNT_KEY": "k"}, ACCOUNT, {}),
        ({"AZURE_STORAGE_SAS_TOKEN": "t"}, ACCOUNT, {}),
        ({"AZURE_CLIENT_ID": "i"}, ACCOUNT, {}),
        ({"AZURE_STORAGE_CLIENT_ID": "i"}, ACCOUNT, {}),
        ({"AZURE_FEDERATED_TOKEN_FILE": "f"}, ACCOUNT, {}),
        ({"IDENTITY_ENDPOINT": "e"}, ACCOUNT, {}),
        ({"AZURE_USE_AZURE_CLI": "true"}, ACCOUNT, {}),
        ({"AZURE_STORAGE_ANON": "False"}, ACCOUNT, {}),
        ({"AZURE_STORAGE_ANON": "f"}, ACCOUNT, {}),
        ({"AZURE_STORAGE_ANON": "0"}, ACCOUNT, {}),
        ({"AZURE_STORAGE_ANON": "1"}, ACCOUNT, {"azure_skip_signature": "true"}),
        # The URL's token goes before everything else.
        (
            {STRING: "AccountName=acc;AccountKey=KEY;SharedAccessSignature=OTHER"},
            f"{ACCOUNT}?sv=1&sig=s",
            {"azure_storage_sas_token": "sv=1&sig=s"},
        ),
        (
            {STRING: "AccountName=acc; SharedAccessSignature=sv=1&sig=s ;"},
            ACCOUNT,
            {"azure_storage_sas_token": "sv=1&sig=s"},
        ),
        (
            {STRING: "AccountName=acc;AccountKey=a2=="},
            ACCOUNT,
            {"azure_storage_account_key": "a2=="},
        ),
    ],
)
def test_credentials_of_a_url_with_an_account(env, environment, url, options):
    env(**environment)
    common = {
        "azure_storage_account_name": "acc",
        "azure_storage_endpoint": "https://acc.blob.core.windows.net",
    }
    assert azure_options(url) == ("c", "a/t", common | options)


@pytest.mark.parametrize(
    ("string", "account", "endpoint"),
    [
        ("AccountName=mine;AccountKey=k", "mine", None),
        (
            "AccountName=mine;AccountKey=k;EndpointSuffix=core.windows.net",
            "mine",
            "https://mine.blob.core.windows.net",
        ),
        (
            "DefaultEndpointsProtocol=http;AccountName=mine;AccountKey=k;EndpointSuffix=x.y",
            "mine",
            "http://mine.blob.x.y",
        ),
        (
            "BlobEndpoint=https://mine.blob.core.usgovcloudapi.net;AccountKey=k;EndpointSuffix=x",
            "mine",
            "https://mine.blob.core.usgovcloudapi.net",
        ),
        (
            "AccountName=mine;BlobEndpoint=http://127.0.0.1:1/mine;AccountKey=k",
            "mine",
            "http://127.0.0.1:1/mine",
        ),
        ("BlobEndpoint=https://store.example.com;AccountKey=k", "store.example.com", None),
    ],
)
def test_a_connection_string(env, string, account, endpoint):
    env(**{STRING: string, "AZURE_STORAGE_ACCOUNT_NAME": "another"})
    container, path, options = azure_options("az://box/x/")
    assert (container, path) == ("box", "x")
    assert options["azure_storage_account_name"] == account
    assert options["azure_storage_account_key"] == "k"
    assert "azure_skip_signature" not in options
    wanted = endpoint or ("https://store.example.com" if "." in account else None)
    assert options.get("azure_storage_endpoint") == wanted
    http = wanted is not None and wanted.startswith("http:")
    assert options.get("allow_http") == ("true" if http else None)


def test_the_account_of_the_environment(env):
    with pytest.raises(UsageError, match="URL without an account.*az://c/x.*write az://container@"):
        azure_options("az://c/x?sig=SECRET")
    env(AZURE_STORAGE_ACCOUNT_NAME="mine")
    assert azure_options("az://c/x")[2]["azure_storage_account_name"] == "mine"
    assert azure_options("abfss://c@mine.dfs.core.windows.net/x")[0] == "c"
    with pytest.raises(UsageError, match=r"another account's.*expected account mine.*got theirs"):
        azure_options("abfss://c@theirs.dfs.core.windows.net/x")


@pytest.mark.parametrize(
    "url",
    [
        "abfss://c@acc.dfs.example.com/x",
        "abfss://c@acc.dfs.core.windows.net.example.com/x",
        "abfss://@acc.dfs.core.windows.net/x",
        "abfss://c@ac.dfs.core.windows.net/x",
        "abfss://c@acc.queue.core.windows.net/x",
        "az:///x",
        "az://",
    ],
)
def test_no_url_of_azure(env, url):
    env(AZURE_STORAGE_ACCOUNT_NAME="acc")
    name = url.partition(":")[0]
    with pytest.raises(UsageError, match=f"not a URL of Azure's.*{name}://container@account"):
        azure_options(url)


def test_a_host_alone_is_no_account(env):
    """Before the path stands the container, which has the account only after an "@"."""
    with pytest.raises(UsageError, match="URL without an account"):
        azure_options("az://acc.blob.core.windows.net/x")


@pytest.mark.parametrize(
    "url",
    ["az://c:SECRET@acc.blob.core.windows.net/x", "abfss://c@acc.dfs.core.windows.net:1/x"],
)
def test_a_url_of_azure_that_is_not_valid(env, url):
    with pytest.raises(UsageError, match="URL isn't valid") as caught:
        azure_options(url)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("zone", ["blob", "dfs"])
@pytest.mark.parametrize(
    "domain", ["core.windows.net", "core.chinacloudapi.cn", "core.usgovcloudapi.net"]
)
def test_clouds_of_azure(env, zone, domain):
    container, path, options = azure_options(f"wasbs://C@ACC.{zone}.{domain}/")
    assert (container, path) == ("C", "")
    assert options["azure_storage_account_name"] == "acc"
    assert options["azure_storage_endpoint"] == f"https://acc.blob.{domain}"


def located(url: str) -> tuple[Any, ...]:
    place = locate(url)
    return place.cloud, place.bucket, place.key, place.url, place.options


def test_places(env):
    env(AWS_ENDPOINT_URL="http://h:1", AZURE_STORAGE_ACCOUNT_NAME="acc")
    s3 = {"aws_endpoint_url": "http://h:1", "allow_http": "true"}
    for name in ("s3", "S3A"):
        url = f"{name}://b/k/l/"
        assert located(url) == ("s3", "b", "k/l", url, LIMITS | s3)
    google = LIMITS | {"google_skip_signature": "true"}
    for name in ("gs", "gcs"):
        assert located(f"{name}://b/k") == ("gcs", "b", "k", f"{name}://b/k", google)
    azure = LIMITS | {"azure_storage_account_name": "acc", "azure_skip_signature": "true"}
    assert located("az://c/k/") == ("azure", "c", "k", "az://c/k", azure)
    assert "acc" not in repr(locate("az://c/k"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "ftp://host/x?sig=SECRET",
            "not a URL of cloud storage.*az://, abfs://.*got ftp://host/x$",
        ),
        ("/lake", "not a URL of cloud storage"),
        ("s3:///x?sig=SECRET", "URL has no bucket"),
        ("gs://", "URL has no bucket"),
    ],
)
def test_no_place(env, url, why):
    with pytest.raises(UsageError, match=why) as caught:
        locate(url)
    assert "SECRET" not in str(caught.value)


def test_the_endpoint_of_s3(env):
    assert locate("s3://b").options == LIMITS
    env(AWS_ENDPOINT_URL="http://h:1", AWS_ENDPOINT_URL_S3="https://s3.h")
    endpoint = {"aws_endpoint_url": "https://s3.h", "allow_http": "false"}
    assert locate("s3://b").options == LIMITS | endpoint
    # delta-rs looks for a profile nevertheless.
    forced = {"aws_force_credential_load": "true"}
    assert for_delta_rs("s3://b/t") == ("s3://b/t", LIMITS | endpoint | forced)
    for other in ("/lake", "hdfs://h/t", "file:///lake"):
        assert for_delta_rs(other) == (other, {})


@pytest.mark.parametrize(
    ("emulator", "address"),
    [("127.0.0.1:4443", "http://127.0.0.1:4443"), ("https://h:1", "https://h:1")],
)
def test_an_emulator_of_google(env, emulator, address):
    env(STORAGE_EMULATOR_HOST=emulator)
    options = locate("gs://b").options
    assert options.keys() - LIMITS.keys() == {"google_service_account_key", "allow_http"}
    assert options["allow_http"] == "true"
    assert json.loads(options["google_service_account_key"]) == {
        "gcs_base_url": address,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }


@pytest.mark.parametrize(
    "name",
    [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_BEARER_TOKEN",
        "GCE_METADATA_HOST",
        "K_SERVICE",
    ],
)
def test_google_credentials_in_the_environment(env, name):
    assert "google_skip_signature" in locate("gs://b").options
    env(**{name: "x"})
    assert locate("gs://b").options == LIMITS


@pytest.mark.parametrize("folder", ["elsewhere", ".config/gcloud"])
def test_googles_own_login(env, tmp_path, folder):
    path = tmp_path / folder / "application_default_credentials.json"
    path.parent.mkdir(parents=True)
    if folder == "elsewhere":
        env(CLOUDSDK_CONFIG=str(path.parent))
    assert "google_skip_signature" in locate("gs://b").options
    path.write_text("{}")
    assert locate("gs://b").options == LIMITS


@pytest.mark.parametrize(
    ("product", "anonymous"),
    [("Google Compute Engine\n", False), ("Google\n", False), ("Virtual Machine\n", True)],
)
def test_googles_own_machine(env, monkeypatch, product, anonymous):
    """What the firmware says; other files are read as they are."""
    real = Path.read_text

    def firmware(path: Path, *args: Any, **options: Any) -> str:
        named = str(path) == "/sys/class/dmi/id/product_name"
        return product if named else real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", firmware)
    assert ("google_skip_signature" in locate("gs://b").options) is anonymous


def test_variables_that_decide_which_connection_is_used(env, monkeypatch):
    for name, _ in cloud_variables():
        monkeypatch.delenv(name)
    names = ["AWS_PROFILE", "AZURE_CLIENT_ID", "GOOGLE_SERVICE_ACCOUNT", "IDENTITY_HEADER"]
    names += ["https_proxy", "HTTP_PROXY", "ALL_PROXY", "no_proxy"]
    env(**{name: f"value of {name}" for name in names}, PROXY="x", MY_AWS_PROFILE="x")
    assert cloud_variables() == tuple((name, f"value of {name}") for name in sorted(names))
