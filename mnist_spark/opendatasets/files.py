"""A dataset's published files: their paths, copies of them, or a folder that has them on demand."""

from __future__ import annotations

import gzip
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mnist_spark.catalog.dataset import File
from mnist_spark.download.check import check_file
from mnist_spark.download.fetch import fetch
from mnist_spark.download.file import Fetched
from mnist_spark.errors import MnistSparkError, os_errors
from mnist_spark.opendatasets.choice import Choice
from mnist_spark.opendatasets.mount import Mount, temporary_folder
from mnist_spark.storage.files import replacing


@dataclass(frozen=True, repr=False)
class FileDataset(Choice):
    """The published files of some splits: images and labels of each. Lazy and immutable."""

    def __repr__(self) -> str:
        # Not the source, which may have a token in it.
        return f"<FileDataset {self.dataset.name}: {', '.join(self.to_path())}>"

    def _repr_html_(self) -> str:
        """What notebooks show. Nothing is downloaded."""
        return self._card({"Files": ", ".join(self.to_path())})

    def to_path(self) -> list[str]:
        """The files' paths within the dataset, ``/train-images-idx3-ubyte.gz`` …, from the catalog.

        Nothing is downloaded.
        """
        return [f"/{file.name}" for file in self._files()]

    def download(
        self, target_path: str | os.PathLike[str] | None = None, overwrite: bool = False
    ) -> list[str]:
        """Copies the files, checked by size and digest, into a folder.

        Each file is put in place whole.

        Args:
            target_path: made if need be; None: a new folder for temporary files.
            overwrite: whether files of these names may be replaced.

        Returns:
            absolute paths in the order of :meth:`to_path`.

        Raises:
            MnistSparkError: a file exists and ``overwrite`` is False (nothing is written then), or
                the folder can't be written.
            DownloadError: no mirror gave a file.
        """
        folder = Path(target_path or temporary_folder()).expanduser().absolute()
        paths = [folder / file.name for file in self._files()]
        existing = [path for path in paths if os.path.lexists(path)]
        if existing and not overwrite:
            raise MnistSparkError(
                "the file exists already",
                dataset=self.dataset.name,
                file=", ".join(map(str, existing)),
                hint="overwrite=True replaces it",
            )
        fetched = fetch(self.dataset, self.selected, self.inputs)
        for file, path in zip(self._files(), paths, strict=True):
            _copy(fetched[file.name], file, path)
        return [str(path) for path in paths]

    def mount(self, mount_point: str | os.PathLike[str] | None = None) -> Mount:
        """A folder, read-only, in which a file is downloaded when it is first read. Linux only.

        Args:
            mount_point: an empty folder, made if need be; None: a new one for temporary files.

        Returns:
            a context manager, mounted within its ``with`` block or from ``start()`` to ``stop()``.
        """
        return Mount(self, mount_point)

    def _files(self) -> list[File]:
        return [file for split in self.selected for file in split.files]


def _copy(fetched: Fetched, file: File, path: Path) -> None:
    """Copies a file to a path, at once and only if the copy is right."""
    with os_errors(MnistSparkError, "cannot write the file", file=path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as target:
            # A source may have it in the other form: its name shall be true all the same.
            same = fetched.file.gzipped == file.gzipped
            if same:
                with open(fetched.path, "rb") as source:
                    shutil.copyfileobj(source, target, 1 << 20)
            else:
                _convert(fetched.path, target, compress=file.gzipped)
            target.flush()
            expected = fetched.file if same else File(file.name, file.payload_size)
            check_file(Path(target.name), expected)


def _convert(path: Path, target: IO[bytes], *, compress: bool) -> None:
    if compress:
        with open(path, "rb") as source, gzip.GzipFile("", "wb", fileobj=target) as packed:
            shutil.copyfileobj(source, packed)
    else:
        with gzip.open(path) as unpacked:
            shutil.copyfileobj(unpacked, target)
