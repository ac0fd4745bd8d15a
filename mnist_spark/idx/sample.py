"""Generated digits in the files and format of MNIST, for tests, demonstrations and benchmarks.

The payloads depend on the seed and nothing else. The bytes of the gzip files also depend on the
zlib that Python was built with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mnist_spark import progress as bars
from mnist_spark._version import __version__
from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import CatalogError, MnistSparkError, UsageError
from mnist_spark.idx.digits import CLASSES, SIDE, Bytes, blocks
from mnist_spark.idx.format import ELEMENT_TYPES, Header
from mnist_spark.storage.files import replacing

MAX_RECORDS = 2**32 - 1
"""The most records that an IDX header can count."""

_GZIP_LEVEL = 1
_SPLITS = {"train": "train", "test": "t10k"}  # names → how MNIST's files begin


def write_sample(
    folder: str | os.PathLike[str],
    *,
    train: int = 60_000,
    test: int = 10_000,
    seed: int = 0,
    gzip: bool = True,
    progress: bool | None = None,
) -> catalog.Dataset:
    """Writes four IDX files of generated digits, and ``dataset.toml`` that describes them.

    The same seed gives the same records: the first 100 of 1000 are those of 100, and the test
    split doesn't depend on ``train``. Every class is among the first ten records of a split.
    ``dataset.toml`` is written last: where it is, the files are complete. An earlier sample in the
    folder is replaced.

    Args:
        folder: made if it isn't there; files of other names in it are left alone.
        train: records of the train split, 1 to 2³² - 1.
        test: records of the test split, likewise.
        seed: 0 or more.
        gzip: whether to write ``.gz`` files; otherwise payloads, 785 bytes per record.
        progress: whether to show a bar; None shows one in terminals and notebooks.

    Returns:
        the dataset as ``catalog.find(str(folder / "dataset.toml"))`` returns it.

    Raises:
        UsageError: a count or the seed out of range, or files of these names that aren't a sample.
        MnistSparkError: a file can't be written.
    """
    counts = (train, test)
    for split, count in zip(_SPLITS, counts, strict=True):
        if not 1 <= count <= MAX_RECORDS:
            raise UsageError(f"records of {split}", expected=f"1 to {MAX_RECORDS:,}", got=count)
    if seed < 0:
        raise UsageError("seed", expected="0 or more", got=seed)
    folder = Path(folder)
    description = folder / "dataset.toml"
    splits: list[catalog.Split] = []
    try:
        stale = _files_to_remove(folder, gzip)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            # The last that is entered is the first in place: this one comes after the others.
            described = stack.enter_context(replacing(description))
            bar = stack.enter_context(
                bars.bar("generating", train + test, "records", shown=progress)
            )
            for number, (split, count) in enumerate(zip(_SPLITS, counts, strict=True)):
                images, labels = (
                    _Writer(stack, folder / name, Header(ELEMENT_TYPES[0x08], shape))
                    for name, shape in zip(
                        _names(split, gzip), ((count, SIDE, SIDE), (count,)), strict=True
                    )
                )
                _write_split(images, labels, blocks(count, seed, number), bar.update)
                splits.append(catalog.Split(split, count, images.finish(), labels.finish()))
            described.write(_describe(seed, tuple(splits)).encode())
            # Between two samples, the folder has no description.
            for path in (description, *stale):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise MnistSparkError("cannot write the sample", file=folder, got=error) from error
    return catalog.find(str(description))


def _names(split: str, gzip: bool) -> tuple[str, str]:
    """The files of a split, as MNIST's are called: images, labels."""
    suffix = ".gz" if gzip else ""
    prefix = _SPLITS[split]
    return f"{prefix}-images-idx3-ubyte{suffix}", f"{prefix}-labels-idx1-ubyte{suffix}"


def _files_to_remove(folder: Path, gzip: bool) -> list[Path]:
    """An earlier sample's files that the new one won't overwrite.

    Raises:
        UsageError: the folder has files of these names that no sample put there: perhaps the
            real MNIST.
    """
    description = folder / "dataset.toml"
    earlier: set[str] = set()
    with contextlib.suppress(CatalogError):
        dataset = catalog.find(str(description))
        if dataset.generated:
            earlier = {file.name for split in dataset.splits for file in split.files}
            earlier.add(description.name)
    wanted = {name for split in _SPLITS for name in _names(split, gzip)} | {description.name}
    for path in sorted(folder / name for name in wanted - earlier):
        if path.exists():
            raise UsageError(
                "a file that isn't a sample's would be overwritten",
                file=path,
                hint="Choose another folder, or remove it",
            )
    other = {name for split in _SPLITS for name in _names(split, not gzip)}
    return sorted(folder / name for name in earlier & other)


def _describe(seed: int, splits: tuple[catalog.Split, ...]) -> str:
    """The text of ``dataset.toml``."""
    dataset = catalog.Dataset(
        name="sample",
        title="Generated digits",
        description=f"Drawn by a program in MNIST's format, 28×28 grey pixels; seed {seed}.",
        homepage="",
        licence="CC0-1.0 (generated; nobody's handwriting)",
        citation=f"mnist-spark {__version__}: mnist-spark sample --seed {seed}",
        digests="SHA-256 computed while the files were written. Those of the payloads follow from"
        f" the seed; those of gzip files also from zlib, here {zlib.ZLIB_RUNTIME_VERSION}.",
        image_shape=(SIDE, SIDE),
        classes=tuple(str(digit) for digit in range(CLASSES)),
        mirrors=(".",),
        splits=splits,
        generated=True,
    )
    return catalog.describe(dataset)


def _write_split(
    images: _Writer,
    labels: _Writer,
    records: Iterable[tuple[Bytes, Bytes]],
    done: Callable[[float], object],
) -> None:
    """Writes blocks in a second thread, each while the next is generated."""

    def write(block: tuple[Bytes, Bytes] | None) -> None:
        if block is not None:
            images.write(block[0].data.cast("B"))
            labels.write(block[1].data)
            done(len(block[1]))

    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write, None)
        for block in records:
            # One block at most waits, so memory is bounded; a failed write is raised here.
            written.result()
            written = pool.submit(write, block)
        written.result()


class _Writer:
    """An IDX file under a temporary name, and its catalog entry, digested on the way."""

    def __init__(self, stack: contextlib.ExitStack, path: Path, header: Header) -> None:
        self.path = path
        self._stream = stack.enter_context(replacing(path))
        # Format 31 is gzip with an empty name and no time.
        gzipped = path.suffix == ".gz"
        self._gzip = zlib.compressobj(_GZIP_LEVEL, wbits=31) if gzipped else None
        self._payload, self._file = hashlib.sha256(), hashlib.sha256()
        self._payload_size = self._size = 0
        self.write(header.pack())

    def write(self, data: bytes | memoryview) -> None:
        """Appends a part of the payload."""
        self._payload.update(data)
        self._payload_size += len(data)
        if self._gzip is None:
            self._stream.write(data)
        else:
            self._append(self._gzip.compress(data))

    def finish(self) -> catalog.File:
        """Completes the file, still under its temporary name, and describes it."""
        if self._gzip is not None:
            self._append(self._gzip.flush())
        payload = self._payload_size, self._payload.hexdigest()
        size, sha256 = payload if self._gzip is None else (self._size, self._file.hexdigest())
        return catalog.File(
            self.path.name, payload[0], size=size, sha256=sha256, payload_sha256=payload[1]
        )

    def _append(self, compressed: bytes) -> None:
        self._stream.write(compressed)
        self._file.update(compressed)
        self._size += len(compressed)
