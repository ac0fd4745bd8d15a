"""The old names of this room, for modules that still import them. To be removed with the last."""

from __future__ import annotations

from mnist_spark.storage.failures import delta_reason
from mnist_spark.storage.objects import ObjectReader, check_url, open_reader
from mnist_spark.storage.options import CONNECT_SECONDS, READ_SECONDS, for_delta_rs
from mnist_spark.storage.urls import SCHEMES, is_cloud, redact

__all__ = [
    "CONNECT_SECONDS",
    "READ_SECONDS",
    "SCHEMES",
    "delta_reason",
    "filesystem",
    "for_delta_rs",
    "is_cloud",
    "reason",
    "redact",
]
reason = str


class _Objects:
    def open(self, path: str, _mode: str, block_size: int) -> ObjectReader:
        return open_reader(path, block_size)


def filesystem(url: str) -> tuple[_Objects, str]:
    """What opens the object at the URL, and what to open."""
    check_url(url)
    return _Objects(), url
