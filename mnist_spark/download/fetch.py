"""Gets the published files, from mirrors into the cache or from a folder in place, and checks them.

Mirrors are tried in order, on any failure, wrong bytes included; within one download, those that
have failed come last. What :func:`fetch` returns has the size and digest that the catalog promises.
A source that the user names may have a file under other names, see
:mod:`~mnist_spark.download.names`, and files that are published within an archive alone or in it,
see :mod:`~mnist_spark.download.archive`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial

from mnist_spark.catalog.dataset import Dataset, File, Split
from mnist_spark.download.archive import Members
from mnist_spark.download.file import Download, Failure, Fetched, Outcome, fetch_file
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.names import as_published, in_users_source, parse_source
from mnist_spark.errors import DownloadError
from mnist_spark.storage.stores import check_url
from mnist_spark.storage.urls import is_cloud

__all__ = ["Fetched", "fetch"]

PARALLEL = 4


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
    outcomes = dict(zip(files, _in_parallel(work, files.values(), download.stopped), strict=True))
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


def _in_parallel(
    work: Callable[[File], Outcome], files: Iterable[File], stopped: threading.Event
) -> list[Outcome]:
    """The outcomes in the files' order; the first exception, or Ctrl-C, stops all.

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
        stopped.set()
        # Those that aren't stuck in the network remove their temporary files meanwhile.
        wait(futures, timeout=1.0)
