"""Real blob servers for the tests, and the table of what went wrong with which end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

from tests.support import gcs
from tests.support.servers import Azure, Cutter, cut_connections, free_port, running

# The last version for Node 20.
AZURITE = "3.35.0"
# Lists from an offset, with which delta-rs finds what was committed last. Of an older one, which
# passes over ``startFrom``, it says "Invalid table version".
AZURITE_FOR_TABLES = "3.37.0"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(
            ("AZURE_", "AWS_", "GOOGLE_", "STORAGE_")
        ):
            monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def azurite(version: str) -> Path:
    """Azurite's program, from npm, kept outside of the project."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs Node and npm for Azurite")
    folder = platformdirs.user_cache_path("mnist-spark-tests") / f"azurite-{version}"
    script = folder / "node_modules/azurite/dist/src/blob/main.js"
    done = folder / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # of the processes that share the tests, one installs it
        if done.exists():
            return script
        command = [npm, "install", "--prefix", str(folder), "--no-save", "--no-package-lock"]
        command += ["--ignore-scripts", "--no-audit", "--no-fund", f"azurite@{version}"]
        made = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if made.returncode or not script.is_file():
            pytest.skip(f"needs Azurite from npm: {made.stderr.strip().splitlines()[-1:]}")
        done.touch()
    return script


@contextlib.contextmanager
def run_azurite(version: str, folder: Path) -> Iterator[Azure]:
    """A server with nothing in it, whose files are in the folder."""
    script = azurite(version)
    server = Azure(free_port())
    command = ["node", str(script), "--blobHost", "127.0.0.1", "--blobPort", str(server.port)]
    command += ["--location", str(folder), "--silent", "--skipApiVersionCheck"]
    command += ["--disableTelemetry"]
    accounts = f"{server.account}:{server.key}"
    with running(command, server.port, folder / "log", AZURITE_ACCOUNTS=accounts):
        yield server


@pytest.fixture(scope="session")
def azure_for_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    """An Azurite without containers, for Delta tables."""
    with run_azurite(AZURITE_FOR_TABLES, tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def azure(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azure]:
    from azure.storage import blob

    with run_azurite(AZURITE, tmp_path_factory.mktemp("azurite")) as server:
        with blob.BlobServiceClient.from_connection_string(server.connection()) as client:
            for name, access in (("mnist", "blob"), ("private", None)):
                container = client.create_container(name, public_access=access)
                for path in sorted((real_data / "mnist").glob("*.gz")):
                    container.upload_blob(path.name, path.read_bytes())
        sas = blob.generate_container_sas(
            server.account,
            "private",
            account_key=server.key,
            permission=blob.ContainerSasPermissions(read=True, list=True, write=True),
            expiry=datetime.now(UTC) + timedelta(hours=1),
        )
        yield dataclasses.replace(server, sas=sas)


@pytest.fixture(scope="session")
def gcs_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that speaks Google Cloud Storage's XML API; a bucket ``mnist``."""
    port = free_port()
    command = [sys.executable, gcs.__file__, str(port), "mnist"]
    with running(command, port, tmp_path_factory.mktemp("gcs") / "log"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def cutter() -> Iterator[Callable[..., Cutter]]:
    """``cutter(port, after=bytes, cuts=n)`` puts a proxy that breaks connections before a port."""
    with contextlib.ExitStack() as stack:

        def build(target: int, *, after: int, cuts: int) -> Cutter:
            return stack.enter_context(cut_connections(target, after, cuts))

        yield build
