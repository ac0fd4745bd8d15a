"""The commands of ``mnist-spark``, a module each: ``add`` declares its arguments, ``run`` runs it.

The first line of ``run``'s docstring is the command's help.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from mnist_spark.commands import cache, datasets, download, ingest, inspect, preview, sample, unstage

Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], None]

COMMANDS: dict[str, tuple[Add, Run]] = {
    "datasets": (datasets.add, datasets.run),
    "download": (download.add, download.run),
    "ingest": (ingest.add, ingest.run),
    "preview": (preview.add, preview.run),
    "sample": (sample.add, sample.run),
    "inspect": (inspect.add, inspect.run),
    "cache": (cache.add, cache.run),
    "unstage": (unstage.add, unstage.run),
}
