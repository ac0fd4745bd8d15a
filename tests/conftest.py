"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from mnist_spark.cli.main import main
from mnist_spark.opendatasets.datasets import OpenDataset
from mnist_spark.opendatasets.files import FileDataset
from tests.support import jvm
from tests.support.idxfiles import random_pair, write_dataset
from tests.support.outcomes import TABLE
from tests.support.servers import free_port, running

pytest_plugins = ["tests.support.s3", "tests.support.sessions", "tests.support.serverless"]

# Imports and collected tests stay until the end: to search them for garbage takes seconds.
gc.disable()

# No timing on shared machines; the same examples every time where a red run must be repeatable.
settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")


# What a machine may lack without CI failing: each with the words its skip begins with.
EXPECTED_SKIPS = (
    "needs /proc",
    "needs Linux's /proc",
    "needs go,",
    "needs systemd-analyze",
    "needs FUSE",
    "needs Chromium",
    "needs root",
)


# Tests that start a JVM: those with such a fixture, and those in such a file or folder that start
# one in a process of its own. `make check` leaves them out, and has no Java (see the Makefile).
SPARK_FIXTURES = {"connect_url", "driver", "drivers", "quartz", "spark"}
SPARK_PLACES = {
    "tests/chaos/test_chaos.py::test_a_short_run",
    "tests/chaos/test_chaos.py::test_nothing_outlives_it",
    "tests/cluster/",
    "tests/deploy/test_airflow.py::test_failure_is_a_failure",
    "tests/deploy/test_airflow.py::test_run",
    "tests/ingestion/test_versions.py",
    "tests/jobs/test_notebooks.py::test_databricks",
    "tests/jobs/test_notebooks.py::test_quickstart",
    "tests/jobs/test_submit.py",
    "tests/project/test_readme.py",
    "tests/refresh/test_refresh.py",
    "tests/spark/test_jvm_archive.py",
    "tests/spark/test_watch.py::test_by_spark",
    "tests/spark/test_watch.py::test_columnar",
    "tests/storage/test_azure.py::test_a_whole_ingest_cut_ten_times",
    "tests/table/test_memory.py",
}
# Left to `make test-long`: whole notebooks on real data, Airflow's whole run, chaos for a minute, a
# million records, and what the matrix asks of other versions: of the pinned ones other tests do.
LONG = {
    "tests/cluster/test_everywhere.py::test_a_million_records",
    "tests/chaos/test_chaos.py::test_nothing_outlives_it",
    "tests/deploy/test_airflow.py::test_failure_is_a_failure",
    "tests/deploy/test_airflow.py::test_run",
    "tests/ingestion/test_versions.py::test_the_writer_spark_writes_or_says_what_it_lacks",
    "tests/ingestion/test_versions.py::test_what_the_columnar_writer_writes_is_verified_by_spark",
    "tests/jobs/test_notebooks.py::test_databricks[spark]",
    "tests/jobs/test_notebooks.py::test_quickstart",
}


# These begin first, the longest before the others, so that the processes end together.
FIRST = (
    "tests/cluster/",
    "tests/table/test_same_table.py",
    "tests/table/test_concurrent.py",
    "tests/refresh/test_refresh.py",  # before tests that kill the drivers
    "tests/jobs/",
    "tests/project/test_readme.py",
    "tests/chaos/test_chaos.py",
    "tests/table/",
    "tests/spark/test_jvm_archive.py",
    "tests/storage/test_answers.py",
    "tests/storage/",
    "tests/ingestion/",
    "tests/verify/",
    "tests/decode/",
    "tests/spark/",
)


# What takes long to start, and the tests that share it: those with such a part in their names.
SHARING = {
    "the cluster": ("tests/cluster/",),
    "Airflow's and other tools": ("tests/deploy/",),
    "a Connect server": ("test_serverless.py", "serverless]"),
    "a session": (
        "tests/table/test_same_table.py",
        "tests/table/test_choice.py",
        "tests/ingestion/test_ingest.py",
        "tests/verify/test_verify_spark.py",
        "tests/decode/test_pages_spark.py",
        "tests/opendatasets/test_samples.py",
        "tests/opendatasets/test_selection_spark.py",
        "tests/spark/test_source.py",
        "tests/spark/test_watch.py",
    ),
    "drivers": (
        "tests/table/test_concurrent.py",
        "tests/table/test_crash.py",
        "tests/table/test_after_commit.py",
        "tests/refresh/test_refresh.py",
    ),
}


