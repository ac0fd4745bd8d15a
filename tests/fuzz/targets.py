"""What is fuzzed: each target takes any bytes and lets nothing but a MnistSparkError out.

To add one: a function of bytes, seeds, and an entry in :data:`TARGETS`. ``test_fuzz.py`` then runs
it with random mutations of the seeds, ``make fuzz`` guided by coverage.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import os
import struct
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from unittest import mock

import numpy as np

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, table_schema
from mnist_spark.cli import main as cli
from mnist_spark.decode.batches import decode_range
from mnist_spark.download import cache, inventory
from mnist_spark.errors import CatalogError, DownloadError, MnistSparkError, UsageError
from mnist_spark.idx import format as idx
from mnist_spark.idx.pair import open_pair
from mnist_spark.idx.read import count_labels, inflate
from mnist_spark.ranges.plan import MAX_RANGES, SplitSize, plan_ranges, split_size
from mnist_spark.ranges.transport import plan_tasks
from mnist_spark.refresh import reader
from tests.support.idxfiles import TYPES, header, parse, payload, random_pair, ubytes, write_dataset

MB = 1 << 20


@dataclass(frozen=True)
class Target:
    """Something that must survive any bytes.

    Attributes:
        run: returns, or raises a MnistSparkError; whatever else it raises is a bug.
        seeds: valid inputs to start from.
        bound: bytes that one run may allocate.
        tokens: what mutations put into text.
        sandbox: entered around all runs.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    bound: int
    tokens: tuple[bytes, ...] = ()
    sandbox: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext


def execute(target: Target, data: bytes) -> str:
    """Runs one case, while tracemalloc is on.

    Returns:
        "ok", or the name of the error's class.
    """
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    outcome, line = "ok", ""
    try:
        target.run(data)
    except MnistSparkError as error:
        outcome, line = type(error).__name__, str(error)
    assert line.isprintable()
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= target.bound, f"allocated {peak:,} bytes, at most {target.bound:,} allowed"
    return outcome


# --- IDX ------------------------------------------------------------------------------------------


def run_header(data: bytes) -> None:
    """Any payload, as somebody who trusts nothing but the header's own checks."""
    expected = parse(data)
    stream = io.BytesIO(data)
    try:
        found = idx.read_header(stream, "f")
    except MnistSparkError:
        assert expected is None
        raise
    assert expected is not None
    assert (found.shape, found.pack()) == (expected[1], header(*expected[:2]))
    for start, stop in ((0, found.records), (0, min(1, found.records))):
        with contextlib.suppress(MnistSparkError):
            idx.read_records(stream, found, start, stop, "f")
    stream.seek(found.size)
    if len(found.shape) == 1:
        with contextlib.suppress(MnistSparkError):
            counts = count_labels(stream, found, 10, "f")
            assert counts.sum() == found.records
    idx.check_payload_size(found, len(data), "f")
    assert expected[2]


