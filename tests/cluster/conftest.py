"""Where the tests of this folder run: clusters whose executors share nothing with the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.idx.sample import write_sample
from tests.cluster.standalone import PYTHON, SITE_PACKAGES, Cluster, can_hide
from tests.support.processes import Driver
from tests.support.servers import make_bucket

EXECUTORS = (
    "--conf spark.driver.host=127.0.0.1 --conf spark.ui.enabled=false"
    " --conf spark.executor.cores=1 --conf spark.cores.max=2 --conf spark.executor.memory=1g"
    " --conf spark.databricks.delta.snapshotPartitions=2"
    # A job begins when both executors are there, else the first one may do all of it.
    " --conf spark.scheduler.minRegisteredResourcesRatio=1.0"
    " --conf spark.scheduler.maxRegisteredResourcesWaitingTime=60s"
    # A task is slow that takes twice as long as half of them, and longer than the first task of an
    # executor, which waits for its Python to start.
    " --conf spark.speculation=true --conf spark.speculation.quantile=0.5"
    " --conf spark.speculation.multiplier=2 --conf spark.speculation.minTaskRuntime=10s"
)


def executors(java_options: str) -> str:
    """The options of an application, whose executors start as quickly as its driver."""
    return f"{EXECUTORS} --conf 'spark.executor.extraJavaOptions={java_options}'"


@dataclass
class Site:
    """A kind of cluster with one driver, and where things lie there.

    Attributes:
        shared: a folder that all see.
        driver_only: a folder that executors don't see.
    """

    shared: Path
    driver_only: Path
    start: Callable[[], Driver]
    _driver: Driver | None = field(default=None)

    @property
    def driver(self) -> Driver:
        if self._driver is None or not self._driver.alive():
            self._driver = self.start()
            self._driver.wait_ready()
        return self._driver

    def ingest(self, **order: Any) -> dict[str, Any]:
        return self.driver.ingest(cache=self.driver_only / "cache", **order)

    def close(self) -> None:
        if self._driver is not None:
            self._driver.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Iterator[Cluster]:
    reason = can_hide()
    if reason:
        pytest.skip(f"folders cannot be hidden from the workers here: {reason}")
    found = Cluster(tmp_path_factory.mktemp("cluster"), hidden=[real_data])
    yield found
    found.close()


@pytest.fixture(scope="session")
def large(cluster: Cluster) -> catalog.Dataset:
    """20,000 records of 28×28, which only the driver sees."""
    return write_sample(cluster.driver_only / "large", train=15_000, test=5_000, progress=False)


@pytest.fixture(scope="session")
def keys(s3_endpoint: str) -> dict[str, str]:
    """The environment that gives access to ``s3://cluster``."""
    make_bucket(s3_endpoint, "cluster")
    return {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "AKIATESTSOFCLUSTER00",
        "AWS_SECRET_ACCESS_KEY": "tYc2mHjN5bDpUeAoXiRgS1w9ZtBqkW8xQz7Lr0vf",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def standalone(
    cluster: Cluster,
    name: str,
    keys: dict[str, str],
    conf: str = "",
    python: str = str(PYTHON),
    python_path: str | None = None,
    generate: bool = False,
) -> Site:
    """A driver of the standalone cluster, which hands its executors nothing but Spark's tasks.

    Args:
        keys: the driver's own.
    """
    path = python_path or cluster.python_path

    def start() -> Driver:
        return Driver(
            cluster.driver_only / f"{name}{len(list(cluster.driver_only.iterdir()))}",
            cluster.master,
            conf=f"{executors(cluster.java_options)}"
            f" --conf spark.executorEnv.PYTHONPATH={path} {conf}",
            generate=generate,
            environment=keys | {"PYSPARK_PYTHON": python},
        )

    return Site(cluster.shared, cluster.driver_only, start)


@pytest.fixture(scope="session")
def on_standalone(cluster: Cluster, keys: dict[str, str]) -> Iterator[Site]:
    """Executors have S3's libraries, without keys; those of ``on_connect`` numpy and pyarrow."""
    path = f"{cluster.cloud_python_path}:{SITE_PACKAGES}"  # the latter for the planner
    site = standalone(cluster, "standalone", keys, python_path=path, generate=True)
    yield site
    site.close()


@pytest.fixture(scope="session")
def on_connect(cluster: Cluster) -> Iterator[Site]:
    """A Connect server on the standalone cluster, which sees as little as its executors."""
    server, url = cluster.start_connect_server(executors(cluster.java_options))
    site = Site(
        cluster.shared,
        cluster.driver_only,
        lambda: Driver(cluster.driver_only / "connect", url),
    )
    yield site
    site.close()
    cluster.stop(server)
