"""From a folder of published files to checked payloads, or an error that names the dataset."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_spark.download.digests import Digests
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import Steps, download, prepare, unpack
from mnist_spark.errors import DownloadError, IdxError, IntegrityError
from mnist_spark.idx.pair import open_pair
from mnist_spark.ranges.plan import RecordRange, SplitSize, split_size
from mnist_spark.ranges.transport import plan_tasks, range_sha256
from tests.support.idxfiles import payload, random_pair, ubytes, write_dataset

SHAPE = (3, 2)
TRAIN = random_pair(20, *SHAPE)
TEST = random_pair(6, *SHAPE, seed=1)


def run(dataset, folder):
    return prepare(dataset, dataset.splits, Inputs(None, folder / "cache"))


def test_a_dataset_in_a_folder(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN, "test": TEST})
    prepared = run(dataset, tmp_path)
    assert [split.name for split in prepared] == ["train", "test"]
    for split, (images, labels), described in zip(
        prepared, (TRAIN, TEST), dataset.splits, strict=True
    ):
        assert split.images.path.read_bytes() == images
        assert split.labels.path.read_bytes() == labels
        assert split.payloads == (split.images, split.labels)
        assert [p.sha256 for p in split.payloads] == [f.payload_sha256 for f in described.files]
        assert (split.pair.images, split.pair.labels) == tuple(map(str, _paths(split)))
        assert split.label_counts == tuple(labels[8:].count(i) for i in range(10))
        assert split.pair.image_shape == SHAPE
        assert split_size(split.pair) == SplitSize(split.name, len(labels) - 8, 6)
        assert split.downloaded == 0  # used in place
        assert [each.parts for each in split.payloads] == [{}, {}]


def test_ranges_are_digested_on_the_way(tmp_path):
    """In the pass that unpacks the payloads, and in the one that finds them in the cache."""
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN, "test": TEST})
    inputs = Inputs(None, tmp_path / "cache")
    stops = {"train": [1, 9, 20], "test": [6]}
    for _ in range(2):
        steps = Steps()
        fetched = download(dataset, dataset.splits, inputs)
        for split in unpack(dataset, dataset.splits, fetched, inputs, stops=stops, steps=steps):
            for each in split.payloads:
                first, size = each.header.size, each.header.record_size
                parts = {
                    (first + start * size, first + stop * size): range_sha256(
                        str(each.path), each.header, RecordRange(split.name, start, stop)
                    )
                    for start, stop in pairwise((0, *stops[split.name]))
                }
                packed = hashlib.sha256(each.header.pack()).hexdigest()
                assert each.parts == {(0, first): packed} | parts
        assert list(steps) == ["unpack", "check"]
        assert all(seconds >= 0 for seconds in steps.values())


def test_splits_that_share_a_file_and_are_cut_otherwise(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN})
    (train,) = dataset.splits
    both = train, dataclasses.replace(train, name="again")
    inputs = Inputs(None, tmp_path / "cache")
    fetched = download(dataset, both, inputs)
    prepared = unpack(dataset, both, fetched, inputs, stops={"train": [5, 20], "again": [9, 20]})
    for split, cut in zip(prepared, (5, 9), strict=True):
        ranges = [RecordRange(split.name, 0, cut), RecordRange(split.name, cut, 20)]
        known = {str(each.path): each.parts for each in split.payloads}
        tasks = plan_tasks([split.pair], ranges, known=known)
        assert tasks == plan_tasks([split.pair], ranges)


def test_ranges_of_a_description_that_promises_more(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN}, records={"train": 10_000})
    inputs = Inputs(None, tmp_path / "cache")
    fetched = download(dataset, dataset.splits, inputs)
    with pytest.raises(IdxError, match=r"dimensions.*expected \(10000, 3, 2\)"):
        unpack(dataset, dataset.splits, fetched, inputs, stops={"train": [5_000, 10_000]})


@given(
    st.lists(st.binary(max_size=9), max_size=9),
    st.lists(st.integers(-5, 60)).map(sorted),
)
def test_digests_of_chunks_and_parts(chunks, ends):
    data = b"".join(chunks)
    with Digests(ends) as digests:
        for chunk in chunks:
            digests.update(chunk)
        whole, parts = digests.end()
    assert whole == hashlib.sha256(data).hexdigest()
    reached = [max(0, end) for end in ends if end <= len(data) and chunks]
    assert parts == {
        (start, stop): hashlib.sha256(data[start:stop]).hexdigest()
        for start, stop in pairwise((0, *reached))
    }


def _paths(split):
    return [each.path for each in split.payloads]


def test_only_the_wanted_split_is_touched(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN, "test": TEST})
    (tmp_path / "in" / "train-images.gz").unlink()
    (split,) = prepare(dataset, dataset.select("test"), Inputs(None, tmp_path / "cache"))
    assert split.images.path.read_bytes() == TEST[0]
    with pytest.raises(DownloadError, match="dataset tiny.*train-images.gz"):
        run(dataset, tmp_path)


def test_source_instead_of_mirrors(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN})
    nowhere = dataclasses.replace(dataset, mirrors=(f"{tmp_path}/nowhere/",))
    with pytest.raises(DownloadError, match="nowhere"):
        run(nowhere, tmp_path)
    (split,) = prepare(nowhere, nowhere.splits, Inputs(str(tmp_path / "in"), tmp_path / "cache"))
    assert split.images.path.read_bytes() == TRAIN[0]


def test_the_last_record_has_the_last_class(tmp_path):
    pair = TRAIN[0], ubytes([0] * 19 + [9])
    (split,) = run(write_dataset(tmp_path, {"train": pair}), tmp_path)
    assert split.label_counts == (19, 0, 0, 0, 0, 0, 0, 0, 0, 1)


def test_a_split_without_records(tmp_path):
    pair = payload(8, (0, *SHAPE), []), payload(8, (0,), [])
    (split,) = run(write_dataset(tmp_path, {"train": pair}), tmp_path)
    assert split.pair.records == sum(split.label_counts) == 0


@pytest.mark.parametrize(
    ("pair", "said", "message"),
    [
        # What the headers say, and what the catalog says of it.
        ((payload(0x09, (20, *SHAPE), [1] * 120), TRAIN[1]), {}, "type code.*uint8, got int8"),
        ((TRAIN[0], payload(0x0B, (20,), [1] * 20)), {}, "type code.*uint8, got int16"),
        (random_pair(20, 2, 3), {}, r"\(20, 3, 2\) as in the catalog, got \(20, 2, 3\)"),
        (random_pair(20, 6, 1), {}, r"\(20, 3, 2\) as in the catalog, got \(20, 6, 1\)"),
        (TRAIN, {"records": {"train": 21}}, r"\(21, 3, 2\) as in the catalog, got \(20, 3, 2\)"),
        # Headers that contradict each other, or their files.
        ((TRAIN[0], TEST[1]), {}, "differ in number.*20 labels.*got 6"),
        ((TRAIN[1], TRAIN[0]), {"records": {"train": 20}}, "rank of images.*expected 3, got 1"),
        ((TRAIN[0][:-1], TRAIN[1]), {}, "truncated payload"),
        ((TRAIN[0], TRAIN[1] + b"\0"), {}, "trailing bytes"),
        ((gzip.compress(TRAIN[0], mtime=0), TRAIN[1]), {}, "still gzipped"),
        # Labels.
        ((TRAIN[0], ubytes([0] * 17 + [10, 0, 0])), {}, r"\[17\].*expected 0 to 9, got 10"),
        ((TRAIN[0], ubytes([0, 1, 2] + [0] * 17)), {"classes": 2}, r"\[2\].*0 to 1, got 2"),
    ],
)
def test_payloads_with_the_right_digests_and_the_wrong_content(tmp_path, pair, said, message):
    dataset = write_dataset(tmp_path / "in", {"train": pair}, **said)
    with pytest.raises(IdxError, match=f"(?=.*dataset tiny)(?=.*file ).*{message}"):
        run(dataset, tmp_path)


def test_a_payload_that_is_not_the_promised_one(tmp_path):
    dataset = write_dataset(tmp_path / "in", {"train": TRAIN})
    (split,) = dataset.splits
    images = dataclasses.replace(split.images, payload_sha256="0" * 64)
    dataset = dataclasses.replace(dataset, splits=(dataclasses.replace(split, images=images),))
    with pytest.raises(IntegrityError, match="dataset tiny.*expected 0000"):
        run(dataset, tmp_path)


def test_open_pair_reads_what_is_there(tmp_path):
    for name, data in zip("il", TRAIN, strict=True):
        (tmp_path / name).write_bytes(data)
    images, labels = str(tmp_path / "i"), str(tmp_path / "l")
    pair = open_pair("train", images, labels)
    assert (pair.split, pair.images, pair.labels) == ("train", images, labels)
    assert pair.image_header.shape == (20, *SHAPE)
    assert pair.label_header.shape == (20,)
    with pytest.raises(IdxError, match="cannot open.*none"):
        open_pair("train", images, str(tmp_path / "none"))
    with pytest.raises(IdxError, match="rank of labels.*expected 1, got 3"):
        open_pair("train", images, images)


def test_steps_add_up_and_count_what_fails():
    steps = Steps()
    with steps("a"):
        pass
    first = steps["a"]
    with pytest.raises(KeyError), steps("b"):
        raise KeyError
    with steps("a"):
        pass
    assert list(steps) == ["a", "b"]
    assert steps["a"] > first
