"""From a URL and the environment to the options of its object store: the one mapping.

The options have the names that Rust's ``object_store`` gives them. obstore and delta-rs are both
built on it, so sources, staging, tables and commits get in by the same credentials. Both read
``AWS_*``, ``AZURE_*`` and ``GOOGLE_*`` by themselves; the options say the rest.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from mnist_spark.errors import UsageError
from mnist_spark.storage.urls import (
    AZURE,
    GCS,
    S3,
    SCHEMES,
    bucket_and_key,
    is_cloud,
    is_url,
    redact,
    scheme,
)

CONNECT_SECONDS = 10
READ_SECONDS = 30

_LIMITS = {
    "connect_timeout": f"{CONNECT_SECONDS}s",
    "timeout": f"{READ_SECONDS}s",
    "max_retries": "4",
    "retry_timeout": "60s",
}
# Only hosts of Azure's own: the environment's SAS token would be sent to any other as well.
_ACCOUNT_HOST = re.compile(
    r"([a-z0-9]{3,24})\.(?:blob|dfs)\."
    r"(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net)"
)
# Each of them means that Azure is asked for a token: by a client secret, a federated token
# (workload identity), a managed identity, or the command line's login.
_AZURE_IDENTITY = (
    "AZURE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "IDENTITY_ENDPOINT",
    "AZURE_USE_AZURE_CLI",
)
_AZURE_SECRETS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN")
_GOOGLE_CREDENTIALS = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
)


@dataclass(frozen=True)
class Place:
    """What a URL of cloud storage names, and how to get in.

    Attributes:
        bucket: the bucket or container.
        key: the path within it, not percent-encoded.
        url: the same place as delta-rs takes it.
        options: by ``object_store``'s names; may have secrets.
    """

    cloud: Literal["azure", "s3", "gcs"]
    bucket: str
    key: str
    url: str
    options: dict[str, str] = field(repr=False)


def locate(url: str) -> Place:
    """The place of a URL.

    ``s3://bucket/…``, ``gs://bucket/…``, ``az://container/…`` (the account is the environment's)
    and ``abfss://container@account.dfs.core.windows.net/…`` (also ``abfs``, ``wasb``, ``wasbs``;
    the query may be a SAS token). Azure without credentials in the environment, and Google
    without any, are read anonymously.

    Raises:
        UsageError: another scheme, or a URL that isn't valid.
    """
    match scheme(url):
        case name if name in AZURE:
            return _azure(url)
        case name if name in S3:
            return Place("s3", *_bucket_and_key(url), url, _LIMITS | _s3())
        case name if name in GCS:
            return Place("gcs", *_bucket_and_key(url), url, _LIMITS | _gcs())
    raise UsageError(
        "not a URL of cloud storage",
        expected=f"one of {', '.join(f'{known}://' for known in SCHEMES)}",
        got=redact(url),
    )


def for_delta_rs(url: str) -> tuple[str, dict[str, str]]:
    """A URL and its options as delta-rs takes them.

    delta-rs knows neither ``wasbs://`` nor Azure's clouds of China and the US government: all
    become ``az://``. A URL that isn't of cloud storage, and a path, is handed back as it is.

    Returns:
        the options may have secrets.

    Raises:
        UsageError: the URL isn't valid.
    """
    if not is_cloud(url):
        return url, {}
    place = locate(url)
    # Else delta-rs looks for no profile and no credentials file where there is an endpoint.
    extra = {"aws_force_credential_load": "true"} if place.cloud == "s3" else {}
    return place.url, place.options | extra


def cloud_variables() -> tuple[tuple[str, str], ...]:
    """The variables of the environment that the libraries themselves read; some are secret."""
    prefixes = ("AWS_", "AZURE_", "GOOGLE_", "IDENTITY_")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    return tuple(
        (name, value)
        for name, value in sorted(os.environ.items())
        if name.startswith(prefixes) or name.upper() in proxies
    )


def _bucket_and_key(url: str) -> tuple[str, str]:
    bucket, key = bucket_and_key(url)
    if not bucket:
        raise UsageError("URL has no bucket", url=redact(url))
    return bucket, key


def _s3() -> dict[str, str]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {
        "aws_endpoint_url": endpoint,
        "allow_http": str(endpoint.startswith("http://")).lower(),
    }


def _gcs() -> dict[str, str]:
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    if emulator:
        address = emulator if is_url(emulator) else f"http://{emulator}"
        account = {"gcs_base_url": address, "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        return {"google_service_account_key": json.dumps(account), "allow_http": "true"}
    return {} if _has_google_credentials() else {"google_skip_signature": "true"}


def _has_google_credentials() -> bool:
    """Whether the environment, gcloud's login or Google's own machine gives credentials."""
    folder = os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    login = Path(folder, "application_default_credentials.json").expanduser()
    if any(map(os.environ.get, (*_GOOGLE_CREDENTIALS, "GCE_METADATA_HOST", "K_SERVICE"))):
        return True
    try:
        # As google-auth finds out; asking the metadata server takes seconds where there is none.
        machine = Path("/sys/class/dmi/id/product_name").read_text("utf-8")
    except OSError:
        machine = ""
    return login.is_file() or machine.startswith("Google")


def _azure(url: str) -> Place:
    try:
        parts = urlsplit(url)
        if parts.password is not None or parts.port is not None:
            raise ValueError
    except ValueError:
        raise UsageError("URL isn't valid", got=redact(url)) from None
    container, account, endpoint = _container_and_account(parts, url)
    known = _connection_string()
    own = _environment_account(known)
    if account and own and account != own:
        # The environment's key, token or even address would be taken for the other's.
        raise UsageError(
            "the environment's credentials are another account's",
            url=redact(url),
            expected=f"account {own}, from AZURE_STORAGE_*",
            got=account,
        )
    if not account and not own:
        raise UsageError(
            "URL without an account",
            got=redact(url),
            hint="Set AZURE_STORAGE_ACCOUNT_NAME or AZURE_STORAGE_CONNECTION_STRING,"
            f" or write {parts.scheme}://container@account.dfs.core.windows.net/path",
        )
    key = known.get("AccountKey")
    sas = parts.query or known.get("SharedAccessSignature")
    options = {
        "azure_storage_account_name": account or own,
        "azure_storage_account_key": None if parts.query else key,
        "azure_storage_sas_token": sas,
        "azure_skip_signature": None if key or sas or _has_azure_credentials() else "true",
    }
    found = {name: value for name, value in options.items() if value}
    endpoint = _connection_endpoint(known) or endpoint
    if endpoint:
        found["azure_storage_endpoint"] = endpoint
        if endpoint.startswith("http://"):
            found["allow_http"] = "true"
    path = parts.path.strip("/")
    return Place("azure", container, path, f"az://{container}/{path}", _LIMITS | found)


def _container_and_account(parts: SplitResult, url: str) -> tuple[str, str | None, str | None]:
    """Container, account and endpoint, as far as the URL has them."""
    container, at, host = parts.netloc.rpartition("@")
    if not at:
        container = host  # az://container/path
    named = _ACCOUNT_HOST.fullmatch(host.lower()) if at else None
    if not container or (at and named is None):
        raise UsageError(
            "not a URL of Azure's storage",
            expected=f"{parts.scheme}://container@account.dfs.core.windows.net/path,"
            f" or {parts.scheme}://container/path with the account in the environment",
            got=redact(url),
        )
    if named is None:
        return container, None, None
    return container, named[1], f"https://{named[1]}.blob.{named[2]}"


def _has_azure_credentials() -> bool:
    anonymous = os.environ.get("AZURE_STORAGE_ANON", "true").lower()
    names = (*_AZURE_SECRETS, *_AZURE_IDENTITY)
    return anonymous in ("false", "f", "0") or any(map(os.environ.get, names))


def _environment_account(known: dict[str, str]) -> str | None:
    host = urlsplit(known.get("BlobEndpoint", "")).hostname or ""
    named = _ACCOUNT_HOST.fullmatch(host)
    return (
        known.get("AccountName")
        or (named[1] if named else host)
        or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    )


def _connection_endpoint(known: dict[str, str]) -> str | None:
    endpoint = known.get("BlobEndpoint")
    if not endpoint and "EndpointSuffix" in known:
        protocol = known.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{known.get('AccountName')}.blob.{known['EndpointSuffix']}"
    return endpoint


def _connection_string() -> dict[str, str]:
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    return dict(part.strip().partition("=")[::2] for part in text.split(";"))
