"""What a table should hold: what the catalog says, and what its own properties say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.dataset import Dataset
from mnist_spark.catalog.schema import Layout, TableSchema, label_type, table_schema
from mnist_spark.errors import TableError
from mnist_spark.idx.format import Header
from mnist_spark.table.properties import DATASET, LAYOUT, PREFIX
from mnist_spark.table.reader import TableReader
from mnist_spark.table.target import Target
from mnist_spark.verify.findings import Findings, Problem, What

ROLES = ("images", "labels")

_SOURCE = re.compile(re.escape(PREFIX) + r"source\.(.+)\.((?:images|labels)\.(?:sha256|shape))")
_IMAGES = re.compile(r"\d{1,10}x[1-9]\d{0,5}x[1-9]\d{0,5}")  # as table_properties writes it
_UBYTE = np.dtype("u1")


@dataclass(frozen=True)
class ExpectedSplit:
    """A split's two payloads.

    Attributes:
        headers: by role, ``images`` and ``labels``.
        sha256: by role.
    """

    name: str
    headers: Mapping[str, Header]
    sha256: Mapping[str, str]

    @property
    def records(self) -> int:
        """How many records the split has."""
        return self.headers["images"].records


@dataclass(frozen=True)
class Expected:
    """What the table should hold.

    Attributes:
        name: of the dataset.
        dataset: None if it is in no catalog: then the table's properties are all that is known.
        schema: the columns that the table should have.
        classes: the labels that there may be.
    """

    name: str
    dataset: Dataset | None
    schema: TableSchema
    classes: range
    splits: tuple[ExpectedSplit, ...]


def expect(target: Target, table: TableReader, dataset: str | None, findings: Findings) -> Expected:
    """Reads the table's properties, and compares them with the catalog.

    Args:
        dataset: name in the catalog or TOML file; default: what the properties name.

    Raises:
        TableError: the table doesn't say what it holds, and no dataset was named.
        MnistSparkError: the dataset can't be found.
    """
    own = {key: value for key, value in table.properties.items() if key.startswith(PREFIX)}
    found = catalog.find(dataset) if dataset is not None else _published(own)
    if not own:
        findings.notes.append("the table has no properties of mnist-spark")
    elif own.get(DATASET) is None or (found is not None and own[DATASET] != found.name):
        _property(findings, None, DATASET, found.name if found else "a name", own.get(DATASET))
    layout = own.get(LAYOUT)
    if own and layout not in set(Layout):
        _property(findings, None, LAYOUT, f"one of {', '.join(Layout)}", layout)

    told: dict[str, dict[str, str]] = {}
    for key, value in own.items():
        if match := _SOURCE.fullmatch(key):
            told.setdefault(match[1], {})[match[2]] = value
    if found is not None:
        splits = _catalog_splits(found, told, findings, complete=not own)
        image_shape = found.image_shape
    else:
        splits = [_told_split(name, told[name]) for name in sorted(told) if _is_whole(told[name])]
        rows, cols = splits[0].headers["images"].record_shape if splits else (0, 0)
        image_shape = rows, cols
    if not splits:
        raise TableError(
            "the table doesn't say what it holds",
            file=target,
            hint="Name the dataset that it should hold with --dataset",
        )
    extra_labels = () if found is None else found.extra_labels
    schema = table_schema(
        Layout(layout) if layout in set(Layout) else _layout(table.schema),
        image_shape,
        pixels=_UBYTE,
        labels=label_type(extra_labels),
        extra_labels=extra_labels,
    )
    first = 0 if found is None else found.first_label
    classes = range(first, first + (256 if found is None else len(found.classes)))
    name = found.name if found is not None else own.get(DATASET, "")
    return Expected(name, found, schema, classes, tuple(splits))


def _published(own: Mapping[str, str]) -> Dataset | None:
    """The catalog's dataset of that name, unless the files were generated under it."""
    if own.get(PREFIX + "generated") == "true":
        return None
    return catalog.datasets().get(own.get(DATASET, ""))


def _catalog_splits(
    dataset: Dataset,
    told: Mapping[str, Mapping[str, str]],
    findings: Findings,
    *,
    complete: bool,
) -> list[ExpectedSplit]:
    """Those that the properties tell of, or all, compared with the catalog."""
    known = {split.name: split for split in dataset.splits}
    for name in sorted(set(told) - set(known)):
        _property(findings, name, f"{PREFIX}source.{name}", f"one of {', '.join(known)}", name)
    if not told and not complete:
        _property(findings, None, f"{PREFIX}source", "the source's digests", None)
    splits = []
    for name, split in known.items():
        if told and name not in told:
            continue  # a table of some of the dataset's splits
        sha256 = {}
        for role, file in zip(ROLES, split.files, strict=True):
            recorded = told.get(name, {}).get(f"{role}.sha256")
            if told and recorded != (file.payload_sha256 or recorded or ""):
                key = f"{PREFIX}source.{name}.{role}.sha256"
                _property(findings, name, key, file.payload_sha256 or "a digest", recorded)
            if digest := file.payload_sha256 or recorded:
                sha256[role] = digest
            else:
                findings.notes.append(f"{name}: nobody knows the SHA-256 of the {role}")
        headers = _headers(split.records, *dataset.image_shape, dataset.extra_labels)
        splits.append(ExpectedSplit(name, headers, sha256))
    return splits


def _is_whole(told: Mapping[str, str]) -> bool:
    return (
        _IMAGES.fullmatch(told.get("images.shape", "")) is not None
        and "images.sha256" in told
        and "labels.sha256" in told
        and "x" not in told.get("labels.shape", "")  # whose columns only its description names
    )


def _told_split(name: str, told: Mapping[str, str]) -> ExpectedSplit:
    """From properties alone."""
    records, rows, cols = map(int, told["images.shape"].split("x"))
    sha256 = {role: told[f"{role}.sha256"] for role in ROLES}
    return ExpectedSplit(name, _headers(records, rows, cols), sha256)


def _headers(
    records: int, rows: int, cols: int, extra_labels: tuple[tuple[str, str], ...] = ()
) -> dict[str, Header]:
    """Tables of the catalog's kind hold unsigned bytes, and integers where labels have columns."""
    label_shape = (records, 1 + len(extra_labels)) if extra_labels else (records,)
    return {
        "images": Header(_UBYTE, (records, rows, cols)),
        "labels": Header(label_type(extra_labels), label_shape),
    }


def _layout(schema: pa.Schema) -> Layout:
    """What the columns look like, for a table that doesn't say it."""
    if schema.get_field_index("image") < 0:
        return Layout.COLUMNS
    kind = schema.field("image").type
    if pa.types.is_struct(kind):
        return Layout.IMAGE
    return Layout.ARRAY if hasattr(kind, "value_field") else Layout.BINARY


def _property(
    findings: Findings, split: str | None, key: str, expected: str, got: str | None
) -> None:
    findings.add(Problem(What.PROPERTY, split, None, key, expected, got or "none"))
