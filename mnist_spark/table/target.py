"""Where a table lies: a path, a URL, or a name in a catalog."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mnist_spark.errors import UsageError
from mnist_spark.storage.urls import is_cloud, redact, scheme

_MISREAD = frozenset("%\\")  # in paths, by delta-rs: it decodes the one and turns the other round
MISWRITTEN = _MISREAD | set("#?")
"""Characters of paths that delta-rs may take for parts of a URL when it writes."""


@dataclass(frozen=True)
class Target:
    """A table's place.

    Attributes:
        text: absolute path, URL, or dotted name.
        is_name: True for a catalog table.
    """

    text: str
    is_name: bool

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads a target as users write it.

        ``schema.table`` and ``catalog.schema.table`` name a catalog table. Everything else is a
        path or a URL; ``./a.b`` is a path whose name has a dot.

        Raises:
            UsageError: empty, or no path that could be.
        """
        if not text.strip() or "\0" in text:
            raise UsageError(
                "invalid target", expected="a path, a URL or schema.table", got=repr(text)
            )
        if re.fullmatch(r"\w+\.\w+(\.\w+)?", text):
            return cls(text, is_name=True)
        if scheme(text):
            url = urlsplit(text)
            if url.scheme != "file":
                if url.query or ":" in (url.netloc.rpartition("@")[0]):
                    raise UsageError(
                        "credentials in the target's URL",
                        got=redact(text),
                        hint="Give them in the environment: conf/README.md, section Targets",
                    )
                return cls(text.rstrip("/"), is_name=False)
            if url.netloc not in ("", "localhost"):
                raise UsageError("invalid target", expected="file:///path", got=repr(text))
            text = unquote(url.path)
        try:
            return cls(str(Path(text).expanduser().absolute()), is_name=False)
        except RuntimeError as error:  # what pathlib raises for ~ without a home
            raise UsageError("invalid target", got=error) from error

    @property
    def local(self) -> Path | None:
        """The path, unless the table lies elsewhere."""
        return None if self.is_name or scheme(self.text) else Path(self.text)

    @property
    def needs_spark(self) -> bool:
        """Whether only Spark can read a Delta table there.

        In a catalog, and at a URL that isn't of cloud storage. On Databricks also in cloud
        storage, to which the platform gives access, not the environment. And at a path that
        delta-rs takes for another one.
        """
        if self.local is not None:
            return bool(_MISREAD & set(self.text)) and (self.local / "_delta_log").is_dir()
        return (
            not is_cloud(self.text)
            or "DATABRICKS_RUNTIME_VERSION" in os.environ
            or importlib.util.find_spec("deltalake") is None
        )

    @property
    def sql(self) -> str:
        """The table's identifier in Spark SQL, quoted."""
        if self.is_name:
            return ".".join(f"`{part}`" for part in self.text.split("."))
        quoted = self.text.replace("`", "``")
        return f"delta.`{quoted}`"

    def __str__(self) -> str:
        return self.text
