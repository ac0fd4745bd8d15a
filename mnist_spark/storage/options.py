"""From a URL and the environment to the options of its object store: the one mapping.

The options have the names that Rust's ``object_store`` gives them. obstore and delta-rs are both
built on it, so sources, staging, tables and commits get in by the same credentials. Both read
``AWS_*``, ``AZURE_*`` and ``GOOGLE_*`` by themselves; the options say the rest.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mnist_spark.errors import UsageError
from mnist_spark.storage.azure import azure_options
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
            container, path, options = azure_options(url)
            return Place("azure", container, path, f"az://{container}/{path}", _LIMITS | options)
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
    """
    if not is_cloud(url):
        return url, {}
    place = locate(url)
    # Without it delta-rs looks for no profile and no credentials file where there is an endpoint.
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
