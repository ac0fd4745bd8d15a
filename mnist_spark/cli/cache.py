"""``mnist-spark cache``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from mnist_spark.cli.text import paint, print_columns
from mnist_spark.download import inventory
from mnist_spark.download.cache import PAYLOADS
from mnist_spark.download.entries import Entry, State, entries
from mnist_spark.download.inputs import cache_folder
from mnist_spark.errors import IntegrityError, UsageError, printable


def add(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "action",
        choices=("list", "verify", "clean"),
        help="list what is there; verify all digests and move damaged files aside; clean up"
        " temporary and damaged files, and payloads and archives of Java classes, which can be made"
        " again",
    )
    parser.add_argument("--cache", metavar="DIR", help="cache folder (default: $MNIST_SPARK_CACHE)")
    parser.add_argument("--all", action="store_true", help="clean: the published files too")


def run(args: argparse.Namespace) -> None:
    """List, verify or clean the cache folder."""
    if args.all and args.action != "clean":
        raise UsageError("--all goes with clean only", got=f"cache {args.action}")
    cache = cache_folder(args.cache)
    match args.action:
        case "list":
            _list(cache)
        case "verify":
            _verify(cache)
        case _:
            _clean(cache, everything=args.all)


def _list(cache: Path) -> None:
    found = [e for e in entries(cache) if e.state not in (State.RECORD, State.LOCK)]
    # Names last, as payloads' are longer than a terminal is wide.
    rows = [
        (
            _size(entry.size),
            datetime.fromtimestamp(entry.modified, UTC).strftime("%Y-%m-%d %H:%MZ"),
            paint(entry.state, "red") if entry.state == State.ASIDE else entry.state,
            printable(f"{entry.dataset}/{entry.path.name}"),
            printable(entry.origin.url if entry.origin else ""),
        )
        for entry in found
    ]
    print_columns(rows, right=[0])
    print(f"{printable(str(cache))}: {_sum(found)}")


def _verify(cache: Path) -> None:
    good = 0
    bad: list[str] = []
    for verdict in inventory.verify(cache):
        path = printable(str(verdict.entry.path))
        if verdict.problem is None:
            good += 1
            print(f"{paint('ok', 'green')}   {path}")
            continue
        bad.append(path)
        aside = f"; now {printable(verdict.aside.name)}" if verdict.aside else ""
        print(f"{paint('bad', 'red')}  {path}: {verdict.problem}{aside}")
    if bad:
        raise IntegrityError(
            "damaged files in the cache",
            file=", ".join(bad),
            hint="They are downloaded or unpacked again when they are needed",
        )
    print(f"{printable(str(cache))}: {good} files verified")


def _clean(cache: Path, *, everything: bool) -> None:
    cleaned = inventory.clean(cache, everything=everything)
    for path in cleaned.busy:
        print(f"in use, left alone: {printable(str(path))}")
    removed = [e for e in cleaned.removed if e.state not in (State.RECORD, State.LOCK)]
    print(f"{printable(str(cache))}: removed {_sum(removed)}")


def _sum(found: list[Entry]) -> str:
    payloads = sum(entry.dataset == PAYLOADS for entry in found)
    archives = sum(entry.jvm_archive for entry in found)
    published = len(found) - payloads - archives
    java = f" and {archives} of Java" if archives else ""
    size = _size(sum(entry.size for entry in found))
    return f"{published} files and {payloads} payloads{java}, {size}"


def _size(size: int) -> str:
    if size < 10_000:
        return f"{size:,} B"
    return f"{size / 1e3:,.1f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"
