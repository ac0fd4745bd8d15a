"""The old names of this room, for ``download/``. To be removed when it imports the new ones."""

from mnist_spark.storage.options import CONNECT_SECONDS, READ_SECONDS
from mnist_spark.storage.urls import SCHEMES, is_cloud, redact

__all__ = ["CONNECT_SECONDS", "READ_SECONDS", "SCHEMES", "is_cloud", "redact"]
