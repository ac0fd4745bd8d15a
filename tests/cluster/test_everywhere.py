"""The same tests on a standalone cluster, and through Spark Connect with a server on it.

What is written is compared, row by row, with the dataset's files read without the package.
"""

from __future__ import annotations

import gzip
from typing import ClassVar

import numpy as np
import pytest

from mnist_spark.catalog import dataset as catalog
from tests.cluster.conftest import Site
from tests.support.idxfiles import header, random_pair, write_dataset
from tests.support.tables import by_pyarrow, difference, expected, normal

SMALL = {"train": random_pair(3000, 7, 5), "test": random_pair(500, 7, 5, seed=1)}


@pytest.fixture(scope="module")
def datasets(cluster, large) -> dict[str, catalog.Dataset]:
    """``small`` has images of 7×5."""
    folder = cluster.driver_only / "small"
    small = write_dataset(folder, SMALL, name="small", image_shape=(7, 5))
    return {"small": small, "large": large}


class Everywhere:
    """What must hold on each kind.

    Attributes:
        kind: the fixture ``on_…``.
        writes: writer, transport, dataset, layout. The large dataset goes both ways once: through
            a folder, and inside tasks through Spark Connect.
    """

    kind: ClassVar[str]
    writes: ClassVar[tuple[tuple[str, str, str, str], ...]]

    @pytest.fixture
    def site(self, request: pytest.FixtureRequest) -> Site:
        return request.getfixturevalue(f"on_{self.kind}")

    def test_ingest(self, site, datasets):
        for writer, transport, name, layout in self.writes:
            target = site.shared / f"{self.kind}-{writer}-{transport}-{name}"
            staging = {"staging": site.shared / "staging"} if transport == "shared" else {}
            described = site.driver_only / name / "dataset.toml"
            report = site.ingest(
                dataset=described,
                target=target,
                writer=writer,
                transport=transport,
                layout=layout,
                ranges=4,
                **staging,
            )
            assert "error" not in report, report
            assert (report["writer"], report["transport"]) == (writer, transport)
            assert difference(normal(by_pyarrow(target)), expected(datasets[name], layout)) == ""
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
        """Each range was decoded by somebody, and the executors have shared the work."""
        told = [f"{t['split']}[{t['start']}:{t['stop']}]" for t in report["tasks"]]
        assert sorted(told) == sorted(report["ranges"])
        assert all(task["host"] and task["seconds"] > 0 for task in report["tasks"])
        found = {(task["host"], task["executor"]) for task in report["tasks"]}
        assert len(found) == 2, report["tasks"]

    def test_idx(self, site, real_data):
        """Any pair of IDX files, opened by their paths or carried inside the tasks."""
        pair = site.shared / "pair"
        pair.mkdir(exist_ok=True)
        for role in ("images-idx3", "labels-idx1"):
            packed = real_data / "mnist" / f"t10k-{role}-ubyte.gz"
            (pair / role).write_bytes(gzip.decompress(packed.read_bytes()))
        labels = np.frombuffer((pair / "labels-idx1").read_bytes(), np.uint8, offset=8)
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
    writes = (
        ("columnar", "inline", "small", "columns"),
        ("spark", "shared", "small", "columns"),
        ("spark", "inline", "small", "binary"),
        ("columnar", "shared", "large", "columns"),
    )


class TestConnect(Everywhere):
    kind = "connect"
    writes = (
        ("columnar", "shared", "small", "columns"),
        ("spark", "inline", "small", "binary"),
        ("columnar", "inline", "large", "columns"),
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
