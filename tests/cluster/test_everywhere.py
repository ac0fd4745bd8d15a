"""The same tests on every kind of cluster: standalone, local-cluster, Spark Connect.

What is written is compared, row by row, with the published files read without the package.
"""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from mnist_spark.catalog import dataset as catalog
from tests.cluster.conftest import Site
from tests.support.idxfiles import header, random_pair, write_dataset
from tests.support.tables import by_pyarrow, difference, expected, normal, records

SMALL = {"train": random_pair(3000, 7, 5), "test": random_pair(500, 7, 5, seed=1)}


def dataset(name: str, site: Site, real_data: Path) -> tuple[catalog.Dataset, str]:
    """The dataset, and what the driver calls it; ``small`` is one of images of 7×5."""
    if name == "small":
        found = write_dataset(site.driver_only / name, SMALL, name=name, image_shape=(7, 5))
        return found, str(site.driver_only / name / "dataset.toml")
    return dataclasses.replace(catalog.find(name), mirrors=(f"{real_data / name}/",)), name


class Everywhere:
    """What must hold on each kind.

    Attributes:
        kind: the fixture ``on_…``.
        executors: how many share the work.
        writes: writer, transport, dataset, layout. The real dataset goes both ways once: through
            a folder, and inside tasks through Spark Connect.
    """

    kind: ClassVar[str]
    executors: ClassVar[int]
    writes: ClassVar[tuple[tuple[str, str, str, str], ...]]

    @pytest.fixture
    def site(self, request: pytest.FixtureRequest) -> Site:
        return request.getfixturevalue(f"on_{self.kind}")

    def test_ingest(self, site, real_data):
        for writer, transport, name, layout in self.writes:
            target = site.shared / f"{self.kind}-{writer}-{transport}-{name}"
            staging = {"staging": site.shared / "staging"} if transport == "shared" else {}
            known, described = dataset(name, site, real_data)
            report = site.ingest(
                dataset=described,
                source=known.mirrors[0],
                target=target,
                writer=writer,
                transport=transport,
                layout=layout,
                ranges=4,
                **staging,
            )
            assert "error" not in report, report
            assert (report["writer"], report["transport"]) == (writer, transport)
            assert difference(normal(by_pyarrow(target)), expected(known, layout)) == ""
            self.check_tasks(report)
        # With the payloads at hand, the executors' digests of its ranges are compared; without
        # them, the rebuilt bytes travel.
        for cache in ("cache", "no-cache"):
            checked = site.driver.ingest(
                do="verify", target=target, cache=site.driver_only / cache, dataset=described
            )
            assert (checked["ok"], checked["notes"]) == (True, []), checked
            assert all(len(split["sha256"]) == 2 for split in checked["splits"].values())

    def check_tasks(self, report):
        """Each range was decoded by somebody, and by more than one executor where there are two."""
        told = [f"{t['split']}[{t['start']}:{t['stop']}]" for t in report["tasks"]]
        assert sorted(told) == sorted(report["ranges"])
        assert all(task["host"] and task["seconds"] > 0 for task in report["tasks"])
        found = {(task["host"], task["executor"]) for task in report["tasks"]}
        assert len(found) == self.executors, report["tasks"]

    def test_idx(self, site, real_data):
        """Any pair of IDX files, opened by their paths or carried inside the tasks."""
        pair = site.shared / "pair"
        pair.mkdir(exist_ok=True)
        for role in ("images-idx3", "labels-idx1"):
            packed = real_data / "mnist" / f"t10k-{role}-ubyte.gz"
            (pair / role).write_bytes(gzip.decompress(packed.read_bytes()))
        labels = records(dataset("mnist", site, real_data)[0], "test")[1]
        for transport in ("shared", "inline"):
            found = site.driver.ingest(
                do="read",
                format="idx",
                images=pair / "images-idx3",
                labels=pair / "labels-idx1",
                transport=transport,
                ranges="3",
            )
            assert found == {
                "rows": 10_000,
                "labels": int(labels.sum()),
                "indices": sum(range(10_000)),
                "tasks": 3,
            }


class TestStandalone(Everywhere):
    kind = "standalone"
    executors = 2
    writes = (
        ("columnar", "inline", "small", "columns"),
        ("spark", "shared", "small", "columns"),
        ("spark", "inline", "small", "binary"),
        ("columnar", "shared", "mnist", "columns"),
    )


class TestConnect(Everywhere):
    kind = "connect"
    executors = 2
    writes = (
        ("columnar", "shared", "small", "columns"),
        ("spark", "inline", "small", "binary"),
        ("spark", "shared", "small", "binary"),
        ("columnar", "inline", "mnist", "columns"),
    )


class TestLocalCluster(Everywhere):
    kind = "local_cluster"
    executors = 2
    writes = (
        ("columnar", "inline", "small", "columns"),
        ("columnar", "shared", "small", "columns"),
    )


class TestConnectLocal(Everywhere):
    kind = "connect_local"
    executors = 1
    writes = (
        ("columnar", "inline", "small", "columns"),
        ("spark", "inline", "small", "binary"),
    )


def test_a_million_records(on_standalone, cluster):
    """Under both transports; the payload is 784 MB, of which each task gets its own part only."""
    count, block = 1_000_000, 10_000
    images, labels = cluster.shared / "million-images", cluster.shared / "million-labels"
    drawn = np.random.default_rng(7).integers(0, 256, (block, 28, 28), np.uint8)
    drawn[:, :, 7:] = 0  # as empty as digits are
    ten = np.tile(np.arange(10, dtype=np.uint8), block // 10)
    with open(images, "wb") as pixels, open(labels, "wb") as classes:
        pixels.write(header(0x08, (count, 28, 28)))
        classes.write(header(0x08, (count,)))
        for _ in range(count // block):
            pixels.write(drawn.tobytes())
            classes.write(ten.tobytes())
    for transport in ("shared", "inline"):
        found = on_standalone.driver.ingest(
            do="read",
            format="idx",
            images=images,
            labels=labels,
            transport=transport,
            layout="binary",
        )
        assert "error" not in found, found
        assert found["rows"] == count
        assert found["labels"] == 45 * count // 10
        assert found["indices"] == count * (count - 1) // 2
        # A range that travels is 32 MiB at most.
        assert found["tasks"] >= (24 if transport == "inline" else 2)
