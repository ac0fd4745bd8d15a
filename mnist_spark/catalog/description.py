"""What a description of a dataset says: files, sizes, digests, shapes, classes, mirrors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mnist_spark.errors import UsageError, nearest

ALL_SPLITS = "all"


@dataclass(frozen=True)
class File:
    """One published IDX file, gzipped if its name ends in ``.gz``.

    Attributes:
        name: the file's name, without folders.
        payload_size: bytes of the decompressed IDX file, header included.
        size: bytes of the published file; None if not published.
        sha256: hex SHA-256 of the published file; None if not published.
        md5: hex MD5 of the published file; used only where ``sha256`` is None.
        payload_sha256: hex SHA-256 of the decompressed IDX file; None if not published.
        transposed: the file has its images column by column; they are set right on unpacking.
    """

    name: str
    payload_size: int
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    payload_sha256: str | None = None
    transposed: bool = False

    @property
    def gzipped(self) -> bool:
        """Whether the published file is gzip and the payload what is within it."""
        return self.name.endswith(".gz")


@dataclass(frozen=True)
class Archive:
    """A zip archive within which a dataset's files are published.

    Its digest is what tells one version of its members from another, so there is one.

    Attributes:
        name: the archive's name, without folders.
        size: bytes of the archive.
        folder: what stands before a file's name in the archive, ending in ``/``, or nothing.
        sha256, md5: hex digests of the archive, of which there is at least one.
    """

    name: str
    size: int
    folder: str = ""
    sha256: str | None = None
    md5: str | None = None

    @property
    def file(self) -> File:
        """The archive as a file to be downloaded and checked."""
        return File(self.name, self.size, self.size, self.sha256, self.md5)

    @property
    def digest(self) -> str:
        """What says which version of the archive this is."""
        return self.sha256 or self.md5 or ""


@dataclass(frozen=True)
class Split:
    """Images and labels that belong together, record by record."""

    name: str
    records: int
    images: File
    labels: File

    @property
    def files(self) -> tuple[File, File]:
        """Images, labels."""
        return self.images, self.labels


@dataclass(frozen=True)
class Dataset:
    """A dataset of the catalog.

    Attributes:
        image_shape: (rows, columns) in pixels.
        classes: class names, in the order of their labels.
        mirrors: base URLs or folders, each ending in ``/``, in the order of trial.
        splits: in the order of the dataset ("all" is train followed by test).
        digests: where the digests come from, and which are missing.
        generated: True if the files were made by ``mnist-spark sample``.
        archive: what the mirrors have instead of the files themselves.
        first_label: the label of the first class.
        extra_labels: name and comment of each further column of label files that have rank 2 (and
            32-bit integers), whose first is the class. Empty for those of rank 1.
        unconfirmed: what of all this no public source confirms; told with errors.
    """

    name: str
    title: str
    description: str
    homepage: str
    licence: str
    citation: str
    digests: str
    image_shape: tuple[int, int]
    classes: tuple[str, ...]
    mirrors: tuple[str, ...]
    splits: tuple[Split, ...]
    generated: bool = False
    archive: Archive | None = None
    first_label: int = 0
    extra_labels: tuple[tuple[str, str], ...] = ()
    unconfirmed: str | None = None

    def select(self, wanted: str | Iterable[str] = ALL_SPLITS) -> tuple[Split, ...]:
        """The splits named by a filter: ``all``, one name, or several.

        Returns:
            the splits in the dataset's own order, each once.

        Raises:
            UsageError: a name that the dataset doesn't have; lists the valid ones.
        """
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        valid = [split.name for split in self.splits]
        for name in names:
            if name not in (ALL_SPLITS, *valid):
                raise UsageError(
                    "unknown split",
                    dataset=self.name,
                    expected=f"one of {', '.join([ALL_SPLITS, *valid])}",
                    got=repr(name),
                    hint=nearest(name, [ALL_SPLITS, *valid]) or None,
                )
        if not names:
            raise UsageError("no split chosen", dataset=self.name, expected=f"some of {valid}")
        return tuple(s for s in self.splits if ALL_SPLITS in names or s.name in names)
