"""Some splits of a dataset, and where their files come from."""

from __future__ import annotations

from dataclasses import dataclass

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download.inputs import Inputs


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
