"""How the package gets to executors that haven't got it, and what is said where it didn't."""

from __future__ import annotations

import tarfile
import venv
import zipfile

import pytest

from tests.cluster.conftest import standalone
from tests.cluster.standalone import PROJECT, SITE_PACKAGES, package_zip

ORDER = {"writer": "columnar", "ranges": 2, "layout": "binary"}


@pytest.fixture
def order(cluster, large, request):
    return ORDER | {
        "dataset": cluster.driver_only / "large" / "dataset.toml",
        "target": cluster.shared / request.node.name,
        "staging": cluster.shared / "staged",
    }


def test_missing(cluster, order):
    site = standalone(cluster, "missing", conf="")
    answer = site.ingest(**order)
    site.close()
    assert answer["error"] == "SparkError"
    assert "No module named 'mnist_spark'" in answer["line"]
    assert "--py-files" in answer["line"]


def test_another_version(cluster, order):
    """The older package on the executors, as after an upgrade of the driver's alone."""
    old = cluster.shared / "old" / "mnist_spark.zip"
    old.parent.mkdir()
    with zipfile.ZipFile(package_zip(cluster.shared)) as new, zipfile.ZipFile(old, "w") as copy:
        for name in new.namelist():
            data = new.read(name)
            if name == "mnist_spark/_version.py":
                data = b'__version__ = "0.0.1"\n'
            copy.writestr(name, data)
    site = standalone(cluster, "another", conf=f"--py-files {old}")
    answer = site.ingest(**order)
    site.close()
    assert answer["error"] == "SparkError"
    assert "another version of mnist-spark" in answer["line"]
    assert "got 0.0.1 on host" in answer["line"]


def test_a_packed_environment(cluster, order):
    """``spark.archives``: a virtual environment that executors unpack beside themselves."""
    folder = cluster.driver_only / "environment"
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    archive = cluster.driver_only / "environment.tar.gz"  # of a .tar, Spark drops the permissions
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, ".")
        inside = packages.relative_to(folder)
        for name in ("numpy", "numpy.libs", "pyarrow"):
            if (SITE_PACKAGES / name).is_dir():
                tar.add(SITE_PACKAGES / name, inside / name)
        tar.add(PROJECT / "mnist_spark", inside / "mnist_spark")
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
