"""What a table says of itself, and whether it may be overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from mnist_spark._version import __version__
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.catalog.schema import Layout
from mnist_spark.download.split import PreparedSplit
from mnist_spark.errors import TableError
from mnist_spark.storage.files import names_in
from mnist_spark.table.target import Target

PREFIX = "mnist_spark."
DATASET = PREFIX + "dataset"
LAYOUT = PREFIX + "layout"


Properties: TypeAlias = Mapping[str, str]
"""All properties of a table that is already there."""


def table_properties(
    dataset: Dataset, layout: Layout, splits: Sequence[PreparedSplit]
) -> dict[str, str]:
    """What identifies the table's content, and the columns worth statistics.

    Without ``delta.dataSkippingStatsColumns`` Delta collects statistics of the first 32 columns:
    all of them pixels at the image's upper rim.
    """
    properties = {
        DATASET: dataset.name,
        LAYOUT: str(layout),
        PREFIX + "version": __version__,
        PREFIX + "generated": str(dataset.generated).lower(),
        "delta.dataSkippingStatsColumns": "label,index",
    }
    for split in splits:
        for role, payload in zip(("images", "labels"), split.payloads, strict=True):
            source = f"{PREFIX}source.{split.name}.{role}"
            properties[f"{source}.sha256"] = payload.sha256
            # With it the IDX header, and so the whole payload, can be rebuilt from the table.
            properties[f"{source}.shape"] = "x".join(map(str, payload.header.shape))
    return properties


def source_digests(properties: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of the payloads that a table was made from, by ``split.role``."""
    start, end = f"{PREFIX}source.", ".sha256"
    return {
        key[len(start) : -len(end)]: value
        for key, value in properties.items()
        if key.startswith(start) and key.endswith(end)
    }


def description(dataset: Dataset) -> str:
    """The table's description."""
    made = "Generated sample, not the real dataset. " if dataset.generated else ""
    return f"{made}{dataset.title}: {dataset.description} Licence: {dataset.licence}."


def is_same(existing: Properties | None, dataset: Dataset, layout: Layout) -> bool:
    """Whether the table's rows are of this dataset and layout."""
    wanted = {DATASET: dataset.name, LAYOUT: str(layout)}
    return existing is not None and wanted.items() <= existing.items()


def check_replaceable(
    target: Target, existing: Properties | None, dataset: Dataset, layout: Layout, *, force: bool
) -> None:
    """Refuses to overwrite what isn't a table of the same dataset and layout.

    Raises:
        TableError: the table isn't ours, or of another dataset or layout, and no ``force``.
    """
    if existing is None or force or is_same(existing, dataset, layout):
        return
    raise TableError(
        "the target is another table",
        file=target,
        expected=f"dataset {dataset.name}, layout {layout}",
        got=f"dataset {existing[DATASET]}, layout {existing.get(LAYOUT)}"
        if DATASET in existing
        else "a table that mnist-spark did not make",
        hint="Choose another target, or overwrite it with --force",
    )


def no_delta_table(file: object, got: object = None) -> TableError:
    """The error if the target is something else."""
    hint = "Choose another target"
    return TableError("the target is not a Delta table", file=file, got=got, hint=hint)


def strange_names(folder: str | Path) -> list[str]:
    """What is in the folder, less what a run that was killed before its commit leaves."""
    names = names_in(str(folder))
    return sorted(name for name in names if not name.startswith(("split=", "_", ".")))
