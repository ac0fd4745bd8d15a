"""The same tests on every kind of cluster: standalone, local-cluster, Spark Connect.

What is written is compared, row by row, with the published files read without the package.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest

from mnist_spark import catalog
from tests.cluster.conftest import Site
from tests.spark.tables import by_pyarrow, difference, expected, normal


def dataset(name: str, real_data: Path) -> catalog.Dataset:
    """The published dataset, whose files are in the folder."""
    found = catalog.find(name)
    return dataclasses.replace(found, mirrors=(f"{real_data / name}/",))


class Everywhere:
    """What must hold on each kind.

    Attributes:
        kind: the fixture ``on_…``.
        executors: how many share the work.
        writes: writer, transport, dataset.
    """

    kind: ClassVar[str]
    executors: ClassVar[int]
    writes: ClassVar[tuple[tuple[str, str, str], ...]]

    @pytest.fixture
    def site(self, request: pytest.FixtureRequest) -> Site:
        return request.getfixturevalue(f"on_{self.kind}")

    def test_ingest(self, site, real_data):
        for writer, transport, name in self.writes:
            target = site.shared / f"{writer}-{transport}-{name}"
            staging = {"staging": site.shared / "staging"} if transport == "shared" else {}
            report = site.ingest(
                dataset=name,
                source=real_data / name,
                target=target,
                writer=writer,
                transport=transport,
                **staging,
            )
            assert "error" not in report, report
            assert (report["writer"], report["transport"]) == (writer, transport)
            wanted = expected(dataset(name, real_data), "columns")
            assert difference(normal(by_pyarrow(target)), wanted) == ""
            self.check_tasks(report)

    def check_tasks(self, report):
        """Each range was decoded by somebody, and by more than one executor where there are two."""
        told = [f"{t['split']}[{t['start']}:{t['stop']}]" for t in report["tasks"]]
        assert sorted(told) == sorted(report["ranges"])
        assert all(task["host"] and task["seconds"] > 0 for task in report["tasks"])
        found = {(task["host"], task["executor"]) for task in report["tasks"]}
        assert len(found) == self.executors

    def test_data_sources(self, site, real_data):
        cache = site.shared / "cache"  # Connect's server makes it, beside its own planner
        source = site.shared / "mnist"
        if not source.exists():
            source.mkdir()
            for file in (real_data / "mnist").iterdir():
                (source / file.name).write_bytes(file.read_bytes())
        order = {"do": "read", "format": "mnist", "source": source, "cache": cache}
        found = site.driver.ingest(**order)
        assert "error" not in found, found
        assert found == {
            "rows": 70_000,
            "labels": 311_615,
            "indices": sum(range(60_000)) + sum(range(10_000)),
            "tasks": found["tasks"],
        }
        assert found["tasks"] >= 2


class TestStandalone(Everywhere):
    kind = "standalone"
    executors = 2
    writes = (
        ("columnar", "shared", "mnist"),
        ("columnar", "inline", "fashion-mnist"),
        ("spark", "shared", "fashion-mnist"),
        ("spark", "inline", "mnist"),
    )


class TestConnect(Everywhere):
    kind = "connect"
    executors = 2
    writes = (
        ("columnar", "inline", "mnist"),
        ("columnar", "shared", "fashion-mnist"),
        ("spark", "inline", "fashion-mnist"),
    )


class TestLocalCluster(Everywhere):
    kind = "local_cluster"
    executors = 2
    writes = (("columnar", "inline", "mnist"), ("columnar", "shared", "fashion-mnist"))


class TestConnectLocal(Everywhere):
    kind = "connect_local"
    executors = 1
    writes = (("columnar", "inline", "mnist"), ("spark", "inline", "mnist"))
