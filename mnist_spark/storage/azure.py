"""Azure's storage: the account of a URL, and how the environment lets one in."""

from __future__ import annotations

import os
import re
from urllib.parse import SplitResult, urlsplit

from mnist_spark.errors import UsageError
from mnist_spark.storage.urls import redact

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


def azure_options(url: str) -> tuple[str, str, dict[str, str]]:
    """Container, path and options of a URL; the options may have secrets.

    Raises:
        UsageError: the URL isn't valid, or names no account that is the environment's.
    """
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
    return container, parts.path.strip("/"), found


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
