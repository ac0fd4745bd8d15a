"""What executors need, and what they don't: this package, which travels with the tasks.

They have no disk in common with the driver, and no environment of its: its credentials for a bucket
are theirs only if the user says so.
"""

from __future__ import annotations

import tarfile
import venv
import zipfile
from collections.abc import Iterator

import pytest
from deltalake import DeltaTable

from mnist_spark.storage import objects
from mnist_spark.storage.options import for_delta_rs
from mnist_spark.verify import verify
from tests.cluster.conftest import Site, standalone
from tests.cluster.standalone import LIBRARIES, SITE_PACKAGES, Cluster, package_zip
from tests.support.tables import difference, expected, normal

ORDER = {"writer": "columnar", "ranges": 2, "layout": "binary"}


def another_version(cluster: Cluster) -> str:
    """An older package, as executors have it after an upgrade of the driver's alone."""
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
    return str(old)


def packed_environment(cluster: Cluster) -> str:
    """A virtual environment, as ``spark.archives`` takes it: what executors need for S3."""
    folder = cluster.driver_only / "environment"
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    archive = cluster.driver_only / "environment.tar.gz"  # of a .tar, Spark drops the permissions
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, ".")
        inside = packages.relative_to(folder)
        for name in (*LIBRARIES, "obstore", "typing_extensions.py"):
            if (SITE_PACKAGES / name).exists():
                tar.add(SITE_PACKAGES / name, inside / name)
    return str(archive)


@pytest.fixture(scope="module")
def packed(cluster, keys) -> Iterator[Site]:
    """Executors unpack their Python, have another version, and credentials by a setting."""
    told = " ".join(f"--conf spark.executorEnv.{name}={value}" for name, value in keys.items())
    site = standalone(
        cluster,
        "packed",
        keys,
        conf=f"--archives {packed_environment(cluster)}#environment {told}"
        f" --py-files {another_version(cluster)}",
        python="./environment/bin/python",
    )
    # Bytes that travel in the plan are planned beside the driver, by a Python of that name.
    (site.driver.log.parent / "environment").symlink_to(cluster.driver_only / "environment")
    yield site
    site.close()


def test_another_version_does_no_harm(packed, cluster, large):
    order = ORDER | {
        "dataset": cluster.driver_only / "large" / "dataset.toml",
        "target": cluster.shared / "another",
    }
    for transport, more in (("shared", {"staging": cluster.shared / "staged"}), ("inline", {})):
        answer = packed.ingest(**order, **more)
        assert "error" not in answer, answer
        assert answer["transport"] == transport
        assert len(answer["tasks"]) == 2


@pytest.fixture
def in_s3(cluster, large, keys, monkeypatch, tmp_path) -> dict[str, object]:
    """The order of a table there, as are the payloads that are staged; this process reads it."""
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    return {
        "dataset": cluster.driver_only / "large" / "dataset.toml",
        "target": f"s3://cluster/{tmp_path.name}",
        "staging": "s3://cluster/staged",
        "ranges": 4,
    }


def test_executors_without_credentials(on_standalone, in_s3):
    """The driver has some."""
    answer = on_standalone.ingest(**in_s3)
    assert answer["error"] == "TableError"
    assert "executors do not reach the table's folder" in answer["line"]
    assert "credentials" in answer["line"]
    assert not [name for name in objects.sizes(in_s3["target"]) if name.endswith(".parquet")]


def test_a_table_in_s3_with_staging_there(cluster, large, in_s3, packed):
    url = in_s3["target"]
    report = packed.ingest(**in_s3)
    checked = packed.driver.ingest(do="verify", target=url, cache=cluster.driver_only / "cache")
    assert "error" not in report, report
    assert (checked["ok"], checked["notes"]) == (True, []), checked
    assert (report["writer"], report["transport"]) == ("columnar", "shared")
    assert all(task["host"].startswith("worker") for task in report["tasks"])
    place, options = for_delta_rs(url)
    rows = DeltaTable(place, storage_options=options).to_pyarrow_table()
    assert difference(normal(rows), expected(large, "columns")) == ""
    assert verify(url, cache=cluster.driver_only / "cache").ok
