"""The command ``mnist-spark``. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import sys
import traceback
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NoReturn
from uuid import uuid4

from mnist_spark import catalog, idx
from mnist_spark._version import __version__
from mnist_spark.download import cache_folder, fetch
from mnist_spark.errors import IdxError, MnistSparkError, UsageError
from mnist_spark.ingest import ingest
from mnist_spark.sample import write_sample
from mnist_spark.schema import Layout
from mnist_spark.table import Format, Writer


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. A failure is one line on stderr; ``--debug`` adds the traceback."""
    parser = _Parser(prog="mnist-spark", description=__doc__)
    parser.add_argument("--version", action="version", version=f"mnist-spark {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, add, run in _COMMANDS:
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add(command)
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        command.set_defaults(run=run)
    return guarded(parser.parse_args(argv))


def guarded(args: argparse.Namespace) -> int:
    """Runs ``args.run`` and turns errors into a line and an exit code."""
    try:
        args.run(args)
    except MnistSparkError as error:
        if args.debug:
            traceback.print_exc()
        print(f"mnist-spark: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mnist-spark: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line}. See {self.prog} --help\n")


def add_ingest_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``ingest``, shared with ``jobs/ingest.py``."""
    _add_dataset(parser)
    parser.add_argument("--target", required=True, help="path, URL or schema.table")
    _add_source(parser)
    parser.add_argument(
        "--split", action="append", metavar="NAME", help="all (default) or a split; repeatable"
    )
    parser.add_argument("--format", choices=list(map(str, Format)), default="delta")
    parser.add_argument("--layout", choices=list(map(str, Layout)), default="columns")
    parser.add_argument("--writer", choices=list(map(str, Writer)), default="auto")
    parser.add_argument(
        "--ranges", type=_positive, metavar="N", help="number of record ranges, a task each"
    )
    parser.add_argument("--master", help="Spark master, or sc://… (default: local[*])")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    parser.add_argument(
        "--force", action="store_true", help="replace a table of another dataset or layout"
    )


def run_ingest(args: argparse.Namespace) -> None:
    """Write a dataset into a Delta or Parquet table."""
    if args.report is not None:
        path = args.report.absolute()
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError("--report needs a file in an existing folder", file=path)
    report = ingest(
        args.dataset,
        target=args.target,
        source=args.source,
        cache=args.cache,
        split=args.split or catalog.ALL_SPLITS,
        format=args.format,
        layout=args.layout,
        writer=args.writer,
        ranges=args.ranges,
        master=args.master,
        force=args.force,
        batch=True,
    )
    print(report.summary())
    if args.report is not None:
        report.write(args.report.absolute())


def _run_datasets(_: argparse.Namespace) -> None:
    """List the datasets of the catalog."""
    for dataset in catalog.datasets().values():
        rows, cols = dataset.image_shape
        counts = ", ".join(f"{s.name} {s.records:,}" for s in dataset.splits)
        print(f"{dataset.name}: {dataset.title}. {dataset.description}")
        print(f"  {counts}; {rows}×{cols}; {len(dataset.classes)} classes; {dataset.licence}")
        print(f"  {dataset.homepage}")
        print(f"  digests: {dataset.digests}")
        for mirror in dataset.mirrors:
            print(f"  mirror {mirror}")


def _run_download(args: argparse.Namespace) -> None:
    """Put a dataset's published files, verified, into a folder."""
    dataset = catalog.find(args.dataset)
    splits = dataset.select(args.split or catalog.ALL_SPLITS)
    fetched = fetch(dataset, splits, source=args.source, cache=cache_folder(args.cache))
    try:
        args.to.mkdir(parents=True, exist_ok=True)
        for name, each in fetched.items():
            path = args.to / name
            new = path.with_name(f".{name}.{uuid4().hex}.tmp")
            try:
                shutil.copyfile(each.path, new)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
            print(path.absolute())
    except OSError as error:
        raise MnistSparkError("cannot write the file", file=args.to, got=error.strerror) from error


def _run_sample(args: argparse.Namespace) -> None:
    """Generate a dataset of the same format: digits drawn from a seed."""
    write_sample(args.folder, train=args.train, test=args.test, seed=args.seed)
    description = args.folder.absolute() / "dataset.toml"
    print(description)
    print(f"mnist-spark ingest --dataset {description} --target TABLE")


def _run_inspect(args: argparse.Namespace) -> None:
    """Show an IDX file's header, shape, type and digest."""
    path: Path = args.file
    try:
        with open(path, "rb") as raw:
            gzipped = raw.read(2) == b"\x1f\x8b"
            size = os.fstat(raw.fileno()).st_size
        with gzip.open(path) if gzipped else open(path, "rb") as stream:
            header = idx.read_header(stream, path)  # type: ignore[arg-type]
            print(f"file     {path}{' (gzip)' if gzipped else ''}")
            print(f"magic    0x{header.pack()[:4].hex()}")
            print(f"type     {header.dtype.newbyteorder('=').name}")
            print(f"shape    {' × '.join(map(str, header.shape))}")
            if not gzipped:
                idx.check_payload_size(header, size, path)
            sha256 = _digest(stream, header, path)  # type: ignore[arg-type]
    except (OSError, EOFError, zlib.error) as error:
        raise IdxError("cannot read the file", file=path, got=error) from error
    print(f"payload  {header.payload_size:,} bytes, sha256 {sha256}")


def _digest(stream: IO[bytes], header: idx.Header, path: Path) -> str:
    """SHA-256 of the payload, whose header has been read."""
    digest, size = hashlib.sha256(header.pack()), header.size
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
        size += len(chunk)
        if size > header.payload_size:  # stop here: a gzip bomb would never end
            raise IdxError(
                "trailing bytes", file=path, expected=f"{header.payload_size:,} bytes", got="more"
            )
    idx.check_payload_size(header, size, path)
    return digest.hexdigest()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="mnist", metavar="D", help="name in the catalog, or a .toml file"
    )


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source",
        default=os.environ.get("MNIST_SPARK_SOURCE") or None,
        metavar="DIR|URL",
        help="where the files are (default: $MNIST_SPARK_SOURCE, else the catalog's mirrors)",
    )
    parser.add_argument("--cache", metavar="DIR", help="cache folder (default: $MNIST_SPARK_CACHE)")


def _add_download(parser: argparse.ArgumentParser) -> None:
    _add_dataset(parser)
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    _add_source(parser)
    parser.add_argument("--split", action="append", metavar="NAME")


def _add_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--train", type=int, default=60_000, metavar="N")
    parser.add_argument("--test", type=int, default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE[.gz]")


_Command = tuple[
    str,
    Callable[[argparse.ArgumentParser], None],
    Callable[[argparse.Namespace], None],
]
_COMMANDS: tuple[_Command, ...] = (
    ("datasets", lambda _: None, _run_datasets),
    ("download", _add_download, _run_download),
    ("ingest", add_ingest_arguments, run_ingest),
    ("sample", _add_sample, _run_sample),
    ("inspect", _add_inspect, _run_inspect),
)
