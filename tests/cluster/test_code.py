"""What executors need, and what they don't: this package, which travels with the tasks."""

from __future__ import annotations

import tarfile
import venv
import zipfile

import pytest

from tests.cluster.conftest import standalone
from tests.cluster.standalone import LIBRARIES, SITE_PACKAGES, package_zip

ORDER = {"writer": "columnar", "ranges": 2, "layout": "binary"}


@pytest.fixture
def order(cluster, large, request):
    return ORDER | {
        "dataset": cluster.driver_only / "large" / "dataset.toml",
        "target": cluster.shared / request.node.name,
        "staging": cluster.shared / "staged",
    }


def test_libraries_that_are_missing(cluster, order):
    site = standalone(cluster, "missing", python_path=cluster.shared)
    answer = site.ingest(**order)
    site.close()
    assert answer["error"] == "SparkError"
    assert "expected numpy and pyarrow, got ModuleNotFoundError" in answer["line"]
    assert "PYSPARK_PYTHON" in answer["line"]


def test_another_version_does_no_harm(cluster, order):
    """An older package on the executors, as after an upgrade of the driver's alone."""
    old = cluster.shared / "old" / "mnist_spark.zip"
    old.parent.mkdir()
    with zipfile.ZipFile(package_zip(cluster.shared)) as new, zipfile.ZipFile(old, "w") as copy:
        for name in new.namelist():
            data = new.read(name)
            if name == "mnist_spark/_version.py":
                data = b'__version__ = "0.0.1"\n'
            elif name.startswith("mnist_spark/decode/"):
                data = b"raise RuntimeError('of the other version')"
            copy.writestr(name, data)
    site = standalone(cluster, "another", conf=f"--py-files {old}")
    for transport in ("shared", "inline"):
        answer = site.ingest(**order | ({"staging": None} if transport == "inline" else {}))
        assert "error" not in answer, answer
        assert answer["transport"] == transport
        assert len(answer["tasks"]) == 2
    site.close()


def test_a_packed_environment(cluster, order):
    """``spark.archives``: a virtual environment that executors unpack beside themselves."""
    folder = cluster.driver_only / "environment"
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    archive = cluster.driver_only / "environment.tar.gz"  # of a .tar, Spark drops the permissions
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, ".")
        inside = packages.relative_to(folder)
        for name in LIBRARIES:
            if (SITE_PACKAGES / name).is_dir():
                tar.add(SITE_PACKAGES / name, inside / name)
    site = standalone(
        cluster,
        "packed",
        conf=f"--archives {archive}#environment",
        python="./environment/bin/python",
    )
    answer = site.ingest(**order)
    site.close()
    assert "error" not in answer, answer
    assert len(answer["tasks"]) == 2
