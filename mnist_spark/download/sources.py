"""Where files are fetched from: folders and base URLs, and a file's URL below such a one.

Which names files have there is not here (:mod:`~mnist_spark.download.places`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import url2pathname

from mnist_spark.errors import UsageError
from mnist_spark.storage import filesystem as storage
from mnist_spark.storage.filesystem import redact

Source: TypeAlias = Path | str
"""A folder, or a base URL."""

# Two characters or more, so that a Windows drive isn't one; also "dbfs:/…", which has one slash.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def parse_source(text: str) -> Source:
    """A folder (path, ``file:`` or ``dbfs:`` URL), or a base URL.

    Raises:
        UsageError: neither of them, or of a kind that isn't supported.
    """
    scheme = _SCHEME.match(text)
    match scheme[1].lower() if scheme else None:
        case None if text:
            return Path(text).expanduser().absolute()
        case "http" | "https" if _has_host(text):
            return text
        case "file":
            parts = urlsplit(text)
            if parts.netloc in ("", "localhost"):
                return Path(url2pathname(parts.path))
        case "dbfs" if not text.startswith("dbfs://") or text.startswith("dbfs:///"):
            # Databricks mounts DBFS at /dbfs, but the volumes, which it calls dbfs: too, at /.
            path = "/" + text.partition(":")[2].lstrip("/")
            return Path(path if path.startswith("/Volumes/") else f"/dbfs{path}")
        case _ if storage.is_cloud(text):
            return text
    raise UsageError(
        "source isn't supported",
        expected="a folder, file:///…, dbfs:/…, http://…, https://… or one of "
        + ", ".join(f"{each}://…" for each in storage.SCHEMES),
        got=repr(redact(text) if scheme else text),
    )


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port isn't a number, or brackets without an address
        return False


def file_url(base: str, name: str) -> str:
    """The URL of a name below a base URL, which may be signed."""
    parts = urlsplit(base)
    quoted = name if storage.is_cloud(base) else quote(name)
    # A signed URL keeps its query.
    return urlunsplit(
        (parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quoted}", parts.query, "")
    )
