"""All that a decision says: cause, reason, version, rows and digests, whatever it is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from mnist_spark.refresh.decide import Cause, Decision, decide
from mnist_spark.refresh.source import Source, Sources
from mnist_spark.table import delta_columnar
from tests.refresh import test_refresh_decide as others
from tests.support.idxfiles import random_pair, write_dataset

OLD = {"train": random_pair(20, 3, 2), "test": random_pair(6, 3, 2, seed=1)}
NEW = {"train": random_pair(20, 3, 2, seed=9), "test": OLD["test"]}
ROWS = {"train": 20, "test": 6}


@pytest.fixture
def place(tmp_path) -> Path:
    publish(tmp_path, OLD)
    return tmp_path


def publish(place: Path, pairs: dict[str, tuple[bytes, bytes]]) -> None:
    write_dataset(place / "in", pairs)


def write(place: Path, *splits: str, kind: str = "delta") -> int | None:
    dataset = str(place / "in" / "dataset.toml")
    return others.write(place, dataset, splits or ("all",), kind)


def look(place: Path, more: str = "", *, deep: bool = False) -> Decision:
    return others.look(place, others.table(place, more), deep=deep)


def digests(pairs: dict[str, tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        f"{split}.{role}": hashlib.sha256(data).hexdigest()
        for split, pair in pairs.items()
        for role, data in zip(("images", "labels"), pair, strict=True)
    }


def test_nothing_there(place):
    assert look(place) == Decision(Cause.MISSING, "there is no table", None, {}, {})
    assert look(place, 'format = "parquet"\n') == look(place)


@pytest.mark.parametrize(("deep", "how"), [(False, "intact"), (True, "contents verified")])
@pytest.mark.parametrize("kind", ["delta", "parquet"])
def test_nothing_to_do(place, deep, how, kind):
    version = write(place, kind=kind)
    assert look(place, f'format = "{kind}"\n', deep=deep) == Decision(
        None,
        f"{how}; the source is the same: its digests are pinned",
        version,
        ROWS,
        digests(OLD),
    )


def test_the_version_is_the_tables_latest(place):
    write(place)
    DeltaTable(str(place / "t")).optimize.compact()
    found = look(place)
    assert (found.cause, found.version) == (None, 1)
    DeltaTable(str(place / "t")).alter.set_table_properties({"delta.appendOnly": "false"})
    assert look(place).version == DeltaTable(str(place / "t")).version() == 2


def test_the_source_has_changed(place):
    write(place)
    publish(place, NEW)
    old, new = digests(OLD)["train.images"], digests(NEW)["train.images"]
    assert look(place) == Decision(
        Cause.CHANGED,
        f"train images: SHA-256 {new[:12]}…, was {old[:12]}…",
        1,
        {},
        digests(OLD),
    )
    assert look(place, 'split = "test"\n').cause is None


def test_only_the_labels_have_changed(place):
    write(place)
    publish(place, OLD | {"test": (OLD["test"][0], random_pair(6, 3, 2, seed=7)[1])})
    found = look(place)
    assert (found.cause, found.reason[:13]) == (Cause.CHANGED, "test labels: ")


def test_a_split_is_missing(place):
    write(place, "test")
    wanted = {"test": OLD["test"]}
    assert look(place) == Decision(
        Cause.MISSING, "the split train is not in the table", 1, {}, digests(wanted)
    )


def test_a_dry_run_that_does_not_know_the_bytes(place):
    config, unknown = others.table(place), Source(None, "", place, "another ETag")
    assert decide(config, unknown, deep=False).cause == Cause.MISSING
    write(place)
    found = decide(config, unknown, deep=False)
    assert found == Decision(Cause.CHANGED, "another ETag", 1, {}, digests(OLD))


def test_an_ingest_was_killed_before_it_noted_its_source(place, monkeypatch):
    """And then the source becomes again what the table still says that it is."""
    write(place)
    publish(place, NEW)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(delta_columnar, "_describe", killed)
        with pytest.raises(KeyboardInterrupt):
            write(place)
    assert look(place).cause == Cause.CHANGED
    publish(place, OLD)
    assert look(place) == Decision(
        Cause.DAMAGED,
        "the ingest of version 2 was killed before it noted its source",
        2,
        {},
        digests(OLD),
    )
    write(place)
    assert look(place, deep=True).cause is None
    DeltaTable(str(place / "t")).optimize.compact()
    assert look(place, deep=True).cause is None


def test_a_file_is_missing(place):
    write(place)
    path = next((place / "t").glob("split=test/*.parquet"))
    path.unlink()
    found = look(place)
    assert (found.cause, found.version, found.sha256) == (Cause.DAMAGED, 1, digests(OLD))
    assert found.rows == ROWS  # as the log has it
    assert path.name in found.reason
    assert "more problems" not in found.reason


def test_several_problems(place):
    write(place)
    for path in (place / "t").glob("*/*.parquet"):
        path.unlink()
    found = look(place)
    assert found.cause == Cause.DAMAGED
    assert found.reason.count(".parquet") == 1
    assert found.reason.endswith(", and 1 more problems")


def test_a_file_that_cannot_be_read(place):
    write(place, kind="parquet")
    for path in (place / "t").glob("split=test/*.parquet"):
        path.write_bytes(b"PAR1 is no footer PAR1")
    found = look(place, 'format = "parquet"\n')
    assert found.cause == Cause.DAMAGED
    assert (found.version, found.sha256) == (None, digests(OLD))
    assert "split=test" in found.reason


@pytest.mark.parametrize(
    ("more", "cause"),
    [("", Cause.DAMAGED), ('split = "train"\n', Cause.DAMAGED), ('split = "test"\n', None)],
)
def test_damage_in_a_split_of_others(place, more, cause):
    write(place)
    DeltaTable(str(place / "t")).delete("split = 'train' AND index = 3")
    found = look(place, more)
    assert (found.cause, found.rows) == (cause, {"train": 19, "test": 6})


@pytest.mark.parametrize(("more", "cause"), [("", Cause.DAMAGED), ('split = "test"\n', None)])
def test_a_split_that_the_dataset_does_not_have(place, more, cause):
    write(place)
    table = DeltaTable(str(place / "t"))
    (path,) = (file for file in table.file_uris() if "split=test" in file)
    rows = pq.ParquetFile(path).read()
    other = pa.array(["other"] * len(rows), pa.string())
    field = pa.field("split", pa.string(), nullable=False)
    write_deltalake(table, rows.append_column(field, other), mode="append")
    assert look(place, more).cause == cause


@pytest.mark.parametrize(
    ("more", "cache", "problems"),
    [("", "another-cache", 2), ('source = "in"\n', "another-cache", 3), ("", "cache", 3)],
)
def test_damage_is_traced_with_the_tables_own_source(place, more, cache, problems):
    """Size and digest tell that a label differs. Which one, only the source or its cache can."""
    write(place)
    path = next((place / "t").glob("split=test/*.parquet"))
    rows = pq.ParquetFile(path).read()
    labels = rows["label"].to_pylist()
    changed = pa.array([9 - labels[0], *labels[1:]], rows["label"].type)
    at = rows.schema.get_field_index("label")
    pq.write_table(rows.set_column(at, rows.field(at), changed), path)
    config = others.table(place, more)
    source = Sources(place / cache, dry_run=False).of(config)
    found = decide(config, source, deep=True)
    assert found.cause == Cause.DAMAGED
    assert found.reason.endswith(f", and {problems} more problems")
