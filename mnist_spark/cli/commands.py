"""The commands of ``mnist-spark``, a module each: ``add`` declares its arguments, ``run`` runs it.

The first line of ``run``'s docstring is the command's help.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from mnist_spark.cli import (
    cache,
    datasets,
    download,
    history,
    ingest,
    inspect,
    preview,
    refresh,
    sample,
    unstage,
    verify,
)

Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], None]

COMMANDS: dict[str, tuple[Add, Run]] = {
    "datasets": (datasets.add, datasets.run),
    "download": (download.add, download.run),
    "ingest": (ingest.add, ingest.run),
    "verify": (verify.add, verify.run),
    "history": (history.add, history.run),
    "preview": (preview.add, preview.run),
    "refresh": (refresh.add, refresh.run),
    "sample": (sample.add, sample.run),
    "inspect": (inspect.add, inspect.run),
    "cache": (cache.add, cache.run),
    "unstage": (unstage.add, unstage.run),
}
