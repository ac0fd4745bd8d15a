"""Cloud storage by URL, through fsspec and its backends: which one, and with whose credentials.

The backends are extras of this package (``[azure]``, ``[s3]``, ``[gcs]``). Executors use this too,
so it needs nothing else of the package but its errors.
"""

from __future__ import annotations

import http.client
import importlib
import os
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mnist_spark.errors import MnistSparkError, UsageError

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem

CONNECT_SECONDS = 10
READ_SECONDS = 30

_AZURE = ("az", "abfs", "abfss", "wasb", "wasbs")
_BACKENDS = {
    # scheme: extra, module, class
    **dict.fromkeys(_AZURE, ("azure", "adlfs", "AzureBlobFileSystem")),
    **dict.fromkeys(("s3", "s3a"), ("s3", "s3fs", "S3FileSystem")),
    # Not gcsfs' own default, which first asks what kind of bucket it is, and logs that it may not.
    **dict.fromkeys(("gs", "gcs"), ("gcs", "gcsfs.core", "GCSFileSystem")),
}
SCHEMES = tuple(_BACKENDS)
"""The schemes of cloud storage, lower case."""

# Only hosts of Azure's own: the environment's SAS token would be sent to any other as well.
_ACCOUNT_HOST = re.compile(
    r"([a-z0-9]{3,24})\.(?:blob|dfs)\."
    r"(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net)"
)
# What azure-identity's EnvironmentCredential, WorkloadIdentityCredential and
# ManagedIdentityCredential are configured by.
_AZURE_IDENTITY = ("AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT")
# Who is asked last for credentials, on machines of Amazon, Azure and Google, and what AWS' own
# library says.
_NO_DELTA_CREDENTIALS = re.compile(
    r"//169\.254\.169\.254/|//metadata\.google\.internal/"
    r"|(?:loading|signing) credential|credentials? provider"
)


def is_cloud(url: str) -> bool:
    """Whether it's a URL of cloud storage, which :func:`filesystem` opens."""
    return url.partition("://")[0].lower() in _BACKENDS and "://" in url


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL and the path within it.

    ``s3://bucket/…``, ``gs://bucket/…``, ``az://container/…`` (the account is the environment's)
    and ``abfss://container@account.dfs.core.windows.net/…`` (also ``abfs``, ``wasb``, ``wasbs``;
    the query may be a SAS token). Credentials come from the environment, as adlfs
    (``AZURE_STORAGE_*``), botocore (``AWS_*``) and google-auth document; Azure without any is
    read anonymously.

    Raises:
        UsageError: another scheme, a URL that isn't valid, or the backend isn't installed.
    """
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in _BACKENDS:
        raise UsageError(
            "not a URL of cloud storage",
            expected=f"one of {', '.join(f'{known}://' for known in _BACKENDS)}",
            got=redact(url),
        )
    extra, module, name = _BACKENDS[scheme]
    try:
        backend = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs {module.partition('.')[0]}",
            url=redact(url),
            got=f"no module {error.name}",
            hint=f"Install it with: pip install 'mnist-spark[{extra}]'",
        ) from error
    options: dict[str, Any]
    if scheme in _AZURE:
        options, path = _azure(url)
    else:
        options, path = {}, url.partition("://")[2]
        if not path.partition("/")[0]:
            raise UsageError("URL has no bucket", url=redact(url))
    if extra == "s3":
        limits = (("connect_timeout", CONNECT_SECONDS), ("read_timeout", READ_SECONDS))
        options["config_kwargs"] = limits
    try:
        return _open(
            backend,
            tuple(options.items()),
            frozenset(os.environ.items()),
            os.getpid(),
            threading.get_ident(),
        ), path
    except Exception as error:
        raise UsageError("cannot open", url=redact(url), got=reason(error)) from error


class _OpenFileSystems(dict[tuple[Any, ...], Any]):
    """The file systems that this process has open; with code that travels to another, none."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


_MOST_OPEN = 16
_OPEN = _OpenFileSystems()


def _open(backend: Any, options: tuple[tuple[str, Any], ...], *who: object) -> AbstractFileSystem:
    """Keeps connections, as fsspec's cache does, which wouldn't see that credentials changed."""
    key = backend, options, who
    found = _OPEN.get(key)
    if found is None:
        if len(_OPEN) == _MOST_OPEN:
            _OPEN.pop(next(iter(_OPEN)), None)
        arguments = {k: dict(value) if isinstance(value, tuple) else value for k, value in options}
        # Listings kept in memory would hide what other processes have written since.
        found = backend(use_listings_cache=False, skip_instance_cache=True, **arguments)
        _OPEN[key] = found
    return found


