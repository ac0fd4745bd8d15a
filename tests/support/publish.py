"""A source that changes: pairs of IDX files in a folder, whose server's ETags tell."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from tests.support.faults import Fault, Server


def publish(folder: Path, suffix: str = ".gz", **splits: tuple[bytes, bytes]) -> None:
    """Puts ``<split>-images<suffix>`` and ``<split>-labels<suffix>`` in place, each whole."""
    folder.mkdir(exist_ok=True)
    for split, pair in splits.items():
        for role, payload in zip(("images", "labels"), pair, strict=True):
            path = folder / f"{split}-{role}{suffix}"
            new = path.with_suffix(".new")
            new.write_bytes(gzip.compress(payload, mtime=0) if suffix else payload)
            new.replace(path)


def tag(folder: Path, server: Server) -> None:
    """Makes the files' content their ETags."""
    for path in folder.iterdir():
        etag = f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"'
        server.faults[path.name] = Fault(headers={"ETag": etag})
