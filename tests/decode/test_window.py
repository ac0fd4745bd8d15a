"""Rows in any order and layout get to their places; the first that isn't right is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from mnist_spark.decode.window import RecordWindow
from mnist_spark.errors import TableError
from mnist_spark.ranges.plan import RecordRange

RECORDS = RecordRange("train", 10, 15)
IMAGES = np.array([[1, 2], [3, 4], [5, 6], [7, 255], [0, 9]], np.uint8)
LABELS = [0, 1, 2, 3, 9]
ORDER = list(range(5))

Images = npt.NDArray[np.uint8]

STRUCT = pa.struct(
    [
        *((name, pa.int32()) for name in ("height", "width", "nChannels", "mode")),
        ("data", pa.binary()),
    ]
)


def structs(images: Images, **other: Any) -> dict[str, pa.Array]:
    """As Spark's ImageSchema has them."""
    fields = {"height": 1, "width": 2, "nChannels": 1, "mode": 0} | other
    return {"image": pa.array([fields | {"data": bytes(image)} for image in images], STRUCT)}


def lists(kind: pa.DataType) -> Callable[[Images], dict[str, pa.Array]]:
    return lambda images: {"image": pa.array(images.tolist(), kind)}


def binaries(images: Images) -> dict[str, pa.Array]:
    return {"image": pa.array([bytes(image) for image in images])}


KINDS: dict[str, Callable[[Images], dict[str, pa.Array]]] = {
    "columns": lambda images: {
        "0": pa.array(images[:, 0], pa.uint8()),
        "1": pa.array(images[:, 1], pa.int16()).dictionary_encode(),
    },
    "lists": lists(pa.list_(pa.int16())),
    "large lists": lists(pa.large_list(pa.uint8())),
    "bytes": binaries,
    "large bytes": lambda images: {"image": binaries(images)["image"].cast(pa.large_binary())},
    "dictionary": lambda images: {"image": binaries(images)["image"].dictionary_encode()},
    "structs": structs,
}


def window(pixels: tuple[str, ...] = ("image",)) -> RecordWindow:
    return RecordWindow(RECORDS, (1, 2), pixels, classes=range(10))


def batch(
    columns: dict[str, pa.Array], index: list[int | None], labels: list[int | None]
) -> pa.RecordBatch:
    rest = {"label": pa.array(labels, pa.int16()), "index": pa.array(index, pa.int32())}
    return pa.RecordBatch.from_pydict(columns | rest)


def filled(batch: pa.RecordBatch) -> RecordWindow:
    found = window(("0", "1") if "0" in batch.schema.names else ("image",))
    found.fill([batch])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [ORDER, ORDER[::-1], [3, 0, 4, 1, 2]])
def test_every_row_gets_to_its_place(kind, order):
    columns = KINDS[kind](IMAGES[order])
    found = filled(batch(columns, [10 + i for i in order], [LABELS[i] for i in order]))
    assert found.images.tolist() == IMAGES.tolist()
    assert found.labels.tolist() == [[label] for label in LABELS]
    assert found.rows.tolist() == [1] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_other_records_and_parts_of_batches(kind):
    """Sliced, so that no buffer begins with its array; then some of it is no record of these."""
    images = np.concatenate([IMAGES[:2] + 90, IMAGES[[4, 4, 1]], IMAGES[:1] + 80])
    index, labels = [97, 98, 14, 9, 11, 15], [0, 0, 9, 7, 1, 7]
    found = filled(batch(KINDS[kind](images), index, labels).slice(2))
    assert found.images.tolist() == [[0, 0], [3, 4], [0, 0], [0, 0], [0, 9]]
    assert found.labels.tolist() == [[0], [1], [0], [0], [9]]
    assert found.rows.tolist() == [0, 1, 0, 0, 1]
    nowhere = filled(batch(KINDS[kind](images), [0, 9, 15, 16, None, 99], [0] * 6))
    assert not nowhere.rows.any()
    assert not nowhere.images.any()


def test_rows_are_counted():
    found = window()
    first = batch(binaries(IMAGES[:3]), [12, 12, 10], [2, 2, 0])
    second = batch(binaries(IMAGES[:2]), [12, 11], [5, 1])
    found.fill([first, second])
    assert found.rows.tolist() == [1, 1, 3, 0, 0]
    assert found.labels[2] == 5, "the last one stays"


def test_more_rows_than_are_turned_at_a_time():
    images = np.random.default_rng(0).integers(0, 256, (1300, 2), np.uint8)
    found = RecordWindow(RecordRange("train", 0, 1300), (1, 2), ("0", "1"))
    found.put(batch(KINDS["columns"](images), list(range(1300)), [0] * 1300))
    assert (found.images == images).all()