def for_delta_rs(url: str) -> tuple[str, dict[str, str]]:
    """A URL and its options as delta-rs takes them, so that one environment serves both.

    delta-rs reads ``AWS_*``, ``AZURE_STORAGE_*`` and ``GOOGLE_*`` itself, but no connection string
    of Azure's; it asks leave for plain HTTP, and is told to read anonymously. It knows neither
    ``wasbs://`` nor Azure's clouds of China and the US government: all become ``az://``. A URL
    that isn't of cloud storage, and a path, is handed back as it is.

    Returns:
        the options may have secrets.

    Raises:
        UsageError: as :func:`filesystem`, but no backend is needed.
    """
    scheme = url.partition("://")[0].lower()
    if not is_cloud(url):
        return url, {}
    options = {"connect_timeout": f"{CONNECT_SECONDS}s", "timeout": f"{READ_SECONDS}s"}
    options |= {"max_retries": "4", "retry_timeout": "60s"}
    if scheme in _AZURE:
        told, path = _azure(url)
        return f"az://{path}", options | _azure_for_delta_rs(told)
    if scheme in ("s3", "s3a"):
        # Else it looks for no profile and no credentials file where there is an endpoint.
        options["aws_force_credential_load"] = "true"
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            options["aws_endpoint_url"] = endpoint
            options["allow_http"] = str(endpoint.startswith("http://")).lower()
    return url, options


def _azure_for_delta_rs(told: dict[str, Any]) -> dict[str, str]:
    """Options out of what adlfs is told, and out of what it finds in the environment."""
    values = _connection()
    endpoint = values.get("BlobEndpoint")
    if not endpoint and "EndpointSuffix" in values:
        protocol = values.get("DefaultEndpointsProtocol", "https")
        endpoint = f"{protocol}://{values.get('AccountName')}.blob.{values['EndpointSuffix']}"
    if not endpoint and "account_host" in told:
        endpoint = f"https://{told['account_host']}"
    key = values.get("AccountKey")
    sas = told.get("sas_token") or values.get("SharedAccessSignature")
    options = {
        "azure_storage_account_name": told.get("account_name") or _environment_account(),
        "azure_storage_endpoint": endpoint,
        "azure_storage_account_key": key,
        "azure_storage_sas_token": sas,
        "allow_http": "true" if endpoint and endpoint.startswith("http://") else None,
    }
    secrets = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CLIENT_ID")
    if "anon" in told and not (key or sas or any(map(os.environ.get, secrets))):
        options["azure_skip_signature"] = "true"
    return {name: value for name, value in options.items() if value}


def delta_reason(error: BaseException) -> str:
    """What delta-rs says, in one line: it comes as a tree in colours, with whole answers in it.

    Other errors are told by the first line of their text.
    """
    text = re.sub(r"\s*↳\s*", ": ", re.sub(r"\x1b\[\d*m", "", str(error))).strip()
    if _NO_DELTA_CREDENTIALS.search(text):
        return "no credentials, or not valid ones"
    if answer := re.search(r"status code: ([45]\d\d)\b", text):
        code = re.search(r"<Code>(\w+)</Code>", text)
        phrase = http.client.responses.get(int(answer[1]), "")
        return f"HTTP {answer[1]} {phrase}".rstrip() + (f" ({code[1]})" if code else "")
    # The query of a URL of cloud storage is a signature.
    text = re.sub(r"(\w+://[^\s?]*)\?\S*", r"\1", text)
    return next((line.strip() for line in text.splitlines() if line.strip()), repr(error))


def redact(url: str) -> str:
    """The URL without user, password, query and fragment, for messages and records.

    A container before Azure's account stays, as it's no secret.
    """
    scheme = url.partition(":")[0]
    try:
        parts = urlsplit(url)
        # A password with an unquoted "/" ends up as port and path: valid ports tell.
        _ = parts.port
    except ValueError:
        return f"{scheme}://(malformed)"
    user, at, host = parts.netloc.rpartition("@")
    container = user + at if parts.scheme in _AZURE and ":" not in user else ""
    return urlunsplit((parts.scheme, container + host, parts.path, "", ""))


