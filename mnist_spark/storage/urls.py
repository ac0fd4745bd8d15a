"""URLs and paths: which of the two a text is, which cloud a URL is of, and how it may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

AZURE = ("az", "abfs", "abfss", "wasb", "wasbs")
S3 = ("s3", "s3a")
GCS = ("gs", "gcs")
SCHEMES = (*AZURE, *S3, *GCS)
"""The schemes of cloud storage, lower case."""

# Two characters or more, so that a Windows drive isn't one. One slash, as in dbfs:/… and file:/….
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def scheme(text: str) -> str:
    """The scheme of a URL, lower case; empty for a path."""
    found = _SCHEME.match(text)
    return found[1].lower() if found else ""


def is_url(text: str) -> bool:
    """Whether it's a URL as ``scheme://…``; a path isn't, nor is ``dbfs:/…``."""
    return bool(scheme(text)) and text.partition(":")[2].startswith("//")


def is_cloud(text: str) -> bool:
    """Whether it's a URL of cloud storage, which :mod:`mnist_spark.storage.objects` reads."""
    return is_url(text) and scheme(text) in SCHEMES


def below(folder: str, name: str) -> str:
    """The URL of a name within a folder's URL."""
    return f"{folder.rstrip('/')}/{name}"


def bucket_and_key(url: str) -> tuple[str, str]:
    """Both parts of ``s3://bucket/key``, as they stand there: keys are not percent-encoded."""
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key.strip("/")


def redact(url: str) -> str:
    """The URL without user, password, query and fragment, for messages and records.

    A container before Azure's account stays, as it's no secret.
    """
    try:
        parts = urlsplit(url)
        # A password with an unquoted "/" ends up as port and path: valid ports tell.
        _ = parts.port
    except ValueError:
        return f"{url.partition(':')[0]}://(malformed)"
    user, at, host = parts.netloc.rpartition("@")
    container = user + at if parts.scheme in AZURE and ":" not in user else ""
    return urlunsplit((parts.scheme, container + host, parts.path, "", ""))


def shown(place: str) -> str:
    """A path as it is, a URL without its secrets."""
    return redact(place) if is_url(place) else place
