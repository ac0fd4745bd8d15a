"""What tasks and staged payloads are made of: sizes, digests, modes, objects."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mnist_spark.errors import MnistSparkError, UsageError
from mnist_spark.idx.pair import Pair, open_pair
from mnist_spark.ranges.plan import RecordRange, SplitSize, plan_ranges, split_size
from mnist_spark.ranges.staging import stage, unstage
from mnist_spark.ranges.transport import Transport, carry, choose_transport, plan_tasks
from mnist_spark.storage import objects
from tests.support.idxfiles import random_pair

DATA = random_pair(50, 3, 2)


@pytest.fixture
def pair(tmp_path) -> Pair:
    paths = tmp_path / "images.idx", tmp_path / "labels.idx"
    for path, data in zip(paths, DATA, strict=True):
        path.write_bytes(data)
    return open_pair("train", *map(str, paths))


def test_the_size_of_a_split(pair):
    assert split_size(pair) == SplitSize("train", 50, 6)


@pytest.mark.parametrize("checked", [True, False])
def test_a_task_knows_the_digests_of_its_range(pair, checked):
    (task,) = plan_tasks([pair], [RecordRange("train", 10, 40)], checked=checked)
    wanted = [DATA[0][16 + 60 : 16 + 240], DATA[1][8 + 10 : 8 + 40]]
    digests = [hashlib.sha256(data).hexdigest() for data in wanted]
    found = [task.images.sha256, task.labels.sha256]
    assert found == (digests if checked else [None, None])
    assert [task.images.path, task.labels.path] == [pair.images, pair.labels]
    # What travels has a digest in any case.
    travels = carry(task)
    assert [travels.images.sha256, travels.labels.sha256] == digests
    assert [travels.images.size, travels.labels.size] == [16 + 180, 8 + 30]
    assert [travels.images.path, travels.labels.path] == [pair.images, pair.labels]


def test_other_places_of_the_payloads(pair):
    (task,) = plan_tasks([pair], [RecordRange("train", 0, 50)], places={pair.images: "s3://b/i"})
    assert (task.images.path, task.labels.path) == ("s3://b/i", pair.labels)


@pytest.mark.parametrize(
    ("records", "size", "parallelism", "count", "ranges"),
    [
        (60_000, 784, 2, None, 2),
        (60_000, 784, 100, None, 6),  # of 10,000 records each
        (9_999, 784, 8, None, 1),
        (20_000, 784, 8, None, 2),
        (10_000_000, 784, 4, None, 32),  # of 256 MiB at most, in whole waves
        (3, 1 << 30, 8, None, 3),  # no more than there are records
        (3, 784, 8, 99, 3),
        (100, 784, 8, 7, 7),
    ],
)
def test_how_many_ranges(records, size, parallelism, count, ranges):
    split = SplitSize("a", records, size)
    planned = plan_ranges([split], parallelism=parallelism, count=count)
    assert len(planned) == ranges
    assert (planned[0].start, planned[-1].stop) == (0, records)


def test_the_most_ranges():
    size = SplitSize("a", 131_072, 1)
    assert len(plan_ranges([size], parallelism=1, count=131_072)) == 131_072
    assert len(plan_ranges([size], parallelism=1, max_bytes=1)) == 131_072


def test_ranges_are_shared_out_by_records():
    sizes = [SplitSize("a", 70, 1), SplitSize("none", 0, 1), SplitSize("b", 20, 1)]
    planned = plan_ranges(sizes, parallelism=1, count=9)
    assert [each.split for each in planned] == ["a"] * 7 + ["b"] * 2
    assert {each.records for each in planned} == {10}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parallelism": 0}, "parallelism: expected 1 or more, got 0"),
        ({"parallelism": 1, "count": 0}, "number of ranges: expected 1 or more, got 0"),
        ({"parallelism": 1, "count": 131_073}, "number of ranges: expected at most 131,072"),
        ({"parallelism": 131_073}, "number of ranges: expected at most 131,072, got 131073"),
    ],
)
def test_numbers_that_cannot_be(options, message):
    size = SplitSize("a", 131_073 * 10_000, 1)
    with pytest.raises(UsageError, match=message):
        plan_ranges([size], **options)


@pytest.mark.parametrize(("size", "chosen"), [(512 << 20, True), ((512 << 20) + 1, False)])
def test_the_largest_payload_that_travels_by_itself(size, chosen):
    options = {"local": False, "staging": None, "payload_bytes": size}
    if chosen:
        assert choose_transport("auto", **options).transport == Transport.INLINE
    else:
        with pytest.raises(UsageError, match="expected at most 536,870,912 bytes.*got 536,870,913"):
            choose_transport("auto", **options)


@pytest.fixture
def payload(tmp_path) -> tuple[Path, str]:
    path = tmp_path / "payload"
    path.write_bytes(b"payload" * 1000)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_everybody_may_read_what_is_staged(payload, tmp_path):
    path, sha256 = payload
    before = os.umask(0o077)
    try:
        staged = stage(path, sha256, str(tmp_path / "a" / "b"))
    finally:
        os.umask(before)
    assert Path(staged).stat().st_mode & 0o777 == 0o644


def test_staged_at_a_url_once(bucket, payload):
    path, sha256 = payload
    url = f"{bucket}/staging"
    assert stage(path, sha256, url + "/") == f"{url}/{sha256}.idx"
    first = objects.head(f"{url}/{sha256}.idx")
    assert first.size == 7000
    assert objects.read(f"{url}/{sha256}.idx", 0, 7000) == path.read_bytes()
    stage(path, sha256, url)
    assert objects.head(f"{url}/{sha256}.idx") == first
    # One of another size is put again.
    path.write_bytes(b"longer" * 2000)
    stage(path, sha256, url)
    assert objects.head(f"{url}/{sha256}.idx").size == 12000


def test_unstaged_at_a_url(bucket, payload):
    path, sha256 = payload
    url = f"{bucket}/staging"
    stage(path, sha256, url)
    objects.put_file(path, f"{url}/mine.idx")
    assert unstage(url + "/") == [f"{sha256}.idx"]
    assert objects.names(url) == ["mine.idx"]


def test_a_location_that_is_not_there(bucket, payload, tmp_path):
    path, sha256 = payload
    with pytest.raises(MnistSparkError) as caught:
        stage(path, sha256, f"{bucket}-none/x?sig=SECRET")
    text = str(caught.value)
    assert f"cannot use the staging location (file {bucket}-none/x)" in text
    assert "HTTP 404" in text
    assert "SECRET" not in text
    with pytest.raises(MnistSparkError) as caught:
        unstage(str(tmp_path / "none"))
    assert f"(file {tmp_path}/none): got No such file or directory. Name a" in str(caught.value)