def reason(error: BaseException) -> str:
    """Why a backend failed, in a few words.

    Never the error's own text, which may have a URL with its SAS token in it.
    """
    if isinstance(error, MnistSparkError):
        return str(error)
    chain = list(_chain(error))
    names = {cls.__name__ for each in chain for cls in type(each).__mro__}
    if names & _NO_CREDENTIALS:
        return "no credentials, or not valid ones"
    # The status first: s3fs and adlfs make OSErrors of it, whose numbers say less.
    for status in filter(None, map(_status, chain)):
        return f"HTTP {status} {http.client.responses.get(status, '')}".rstrip()
    for each in chain:
        match each:
            case FileNotFoundError():
                return "not found"
            case PermissionError():
                return "forbidden"
            case TimeoutError():
                return "no answer in time"
            case ssl.SSLCertVerificationError():
                return f"TLS: {each.verify_message}"
            case ssl.SSLError():
                return f"TLS: {each.reason}"
            case socket.gaierror():
                return each.strerror or "unknown host"
    if names & _NO_ANSWER:
        return "no answer in time"
    if names & {"DecodeError", "ValueError"}:  # azure.core
        return "not an answer of cloud storage"
    for each in reversed(chain):
        # aiohttp's connection errors and s3fs' translations have a number too, and a text of
        # their own with the URL; the number alone is safe.
        if isinstance(each, OSError) and each.errno:
            return os.strerror(each.errno)
    if names & _NO_CONNECTION:
        return "no connection"
    return type(error).__name__


def is_transient(error: BaseException) -> bool:
    """Whether another try may do better: no answer, a lost connection, HTTP 408, 429 or 5xx."""
    chain = _chain(error)
    names = {cls.__name__ for each in chain for cls in type(each).__mro__}
    status = next(filter(None, map(_status, chain)), None)
    if status is not None:
        return status in (408, 429) or status >= 500
    lasting = (FileNotFoundError, PermissionError, ssl.SSLCertVerificationError, MnistSparkError)
    return not names & _NO_CREDENTIALS and not any(isinstance(each, lasting) for each in chain)


_NO_CREDENTIALS = {
    "NoCredentialsError",  # botocore
    "PartialCredentialsError",
    "ClientAuthenticationError",  # azure.core
    "CredentialUnavailableError",  # azure.identity
    "GoogleAuthError",  # google.auth
}
_NO_ANSWER = {"ConnectTimeoutError", "ReadTimeoutError", "ServiceResponseTimeoutError"}
_NO_CONNECTION = {"EndpointConnectionError", "ConnectionClosedError", "ServiceRequestError"}


def _azure(url: str) -> tuple[dict[str, Any], str]:
    """What adlfs is told, and ``container/path``."""
    try:
        parts = urlsplit(url)
        if parts.password is not None or parts.port is not None:
            raise ValueError
        container, at, host = parts.netloc.rpartition("@")
    except ValueError:
        raise UsageError("URL isn't valid", got=redact(url)) from None
    options: dict[str, Any] = {"connection_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    account = None
    if not at:
        container = host  # az://container/path
    elif named := _ACCOUNT_HOST.fullmatch(host.lower()):
        account = named[1]
        options |= {"account_name": account, "account_host": f"{account}.blob.{named[2]}"}
    if not container or (at and account is None):
        raise UsageError(
            "not a URL of Azure's storage",
            expected=f"{parts.scheme}://container@account.dfs.core.windows.net/path,"
            f" or {parts.scheme}://container/path with the account in the environment",
            got=redact(url),
        )
    own = _environment_account()
    if account and own and account != own:
        # adlfs would take the environment's key, token or even address for the other's.
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
    if parts.query:
        options["sas_token"] = parts.query
    elif "AZURE_STORAGE_ANON" not in os.environ and not any(map(os.environ.get, _AZURE_IDENTITY)):
        # Else adlfs asks everything that might have a credential, for half a minute.
        options["anon"] = True
    return options, f"{container}/{parts.path.lstrip('/')}"


def _environment_account() -> str | None:
    values = _connection()
    host = urlsplit(values.get("BlobEndpoint", "")).hostname or ""
    named = _ACCOUNT_HOST.fullmatch(host)
    return (
        values.get("AccountName")
        or (named[1] if named else host)
        or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    )


def _connection() -> dict[str, str]:
    text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    return dict(part.partition("=")[::2] for part in text.split(";"))


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and those that it came from."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = getattr(error, "inner_exception", None)  # azure.core
        error = error.__cause__ or error.__context__ or inner
    return found


def _status(error: BaseException) -> int | None:
    """The HTTP status that a backend's error has."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    for value in (
        getattr(error, "status_code", None),  # azure.core
        getattr(error, "status", None),  # aiohttp
        getattr(error, "code", None) if type(error).__module__.startswith("gcsfs") else None,
        response,
    ):
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None
