"""Gets the published files, from mirrors into the cache or from a folder in place, and checks them.

Mirrors are tried in order, on any failure, wrong bytes included; within one download, those that
have failed come last. What :func:`fetch` returns has the size and digest that the catalog promises.
A source that the user names may have a file under other names, see
:mod:`~mnist_spark.download.inputs`, and files that are published within an archive alone or in it,
see :mod:`~mnist_spark.download.archive`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait
from functools import partial
from typing import TypeVar

from mnist_spark.catalog.dataset import Dataset, File, Split
from mnist_spark.download.archive import Members
from mnist_spark.download.file import Download, Failure, Fetched, Outcome, fetch_file
from mnist_spark.download.inputs import Inputs, as_published, in_users_source, parse_source
from mnist_spark.errors import DownloadError
from mnist_spark.storage.runtime import start, wait_for
from mnist_spark.storage.stores import check_url
from mnist_spark.storage.urls import is_cloud

PARALLEL = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


def fetch(
    dataset: Dataset,
    splits: Sequence[Split],
    inputs: Inputs,
    *,
    progress: bool | None = None,
) -> dict[str, Fetched]:
    """Makes the files of some splits available, several at a time.

    Args:
        inputs: a folder as the source has its files used in place; to a URL their names are
            appended.
        progress: bars for what is downloaded; None shows them in terminals and notebooks.

    Returns:
        the files by name, in the order of the splits.

    Raises:
        UsageError: a source of a kind that isn't supported, or not by what is installed.
        CatalogError: a name that can't be used in the cache.
        DownloadError: no mirror gave a file (lists each URL with its reason), or the cache
            can't be written.
        IntegrityError: what is within the published archive isn't what the catalog says.
    """
    source = inputs.source
    sources = [parse_source(each) for each in (dataset.mirrors if source is None else [source])]
    if source is not None and is_cloud(source):
        check_url(source)  # a mistake in it is one of usage, not of a mirror
    download = Download(sources, inputs.cache.absolute(), progress)
    places = as_published if source is None else partial(in_users_source, dataset)
    work: Callable[[File], Outcome] = partial(fetch_file, download, dataset.name, places)
    if dataset.archive is not None:
        alone = None if source is None else work
        work = Members(download, dataset.name, dataset.archive, alone).fetch

    files = {file.name: file for split in splits for file in split.files}
    outcomes = dict(zip(files, in_parallel(work, files.values(), download.stopped), strict=True))
    lists = [outcome for outcome in outcomes.values() if isinstance(outcome, list)]
    failures = list(dict.fromkeys(failure for each in lists for failure in each))
    if failures:
        missing = list(dict.fromkeys(failure.name for failure in failures))
        raise DownloadError(
            "no mirror gave the file" if len(missing) == 1 else "no mirror gave the files",
            dataset=dataset.name,
            file=None if len(missing) == len(files) > 1 else ", ".join(missing),
            details=_by_source(failures, len(missing)),
            hint="Name a folder that has the files with --source or MNIST_SPARK_SOURCE",
        )
    return {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Fetched)}


def _by_source(failures: Iterable[Failure], missing: int) -> list[str]:
    """``URL: reason``; the files' names follow if others have failed there for another reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        groups.setdefault((failure.base, failure.reason), []).append(failure.name)
    return [
        f"{base}{names[0]}: {reason}"
        if len(names) == 1
        else f"{base}: {reason}" + (f" ({', '.join(names)})" if len(names) < missing else "")
        for (base, reason), names in groups.items()
    ]


def in_parallel(
    work: Callable[[Item], Result], items: Iterable[Item], stopped: threading.Event
) -> list[Result]:
    """The results in the items' order; the first exception, or Ctrl-C, stops all."""
    slots = threading.Semaphore(PARALLEL)

    def work_in_turn(item: Item) -> Result:
        with slots:
            return work(item)

    futures = [start(partial(work_in_turn, item)) for item in items]
    try:
        wait_for(futures)
        return [future.result() for future in futures if future.done()]
    finally:
        stopped.set()
        # Those that aren't stuck in the network remove their temporary files meanwhile.
        wait(futures, timeout=1.0)
