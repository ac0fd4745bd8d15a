from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_spark.catalog.schema import Layout, TableSchema, table_schema
from mnist_spark.decode.batches import decode_range
from mnist_spark.errors import IdxError, IntegrityError, UsageError
from mnist_spark.idx.pair import Pair, open_pair
from mnist_spark.ranges import transport
from mnist_spark.ranges.plan import RecordRange
from mnist_spark.ranges.task import from_json, from_values, to_json, to_values
from mnist_spark.ranges.transport import Transport, carry, choose_transport, plan_tasks
from tests.support.idxfiles import random_pair

UBYTE = np.dtype("u1")
SCHEMA = table_schema(Layout.BINARY, (3, 2), pixels=UBYTE, labels=UBYTE)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    paths = folder / "images.idx", folder / "labels.idx"
    for path, data in zip(paths, random_pair(50, 3, 2), strict=True):
        path.write_bytes(data)
    return open_pair("train", *map(str, paths))


def rows(task, schema: TableSchema = SCHEMA) -> list[dict]:
    return [row for batch in decode_range(task, schema, 64) for row in batch.to_pylist()]


@given(start=st.integers(0, 49), count=st.integers(1, 50))
def test_a_range_that_travels_decodes_like_one_that_is_opened(pair, start, count):
    records = RecordRange("train", start, min(50, start + count))
    (opened,) = plan_tasks([pair], [records])
    travelled = carry(opened)
    assert type(travelled.images.data) is bytes, "tasks are plain values"
    assert from_json(to_json([opened, travelled])) == [opened, travelled]
    assert from_values(to_values(travelled)) == travelled
    assert rows(travelled) == rows(opened)
    assert [row["index"] for row in rows(opened)] == list(range(records.start, records.stop))


@given(data=st.data())
def test_no_changed_byte_of_a_task_gets_through(pair, data):
    (opened,) = plan_tasks([pair], [RecordRange("train", 10, 40)])
    task = carry(opened)
    role = data.draw(st.sampled_from(["images", "labels"]))
    part = getattr(task, role)
    place = data.draw(st.integers(0, len(part.data) - 1))
    changed = bytearray(part.data)
    changed[place] ^= data.draw(st.integers(1, 255))
    damaged = replace(task, **{role: replace(part, data=bytes(changed))})
    # A bit of the compressed frame's header may mean nothing; then the rows are the same.
    with contextlib.suppress(IdxError, IntegrityError):
        assert rows(damaged) == rows(task)


@pytest.mark.parametrize("change", [b"\x00", b"\xff"])
def test_a_payload_that_changed_after_planning(pair, tmp_path, change):
    path = tmp_path / "images.idx"
    content = bytearray(Path(pair.images).read_bytes())
    path.write_bytes(content)
    (task,) = plan_tasks([pair], [RecordRange("train", 0, 50)], places={pair.images: str(path)})
    assert len(rows(task)) == 50
    content[-1] = change[0] if content[-1] != change[0] else 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"other bytes than the driver.*images.*on host"):
        rows(task)
    path.unlink()
    with pytest.raises(IdxError, match=r"cannot open.*images.*train\[0:50\].*on host"):
        rows(task)


def test_a_range_too_large_for_a_task(pair, monkeypatch):
    monkeypatch.setattr(transport, "MAX_INLINE_BYTES", 10)
    (task,) = plan_tasks([pair], [RecordRange("train", 0, 50)])
    with pytest.raises(UsageError, match=r"train\[0:50\].*at most 10.*more ranges"):
        carry(task)


def test_what_is_not_ours_is_no_task():
    for text in ("", "[]]", '[["train", 0]]', "[1]", "null"):
        with pytest.raises(UsageError, match="option tasks"):
            from_json(text)


SMALL, LARGE = 1 << 20, 1 << 40


@pytest.mark.parametrize(
    ("wanted", "local", "staging", "size", "chosen", "reason"),
    [
        ("auto", True, None, LARGE, "shared", "executors read the driver's cache folder"),
        ("auto", False, None, SMALL, "inline", "executors may not see the driver's disk"),
        ("auto", False, "/lake/staging", LARGE, "shared", "staged in /lake/staging"),
        ("shared", False, None, SMALL, "shared", "as asked"),
        ("shared", False, "az://c/s?sig=SECRET", SMALL, "shared", "as asked, staged in az://c/s"),
        ("inline", True, None, LARGE, "inline", "as asked"),
    ],
)
def test_choice(wanted, local, staging, size, chosen, reason):
    choice = choose_transport(wanted, local=local, staging=staging, payload_bytes=size)
    assert (choice.transport, choice.reason) == (chosen, reason)
    assert choice.range_bytes == (32 << 20 if chosen == Transport.INLINE else 256 << 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wanted": "pigeon", "staging": None}, "unknown transport.*shared, inline, got 'pigeon'"),
        ({"wanted": "inline", "staging": "/s"}, "--staging is for the transport shared"),
        ({"wanted": "auto", "staging": None}, "too large to travel inside tasks.*--staging"),
    ],
)
def test_no_choice(options, message):
    with pytest.raises(UsageError, match=message):
        choose_transport(local=False, payload_bytes=LARGE, **options)