def turn(item: pytest.Item) -> int:
    """When a test begins, as far as :data:`FIRST` says."""
    places = (n for n, place in enumerate(FIRST) if item.nodeid.startswith(place))
    return next(places, len(FIRST))


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs Spark, and what takes long; puts the tests in order."""
    items.sort(key=turn)
    for item in items:
        name = item.nodeid.split("[")[0]
        fixtures = getattr(item, "fixturenames", ())
        places = {name, name.split("::")[0], "/".join(name.split("/")[:2]) + "/"}
        if not SPARK_FIXTURES.isdisjoint(fixtures) or not places.isdisjoint(SPARK_PLACES):
            item.add_marker("spark")
        if not LONG.isdisjoint((name, item.nodeid)):
            item.add_marker("long")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Garbage is collected again. One archive of Java classes for all JVMs of the tests."""
    gc.freeze()
    gc.enable()
    needed = any(item.get_closest_marker("spark") for item in session.items)
    if needed and not session.config.option.collectonly:
        jvm.use_archive()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI, turns a skip that nobody expects into a failure."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(EXPECTED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"unexpected skip in CI: {reason}"
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """The tests of a file share a process and what it has started; so do those of `SHARING`."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            for shared, parts in SHARING.items():
                if any(part in nodeid for part in parts):
                    return shared
            return super()._split_scope(nodeid)

    return ByFile(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands the rows of a worker's table over to the process that prints them."""
    gc.unfreeze()  # or nanobind tells of leaks at the end
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["table"] = TABLE


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    TABLE.extend(tuple(row) for row in getattr(node, "workeroutput", {}).get("table", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of what went wrong with a server, and what became of it."""
    if not TABLE:
        return
    terminalreporter.section("fault × outcome × time × peak memory and cache folder")
    width = max(len(case) for case, *_ in TABLE)
    terminalreporter.write_line(f"{'fault':<{width}}  {'s':>5}  {'MB':>5}  {'disk':>5}  outcome")
    for case, outcome, seconds, memory, disk in TABLE:
        terminalreporter.write_line(
            f"{case:<{width}}  {seconds:5.1f}  {memory:5.0f}  {disk:5.1f}  {outcome}"
        )


@pytest.fixture
def package_log() -> Iterator[logging.Logger]:
    """The package's logger, for tests of what configures it."""
    logger = logging.getLogger("mnist_spark")
    before = logger.handlers[:], logger.level
    yield logger
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command and returns its exit code, stdout, stderr."""

    def run(*argv: object) -> tuple[int, str, str]:
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as exit_:  # argparse's own way out
            code = int(exit_.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with ``mnist/`` and ``fashion-mnist/``, four published gzip files in each."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MNIST_SPARK_TEST_DATA") or beside)
    for name in ("mnist", "fashion-mnist"):
        if not (folder / name / "train-images-idx3-ubyte.gz").is_file():
            pytest.skip(f"no real data: {folder / name}; set MNIST_SPARK_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server, moto's, a process of its own."""
    for module in ("boto3", "obstore", "moto"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, tmp_path_factory.mktemp("s3") / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def tiny_files(tmp_path: Path) -> Callable[..., FileDataset]:
    """A dataset of its own: splits ``a`` and ``b``, files in ``in/``, cache beside it."""
    write_dataset(tmp_path / "in", {"a": random_pair(5, 3, 2), "b": random_pair(4, 3, 2, seed=1)})

    class Tiny(OpenDataset):
        _name = str(tmp_path / "in" / "dataset.toml")

    return lambda wanted="all", **options: Tiny.get_file_dataset(
        wanted, cache=tmp_path / "cache", **options
    )
