"""Where a table lies: a path, a URL, or a name in a catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mnist_spark.errors import UsageError


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
            UsageError: empty.
        """
        if not text.strip():
            raise UsageError("empty target", expected="a path, a URL or schema.table")
        if re.fullmatch(r"\w+\.\w+(\.\w+)?", text):
            return cls(text, is_name=True)
        url = urlsplit(text)
        if url.scheme == "file":
            return cls(str(Path(unquote(url.path)).absolute()), is_name=False)
        if "://" in text:
            return cls(text.rstrip("/"), is_name=False)
        return cls(str(Path(text).expanduser().absolute()), is_name=False)

    @property
    def local(self) -> Path | None:
        """The path, unless the table lies elsewhere."""
        return None if self.is_name or "://" in self.text else Path(self.text)

    @property
    def sql(self) -> str:
        """The table's identifier in Spark SQL, quoted."""
        if self.is_name:
            return ".".join(f"`{part}`" for part in self.text.split("."))
        quoted = self.text.replace("`", "``")
        return f"delta.`{quoted}`"

    def __str__(self) -> str:
        return self.text
