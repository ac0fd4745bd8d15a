"""A bucket or container behind a proxy that changes its answers, and the table in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder

from mnist_spark.catalog.dataset import Dataset
from mnist_spark.storage.options import for_delta_rs
from mnist_spark.table.job import WriteJob
from tests.support.idxfiles import random_pair
from tests.support.jobs import write_job
from tests.support.proxy import Proxy

OLD = {"train": random_pair(20, 3, 2, seed=1), "test": random_pair(6, 3, 2, seed=2)}
NEW = {"train": random_pair(20, 3, 2, seed=3), "test": random_pair(6, 3, 2, seed=4)}

# What is answered instead of the store's own answer, and whether the store has had the request.
ANSWERS = {
    "lost": (None, True),
    "cut before": (None, False),
    **{f"{status}": (status, False) for status in (409, 412, 500, 503)},
    **{f"{status} though done": (status, True) for status in (409, 412, 500, 503)},
}


@dataclass(frozen=True)
class Store:
    """A bucket or container behind the proxy."""

    url: str
    proxy: Proxy


def job_for(store: Store, dataset: Dataset, cache: Path, **options: Any) -> WriteJob:
    return write_job(dataset, f"{store.url}/t", cache, **options)


def open_at(store: Store) -> DeltaTable:
    place, options = for_delta_rs(f"{store.url}/t")
    return DeltaTable(place, storage_options=options)


def runs(table: DeltaTable) -> list[tuple[int, str]]:
    """Version and run of every ingest, the latest first."""
    entries = [each for each in table.history() if "userMetadata" in each]
    return [(each["version"], json.loads(each["userMetadata"])["run"]) for each in entries]


def labels(table: DeltaTable) -> dict[str, bytes]:
    reader = (
        QueryBuilder()
        .register("t", table)
        .execute('SELECT "split", "label" FROM t ORDER BY "split", "index"')
    )
    rows = pa.table(reader.read_all()).to_pylist()
    return {s: bytes(r["label"] for r in rows if str(r["split"]) == s) for s in ("test", "train")}