def test_more_columns_of_labels():
    found = RecordWindow(RECORDS, (1, 2), ("image",), ("label", "b"), np.int32, range(3))
    columns = binaries(IMAGES) | {"b": pa.array([-5, 6, 7, 8, 1 << 20])}
    found.put(batch(columns, [10 + i for i in ORDER], [0, 1, 2, 1, 0]))
    assert found.labels.tolist() == [[0, -5], [1, 6], [2, 7], [1, 8], [0, 1 << 20]]


NULL = [None, [1, 2], [3, 4], [5, 6], [7, 8]]
PARTLY = [[1, 2], [3, 4], [5, 6], [7, None], [None, 8]]
WRONG: dict[str, tuple[dict[str, pa.Array], str]] = {
    "null image": ({"image": pa.array(NULL)}, r"null, column image .*\[10:11\].*a value$"),
    "null pixel": ({"image": pa.array(PARTLY)}, r"null, column image .*\[13:14\].*a value$"),
    "null in a column": (
        {"0": pa.array([1, 2, None, 3, 4]), "1": pa.array([1] * 5)},
        r"null, column 0 .*\[12:13\].*a value$",
    ),
    "short list": (
        {"image": pa.array([[1, 2], [1], [1, 2], [1, 2], [1, 2, 3]])},
        r"size of the image, column image .*\[11:12\].*expected 2, got 1$",
    ),
    "long bytes": (
        {"image": pa.array([b"12", b"12", b"123", b"12", b""])},
        r"size of the image, column image .*\[12:13\].*expected 2, got 3$",
    ),
    "height": (structs(IMAGES, height=2), r"column image.height .*expected 1, got 2$"),
    "width": (structs(IMAGES, width=1), r"column image.width .*expected 2, got 1$"),
    "channels": (structs(IMAGES, nChannels=3), r"column image.nChannels .*expected 1, got 3$"),
    "mode": (structs(IMAGES, mode=16), r"column image.mode .*\[10:11\].*expected 0, got 16$"),
    "no mode": (structs(IMAGES, mode=None), r"column image.mode .*expected 0, got -1$"),
    "large pixel": (
        {"image": pa.array([[1, 2], [1, 2], [1, 256], [1, 2], [-1, 2]])},
        r"pixel outside the bytes, column image\[1\] .*\[12:13\].*0 to 255, got 256$",
    ),
    "negative pixel": (
        {"0": pa.array([1, 2, 3, 255, 0]), "1": pa.array([0, 0, 0, 0, -1])},
        r"pixel outside the bytes, column 1 .*\[14:15\].*0 to 255, got -1$",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_first_row_that_is_wrong(case):
    columns, message = WRONG[case]
    with pytest.raises(TableError, match=message):
        filled(batch(columns, [10 + i for i in ORDER], LABELS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None, 1, 1, 1], r"null, column label .*\[11:12\].*a value$"),
        ([0, 1, 10, 1, 11], r"label outside the classes, .*\[12:13\].*expected 0 to 9, got 10$"),
        ([0, 1, 2, -1, 1], r"label outside the classes, .*\[13:14\].*expected 0 to 9, got -1$"),
    ],
)
def test_labels_that_are_wrong(labels, message):
    with pytest.raises(TableError, match=message):
        filled(batch(binaries(IMAGES), [10 + i for i in ORDER], labels))


@pytest.mark.parametrize(
    ("index", "inside"),
    [
        ([10, 11, 12], True),
        ([12, 13, 14], True),
        ([13, 14, 15], False),
        ([9, 10, 11], False),
        ([10, 12, 11], False),
        ([10, 12, 14], False),
    ],
)
def test_pixels_that_are_read_into_their_place(index, inside):
    """Where they are a part of the images, in order; else they are put there afterwards."""
    found = window(("0", "1"))
    rows = batch({}, index, [0] * 3)
    pixels = found.place(rows)
    assert pixels.shape == (3, 2)
    assert np.may_share_memory(pixels, found.images) is inside
    pixels[:] = IMAGES[:3]
    found.put(rows, pixels)
    wanted = np.zeros((5, 2), np.uint8)
    for at, image in zip(index, IMAGES, strict=False):
        if 10 <= at < 15:
            wanted[at - 10] = image
    assert found.images.tolist() == wanted.tolist()
    assert found.rows.sum() == sum(10 <= at < 15 for at in index)
