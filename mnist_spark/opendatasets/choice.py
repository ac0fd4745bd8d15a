"""Some splits of a dataset, where their files come from, and the card that notebooks show of them.

Nothing is downloaded for a card. Its strip of images is made of the files that are already here, in
a source folder or the cache, without matplotlib.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import cache as caching
from mnist_spark.download.inputs import Inputs, parse_source
from mnist_spark.errors import MnistSparkError
from mnist_spark.idx import format as idx
from mnist_spark.idx.read import open_content
from mnist_spark.opendatasets.png import strip_url
from mnist_spark.storage.urls import shown

_STRIP_IMAGES = 20
_STRIP_BYTES = 64 << 20
"""How far into a file a card reads at most: gzip has to be read from its start."""

# No colours of its own but greys that show on white and on black.
_CARD = (
    "max-width:640px;padding:10px 14px;border:1px solid rgba(128,128,128,.45);border-radius:6px;"
    "line-height:1.5"
)
_IMAGE = "display:block;width:100%;margin:8px 0;border-radius:4px"
_KEY = "padding:0 12px 0 0;text-align:left;vertical-align:top;opacity:.7;font-weight:normal"
_VALUE = "padding:0;text-align:left"


@dataclass(frozen=True, repr=False)
class Choice:
    """What has been chosen of a dataset. Nothing is downloaded yet.

    Attributes:
        splits: names, in the order of rows and files.
        source: folder or base URL instead of the catalog's mirrors.
        cache: cache folder; None: ``$MNIST_SPARK_CACHE`` or the platform's.
    """

    dataset: catalog.Dataset
    splits: tuple[str, ...]
    source: str | None = None
    cache: str | None = None

    @property
    def selected(self) -> tuple[catalog.Split, ...]:
        """The chosen splits as the catalog describes them."""
        return self.dataset.select(self.splits)

    @property
    def inputs(self) -> Inputs:
        """Where the files come from, and the cache."""
        return Inputs.chosen(self.source, self.cache)

    def _card(self, facts: Mapping[str, str], records: npt.NDArray[np.int64] | None = None) -> str:
        """What notebooks show of it, as HTML, everything escaped.

        Args:
            facts: further lines.
            records: whose first make the strip, counted through the splits; None: all.
        """
        dataset, splits = self.dataset, self.selected
        lines = {
            "Splits": ", ".join(f"{split.name} {split.records:,}" for split in splits),
            **facts,
            "Classes": _abridged(dataset.classes),
            "Licence": dataset.licence,
            "Source": _origin(self),
        }
        title = escape(dataset.title)
        if dataset.homepage.startswith(("https://", "http://")):
            title = f'<a href="{escape(dataset.homepage)}" style="color:inherit">{title}</a>'
        if dataset.generated:
            title += " (generated, not the real dataset)"
        rows = "".join(
            f'<tr style="background:none"><th style="{_KEY}">{escape(key)}</th>'
            f'<td style="{_VALUE}">{escape(value)}</td></tr>'
            for key, value in lines.items()
        )
        if records is None:
            records = np.arange(sum(split.records for split in splits))
        return (
            f'<div style="{_CARD}"><b>{title}</b> <code>{type(self).__name__}</code><br>'
            f"{escape(dataset.description)}{_strip(self, records)}"
            f'<table style="border:none;margin:0;font-size:inherit">{rows}</table></div>'
        )


def _strip(choice: Choice, records: npt.NDArray[np.int64]) -> str:
    """An ``img`` of the first records, or why there is none."""
    if not len(records):
        return "<p><i>No records.</i></p>"
    dataset, first = choice.dataset, 0
    for split in choice.selected:
        chosen = records[(records >= first) & (records < first + split.records)] - first
        if len(chosen):
            break
        first += split.records
    chosen = chosen[:_STRIP_IMAGES]
    if (int(chosen[-1]) + 1) * math.prod(dataset.image_shape) > _STRIP_BYTES:
        return ""
    paths = [_find(file, choice) for file in split.files]
    if None in paths:
        return "<p><i>The files are not here yet; a card does not download them.</i></p>"
    try:
        images, labels = (_read(Path(path), chosen) for path in paths if path is not None)
        rows, cols = dataset.image_shape
        shown = images.reshape(len(chosen), rows, cols)
        if split.images.transposed:
            shown = images.reshape(len(chosen), cols, rows).swapaxes(1, 2)
        # A label may be several numbers, the class first.
        names = [dataset.classes[label - dataset.first_label] for label in labels[:, 0].tolist()]
    except (OSError, EOFError, ValueError, IndexError, zlib.error, MnistSparkError):
        # A card must not fail; reading the dataset says what is wrong.
        return "<p><i>The files cannot be read.</i></p>"
    alt = escape(f"{split.name}: {', '.join(names)}")
    return f'<img src="{strip_url(shown)}" alt="{alt}" title="{alt}" style="{_IMAGE}">'


def _find(file: catalog.File, choice: Choice) -> Path | None:
    """The file if it is on this machine: in a folder that is a source, else in the cache."""
    try:
        sources = [choice.source] if choice.source else choice.dataset.mirrors
        folders = [place for each in sources if isinstance(place := parse_source(each), Path)]
        candidates = [folder / file.name for folder in folders]
        candidates.append(_cached(file, choice))
        return next((path for path in candidates if path.is_file()), None)
    except (OSError, RuntimeError, ValueError, MnistSparkError):
        return None


def _cached(file: catalog.File, choice: Choice) -> Path:
    return caching.published_path(choice.inputs.cache, choice.dataset.name, file)


def _read(path: Path, records: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Some records of a file as it is published, shape (records, elements)."""
    with open_content(path) as stream:
        header = idx.read_header(stream, path)
        data = stream.read((int(records[-1]) + 1) * header.record_size)
    elements = np.frombuffer(data, header.dtype).reshape(-1, math.prod(header.record_shape))
    return elements[records].astype(np.uint8)


def _origin(choice: Choice) -> str:
    """Where the bytes come from, without credentials."""
    if choice.source is not None:
        return shown(choice.source)
    try:
        path = _cached(choice.selected[0].images, choice)
        origin = caching.read_origin(path)
    except MnistSparkError:
        origin = None
    if origin is not None:
        return f"{origin.url.rpartition('/')[0]}/, checked, in {path.parent}"
    first, *others = choice.dataset.mirrors
    more = f", or {len(others)} more" if others else ""
    return shown(first) + more


def _abridged(classes: Sequence[str]) -> str:
    return ", ".join(classes if len(classes) <= 12 else [*classes[:6], "…", *classes[-5:]])
