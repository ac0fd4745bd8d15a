"""Gets the published files, from mirrors into the cache or from a folder in place, and checks them.

Runs on the driver. Mirrors are tried in order, on any failure, wrong bytes included; within one
call, those that have failed come last. What :func:`fetch` returns has the size and digest that the
catalog promises.

A source that the user names may have a file under other names than the published one, see
:mod:`~mnist_spark.download.places`.

Files that are published within an archive are copied out of it into the cache, and are there as if
they had been published alone; a source that the user names may have them so, or the archive.

====================================  ==================================
:mod:`~mnist_spark.download.sources`  folders and base URLs
:mod:`~mnist_spark.download.places`   a file's names there
:mod:`~mnist_spark.download.outcome`  the file, or why not
:mod:`~mnist_spark.download.call`     what one call's threads share
:mod:`~mnist_spark.download.disk`     a file that is here already
:mod:`~mnist_spark.download.mirror`   a file from one mirror
:mod:`~mnist_spark.download.file`     a file from wherever it can be had
:mod:`~mnist_spark.download.member`   a file within an archive
====================================  ==================================
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from pathlib import Path

from mnist_spark.catalog.dataset import Dataset, File, Split
from mnist_spark.download.call import Call
from mnist_spark.download.file import fetch_file
from mnist_spark.download.member import Members
from mnist_spark.download.outcome import Fetched, Outcome, listed
from mnist_spark.download.places import as_published, in_users_source
from mnist_spark.download.sources import parse_source
from mnist_spark.errors import DownloadError
from mnist_spark.storage import objects
from mnist_spark.storage.urls import is_cloud

__all__ = ["Fetched", "fetch"]

PARALLEL = 4


def fetch(
    dataset: Dataset,
    splits: Sequence[Split],
    *,
    source: str | None = None,
    cache: Path,
    progress: bool | None = None,
) -> dict[str, Fetched]:
    """Makes the files of some splits available, several at a time.

    Args:
        source: instead of the dataset's mirrors: a folder, whose files are used in place, or a
            base URL to which the file names are appended, see
            :mod:`~mnist_spark.download.places`.
        cache: the folder from :func:`mnist_spark.download.cache.cache_folder`.
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
    sources = [parse_source(each) for each in (dataset.mirrors if source is None else [source])]
    if source is not None and is_cloud(source):
        objects.check_url(source)  # a mistake in it is one of usage, not of a mirror
    call = Call(sources, cache.absolute(), progress)
    places = as_published if source is None else partial(in_users_source, dataset)
    work: Callable[[File], Outcome] = partial(fetch_file, call, dataset.name, places)
    if dataset.archive is not None:
        alone = None if source is None else work
        work = Members(call, dataset.name, dataset.archive, alone).fetch

    files = {file.name: file for split in splits for file in split.files}
    results = dict(zip(files, _in_parallel(work, files.values(), call.over), strict=True))
    lists = [result for result in results.values() if isinstance(result, list)]
    failures = list(dict.fromkeys(failure for each in lists for failure in each))
    if failures:
        raise DownloadError(
            "no mirror gave the file",
            dataset=dataset.name,
            file=", ".join(dict.fromkeys(failure.name for failure in failures)),
            got=listed(failures),
            hint="Name a folder that has the files with --source or MNIST_SPARK_SOURCE",
        )
    return {name: result for name, result in results.items() if isinstance(result, Fetched)}


def _in_parallel(
    work: Callable[[File], Outcome], files: Iterable[File], over: threading.Event
) -> list[Outcome]:
    """The results in the files' order; the first exception, or Ctrl-C, stops all.

    Threads of one's own and not a ThreadPoolExecutor: Python waits for the executor's threads
    before it exits, up to the time-outs if a server hangs. These end with the process, and so do
    their locks.
    """
    slots = threading.Semaphore(PARALLEL)

    def run(future: Future[Outcome], file: File) -> None:
        try:
            with slots:
                future.set_result(work(file))
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            future.set_exception(error)

    futures = []
    try:
        for file in files:
            future: Future[Outcome] = Future()
            futures.append(future)
            threading.Thread(target=run, args=(future, file), daemon=True).start()
        done = wait(futures, return_when=FIRST_EXCEPTION).done
        for future in done:
            future.result()
        return [future.result() for future in futures]
    finally:
        over.set()
        # Those that aren't stuck in the network remove their temporary files meanwhile.
        wait(futures, timeout=1.0)
