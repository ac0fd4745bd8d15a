"""One call of :func:`mnist_spark.download.fetch.fetch`: what its threads, one per file, share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tqdm.auto import tqdm

from mnist_spark.catalog.dataset import File
from mnist_spark.download.sources import Source


class StoppedError(Exception):
    """The caller doesn't wait any more."""


@dataclass(frozen=True)
class Call:
    """Where to look, where to put what is found, and whether it's still wanted.

    Attributes:
        sources: the mirrors, or what the user named instead.
        cache: the cache folder, absolute.
        progress: whether there are bars; None: in terminals and notebooks.
        failures: how often each source has failed in this call.
        over: set when the caller doesn't wait any more.
    """

    sources: Sequence[Source]
    cache: Path
    progress: bool | None
    failures: Counter[Source] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def by_health(self) -> list[Source]:
        """The sources, those that have failed least first."""
        return sorted(self.sources, key=lambda source: self.failures[source])

    def poll(self) -> None:
        """Raises StoppedError if the caller doesn't wait any more."""
        if self.over.is_set():
            raise StoppedError

    def bar(self, file: File) -> tqdm[NoReturn]:
        """A progress bar for the file's bytes."""
        return tqdm(
            total=file.size, desc=file.name, unit="B", unit_scale=True, unit_divisor=1024,
            leave=False, disable=None if self.progress is None else not self.progress,
        )  # fmt: skip
