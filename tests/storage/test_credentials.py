"""Each way to get in that the documentation names, against servers that note what they are sent."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mnist_spark.errors import UsageError
from mnist_spark.storage import objects
from mnist_spark.storage.failures import ObjectError
from tests.support.servers import NO_RETRIES

TOKEN = "t0ken-of-the-identity-Xy7"
ACCOUNT = "mine"


class Cloud:
    """A server of storage and of identities, and what it was sent.

    Attributes:
        tokens: path and body of each request for a token.
        asked: query and Authorization of each request for an object.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.tokens: list[tuple[str, str]] = []
        self.asked: list[tuple[str, str]] = []
        self.status = 200

    def azure(self) -> str:
        return f"AccountName={ACCOUNT};BlobEndpoint={self.address}/{ACCOUNT}"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            path, _, query = self.path.partition("?")
            answer: dict[str, object] = {
                "access_token": TOKEN,
                "expires_in": 3600,
                "token_type": "Bearer",
            }
            answer |= {"expires_on": "4102444800", "resource": "x"}
            if path == "/role":
                answer = {"AccessKeyId": "AKIAROLE", "SecretAccessKey": TOKEN, "Token": "t"}
                answer["Expiration"] = "2100-01-01T00:00:00Z"
            if "token" in path or path in ("/msi", "/role"):
                found.tokens.append((self.path, body + self.headers.get("X-IDENTITY-HEADER", "")))
                status, data = 200, json.dumps(answer).encode()
            else:
                found.asked.append((query, self.headers.get("Authorization", "")))
                status, data = found.status, b"data"
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_HEAD = do_POST = handle_any  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Cloud(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(cloud, monkeypatch, tmp_path):
    """Sets the variables of a way in."""
    (tmp_path / "federated").write_text("federated-assertion")
    ways = {
        "client secret": {
            "AZURE_STORAGE_CLIENT_ID": "client",
            "AZURE_STORAGE_CLIENT_SECRET": "s3cret",
            "AZURE_STORAGE_TENANT_ID": "tenant",
            "AZURE_AUTHORITY_HOST": cloud.address,
        },
        "client secret, Azure's names": {
            "AZURE_CLIENT_ID": "client",
            "AZURE_CLIENT_SECRET": "s3cret",
            "AZURE_TENANT_ID": "tenant",
            "AZURE_AUTHORITY_HOST": cloud.address,
        },
        "workload identity": {
            "AZURE_CLIENT_ID": "client",
            "AZURE_TENANT_ID": "tenant",
            "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "federated"),
            "AZURE_AUTHORITY_HOST": cloud.address,
        },
        "managed identity": {
            "IDENTITY_ENDPOINT": f"{cloud.address}/msi",
            "IDENTITY_HEADER": "header-of-the-machine",
        },
    }

    def set_variables(way: str) -> None:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", cloud.azure())
        for name, value in ways[way].items():
            monkeypatch.setenv(name, value)

    return set_variables


@pytest.mark.parametrize(
    ("way", "sent"),
    [
        ("client secret", "client_secret=s3cret"),
        ("client secret, Azure's names", "client_secret=s3cret"),
        ("workload identity", "client_assertion=federated-assertion"),
        ("managed identity", "header-of-the-machine"),
    ],
)
def test_azure_gives_a_token(cloud, environment, way, sent):
    environment(way)
    assert objects.head("az://box/x").size == 4
    ((path, body),) = cloud.tokens
    assert sent in body
    assert path.startswith("/msi?" if way == "managed identity" else "/tenant/oauth2/v2.0/token")
    assert [authorization for _, authorization in cloud.asked] == [f"Bearer {TOKEN}"]


def test_azure_anonymous_sas_and_key(cloud, monkeypatch):
    def sent(url: str) -> tuple[str, str]:
        objects.head(url)
        return cloud.asked[-1]

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", cloud.azure())
    assert sent("az://box/x") == ("", "")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=SECRET")
    assert sent("az://box/x") == ("sv=1&sig=SECRET", "")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=ANOTHER")
    assert sent("az://box/x") == ("sv=1&sig=ANOTHER", "")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert sent("az://box/x")[1].startswith(f"SharedKey {ACCOUNT}:")
    # What the URL or the connection string has goes before the rest of the environment.
    assert sent("az://box/x?sv=1&sig=s%2Fe") == ("sv=1&sig=s%2Fe", "")
    text = f"{cloud.azure()};SharedAccessSignature=sv=1&sig=STRING"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    assert sent("az://box/x") == ("sv=1&sig=STRING", "")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"{cloud.azure()};AccountKey=b3RoZXI=")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    assert sent("az://box/x")[1].startswith(f"SharedKey {ACCOUNT}:")


def s3(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """The key that a request is signed with."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    objects.head("s3://box/x")
    signed = cloud.asked[-1][1]
    return signed.partition("Credential=")[2].partition("/")[0]


def test_aws_key_profile_and_role(cloud, monkeypatch, tmp_path):
    file = tmp_path / "credentials"
    profiles = [("default", "AKIADEFAULT"), ("lake", "AKIALAKE")]
    file.write_text(
        "".join(
            f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = x\n"
            for name, key in profiles
        )
    )
    none = str(tmp_path / "none")
    monkeypatch.setenv("AWS_CONFIG_FILE", none)
    role = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{cloud.address}/role"}
    assert s3(cloud, monkeypatch, AWS_SHARED_CREDENTIALS_FILE=none, **role) == "AKIAROLE"
    assert s3(cloud, monkeypatch, AWS_SHARED_CREDENTIALS_FILE=str(file)) == "AKIADEFAULT"
    assert s3(cloud, monkeypatch, AWS_PROFILE="lake") == "AKIALAKE"
    keys = {"AWS_ACCESS_KEY_ID": "AKIAKEY", "AWS_SECRET_ACCESS_KEY": "x"}
    assert s3(cloud, monkeypatch, **keys) == "AKIAKEY"


def test_a_profile_that_is_not_there(cloud, monkeypatch):
    with pytest.raises(ObjectError, match="no credentials"):
        s3(cloud, monkeypatch, AWS_PROFILE="nobody")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_no_secret_in_an_error(cloud, monkeypatch, status):
    cloud.status = status
    monkeypatch.setattr("mnist_spark.storage.options._LIMITS", NO_RETRIES)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", cloud.azure())
    monkeypatch.setenv("AWS_ENDPOINT_URL", cloud.address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    for url in ("az://box/x?sv=1&sig=SECRET", "s3://box/x"):
        for work in (objects.head, objects.delete, lambda url: objects.read(url, 0, 3)):
            with pytest.raises(ObjectError) as caught:
                work(url)
            assert f"HTTP {status}" in str(caught.value)
            chain = [caught.value, caught.value.__cause__]
            assert not [error for error in chain if "SECRET" in str(error)]
    with contextlib.suppress(ObjectError):
        objects.names("az://box/x?sv=1&sig=SECRET")


def test_a_key_that_is_none(cloud, monkeypatch):
    text = f"{cloud.azure()};AccountKey=SECRET that is not base64"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    with pytest.raises(ObjectError, match="no credentials, or not valid ones") as caught:
        objects.head("az://box/x")
    assert "SECRET" not in str(caught.value)
    with pytest.raises(UsageError, match="another account's"):
        objects.head("abfss://box@theirs.dfs.core.windows.net/x")