def header_seeds() -> list[bytes]:
    most = 2**32 - 1
    return [
        *(payload(code, (2, 3), [1] * 6) for code in TYPES),
        *random_pair(4, 3, 2),
        ubytes(np.zeros((0, 28, 28))),
        header(8, (3, 0, 2)),
        header(8, (1,) * 255) + b"x",
        *(header(14, (most,) * n)[:20].ljust(20, b"\0") for n in (1, 2, 3, 4)),
    ]


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A new folder, as the current one; in memory where there is such a place."""
    memory = Path("/dev/shm")
    before = Path.cwd()
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as new:
        os.chdir(new)
        try:
            yield Path(new)
        finally:
            os.chdir(before)


def run_decode(data: bytes) -> None:
    """Two payloads, as Spark's format ``idx`` reads them: headers, ranges, record batches."""
    choice, size = struct.unpack(">BH", data[:3].ljust(3, b"\0"))
    Path("labels").write_bytes(data[3 : 3 + size])
    Path("images").write_bytes(data[3 + size :])
    pair = open_pair("s", "images", "labels")
    schema = table_schema(
        list(Layout)[choice % len(Layout)],
        pair.image_shape,
        pixels=pair.image_header.dtype,
        labels=pair.label_header.dtype,
    )
    ranges = plan_ranges([split_size(pair)], parallelism=1 + choice // 16)
    rows = 0
    for task in plan_tasks([pair], ranges, checked=bool(choice & 8)):
        for batch in decode_range(task, schema):
            batch.validate(full=True)
            rows += batch.num_rows
    assert rows == pair.records


def decode_seeds() -> list[bytes]:
    pairs = [
        random_pair(5, 2, 3),
        random_pair(0, 2, 3),
        (header(8, (0, 2**16, 2**16)), header(8, (0,))),
        *((payload(c, (2, 1, 2), [1] * 4), payload(c, (2,), [1, 0])) for c in TYPES),
    ]
    return [
        struct.pack(">BH", choice, len(labels)) + labels + images
        for images, labels in pairs
        for choice in range(16)
    ]


# --- gzip -----------------------------------------------------------------------------------------


def run_inflate(data: bytes) -> None:
    """4 bytes: the payload's size as the catalog tells it, from 0 to 16 MiB; then gzip."""
    size = int.from_bytes(data[:4], "big") % (16 * MB)
    got = 0
    for chunk in inflate(io.BytesIO(data[4:]), size, "f"):
        got += len(chunk)
        assert got <= size
    assert got == size
    if size < MB:
        assert len(gzip.decompress(data[4:])) == size


def inflate_seeds() -> list[bytes]:
    def sized(size: int, data: bytes) -> bytes:
        return size.to_bytes(4, "big") + data

    raw = random_pair(20, 3, 2)[0]
    whole = gzip.compress(raw, mtime=0)
    return [
        sized(len(raw), whole),
        sized(len(raw), gzip.compress(raw[:50]) + gzip.compress(b"") + gzip.compress(raw[50:])),
        sized(10 * MB, gzip.compress(bytes(10 * MB))),
        sized(1, gzip.compress(bytes(10 * MB))),
        sized(len(raw), whole + b"trailing"),
        sized(len(raw), whole[:-9]),
        sized(0, gzip.compress(b"")),
    ]


# --- Ranges ---------------------------------------------------------------------------------------


def run_ranges(data: bytes) -> None:
    """Numbers of 8 bytes: parallelism, count or 0, then records and record size of each split."""
    numbers = [int.from_bytes(data[i : i + 8], "big", signed=True) for i in range(0, len(data), 8)]
    parallelism, count, *rest = [*numbers, 0, 0][: max(2, len(numbers))]
    sizes = [
        SplitSize(f"s{i}", abs(n) % 2**32, max(1, abs(size)))  # what a header can say
        for i, (n, size) in enumerate(zip(rest[::2], rest[1::2], strict=False))
    ]
    ranges = plan_ranges(sizes, parallelism=parallelism, count=count or None)
    assert len(ranges) <= MAX_RANGES
    at = 0
    for size in sizes:
        stop = 0
        while stop < size.records:
            assert (ranges[at].split, ranges[at].start) == (size.split, stop)
            assert ranges[at].stop > stop
            stop, at = ranges[at].stop, at + 1
        assert stop == size.records
    assert at == len(ranges)


def ranges_seeds() -> list[bytes]:
    return [
        struct.pack(f">{len(numbers)}q", *numbers)
        for numbers in (
            (2, 0, 60_000, 784, 10_000, 784),
            (2, 7, 60_000, 784, 10_000, 784),
            (64, 0, 2**32 - 1, 2**62),
            (1, 2**40, 2**32 - 1, 1),
            (-1, -1, 0, 1),
        )
    ]


# --- Text that people and caches hold -------------------------------------------------------------


def run_catalog(data: bytes) -> None:
    """A dataset's description, and where it would have its files put."""
    text = data.decode("utf-8", "replace")
    for dataset in catalog.parse(text, "f.toml", folder=Path("/folder")).values():
        dataset.select()
        for split in dataset.splits:
            for file in split.files:
                with contextlib.suppress(CatalogError):
                    path = cache.published_path(Path("/cache"), dataset.name, file)
                    assert os.path.normpath(path) == str(path)
                    assert path.parent.parent == Path("/cache")


def run_refresh(data: bytes) -> None:
    """The configuration of ``mnist-spark refresh``."""
    reader.parse(data.decode("utf-8", "replace"), Path("/folder/refresh.toml"))


@functools.cache
def description() -> bytes:
    with tempfile.TemporaryDirectory() as new:
        write_dataset(Path(new), {"train": random_pair(4, 3, 2), "test": random_pair(2, 3, 2)})
        return (Path(new) / "dataset.toml").read_bytes()


def catalog_seeds() -> list[bytes]:
    own = (Path(catalog.__file__).parent / "datasets.toml").read_bytes()
    return [description(), own[: own.index(b"[fashion")]]


def refresh_seeds() -> list[bytes]:
    return [
        b'[tables.mnist]\ntarget = "lake/mnist"\ndataset = "mnist"\n',
        (Path(__file__).parents[2] / "conf" / "refresh.toml").read_bytes(),
        description(),
    ]


TOML = (
    *(b"[", b"]", b"[[", b'"""', b"'''", b"\\u0000", b"\\u001b", b"{", b"}", b"=", b"\n", b"#"),
    *(b"inf", b"nan", b"1979-05-27T07:32:00Z", b"0x" + b"f" * 50, b"-1", b"true", b"1e999"),
    *(b"../", b'"/etc/passwd"', b".splits.", b"images", b"payload_size", b"sha256", b"all"),
    *(b"[" * 400, b"9" * 4500, b"a." * 300),
)


def run_origin(data: bytes) -> None:
    """The record beside a cached file."""
    found = cache.parse_origin(data)
    assert found is None or (isinstance(found.url, str) and len(bytes.fromhex(found.sha256)) == 32)


def origin_seeds() -> list[bytes]:
    values = {"url": "http://host/f", "sha256": "0" * 64, "etag": '"v1"', "last_modified": None}
    return [json.dumps(values).encode(), json.dumps(values | {"more": [1, {}]}).encode()]


# --- The command ----------------------------------------------------------------------------------

REAL = ("datasets", "inspect", "ingest", "cache")
"""Commands that run as far as the network, Spark and what they'd write; others only parse."""


@contextlib.contextmanager
def cli_sandbox() -> Iterator[None]:
    def unreachable(*_: object, **__: object) -> NoReturn:
        raise DownloadError("no network for fuzzers")

    def unsupported(*_: object) -> NoReturn:
        raise UsageError("no cloud storage for fuzzers")

    with contextlib.ExitStack() as stack:
        here = stack.enter_context(folder())
        write_dataset(here / "in", {"train": random_pair(4, 3, 2), "test": random_pair(2, 3, 2)})
        environment = {"HOME": str(here), "XDG_CACHE_HOME": str(here), "COLUMNS": "80"}
        environment |= {"MNIST_SPARK_CACHE": str(here / "cache")}
        for patch in (
            mock.patch.dict(os.environ, environment),
            *(
                mock.patch(f"mnist_spark.cli.{name}.run", return_value=None)
                for name in cli.COMMANDS
                if name not in REAL
            ),
            mock.patch("mnist_spark.ingestion.download", unreachable),
            mock.patch("mnist_spark.storage.stores.locate", unsupported),
            mock.patch.object(inventory, "verify", return_value=()),
            mock.patch.object(inventory, "clean", return_value=inventory.Cleaned((), ())),
        ):
            stack.enter_context(patch)
        yield


def run_cli(data: bytes) -> None:
    """Arguments, separated by zero bytes."""
    argv = [os.fsdecode(arg) for arg in data.split(b"\0")]
    # As a terminal's: strict for what is printed, lenient for errors.
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = cli.main(argv)
        except SystemExit as exit_:  # argparse's own way out
            code = exit_.code
        out.flush()  # what was printed can be encoded
        err.flush()
    lines = err.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    assert code in (0, 1, 2)
    assert not code or lines[-1].startswith("mnist-spark")
    if not any(arg.startswith("--d") for arg in argv):  # --debug, or short for it
        assert len(lines) == (code != 0)
    if code:
        raise (UsageError if code == 2 else MnistSparkError)(lines[-1])


def cli_seeds() -> list[bytes]:
    lines = [
        "datasets",
        "inspect in/train-images.gz",
        "inspect in/dataset.toml --debug",
        "ingest --dataset in/dataset.toml --target t --split train --layout binary --ranges 3",
        "ingest --target db.t --writer spark --format parquet --master local[2] --report r.json",
        "ingest --target s3://bucket/t --source https://host/x?sig=y --cache c --force",
        "download --dataset in/dataset.toml --to d --split all",
        "sample d --train 10 --test 10 --seed 1",
        "cache list --cache c",
        "cache clean --all",
        "refresh --config conf/refresh.toml",
        "verify t",
        "preview t -o p.png",
        "--version",
        "ingest --help",
    ]
    return [b"\0".join(arg.encode() for arg in line.split()) for line in lines]


ARGUMENTS = (
    *(b"\0", b"--", b"-", b"=", b"@", b"~", b"~nobody/x", b"/", b"..", b"file://", b"\xff"),
    *(b"\xc2\xb2", b"\xe2\x82\x82", b"-1", b"9" * 5000, b"x" * 300, b"x" * 5000, b"\n", b"\x1b[2J"),
    *(b"http://[::1", b"http://h:99999/", b"az://", b"dbfs:/", b".toml", b"%s", b"{}", b"`"),
)


TARGETS = {
    "header": Target(run_header, header_seeds, 3 * MB),
    "decode": Target(run_decode, decode_seeds, 64 * MB, sandbox=folder),
    "inflate": Target(run_inflate, inflate_seeds, 4 * MB),
    "ranges": Target(run_ranges, ranges_seeds, MAX_RANGES * 400),
    "catalog": Target(run_catalog, catalog_seeds, 8 * MB, TOML),
    "refresh": Target(run_refresh, refresh_seeds, 8 * MB, TOML),
    "origin": Target(run_origin, origin_seeds, 1 * MB, (b"[" * 2000, b"null", b'{"a":')),
    "cli": Target(run_cli, cli_seeds, 8 * MB, ARGUMENTS, cli_sandbox),
}
