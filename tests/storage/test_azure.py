"""MNIST from Azurite: anonymous, with a SAS token and with a key, over connections that break."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mnist_spark.catalog import dataset as catalog
from mnist_spark.download import limits, transfer
from mnist_spark.download import split as prepare
from mnist_spark.download.fetch import fetch
from mnist_spark.download.inputs import Inputs
from mnist_spark.errors import DownloadError, UsageError
from mnist_spark.storage import objects
from mnist_spark.storage.failures import ObjectError
from mnist_spark.verify import verify
from tests.support.faults import Fault, serve
from tests.support.outcomes import SHORT, Outcome, run
from tests.support.servers import Azure

TRAIN = tuple(file.payload_sha256 for file in catalog.find("mnist").splits[0].files)
LIMITS = {"BACKOFF_SECONDS": 0.1}


def check_mnist(outcome: Outcome, azure: Azure, cache: Path) -> None:
    assert outcome.error is None, outcome.text
    assert outcome.sha256 == TRAIN
    found = outcome.output + "".join(outcome.urls)
    for path in cache.rglob("*"):
        if path.is_file() and path.suffix != ".idx":
            found += path.name + path.read_bytes().decode("latin-1")
    assert len(azure.signature) > 20
    for secret in (azure.signature, unquote(azure.signature), azure.key):
        assert secret not in found
    assert "sig=" not in found.replace("sig=REDACTED", "")  # the Azure SDK's own log


@pytest.mark.parametrize("access", ["anonymous", "SAS"])
def test_https_url_cut_ten_times(azure, cutter, tmp_path, access):
    broken = cutter(azure.port, after=700_000, cuts=10)
    container = "mnist" if access == "anonymous" else f"private?{azure.sas}"
    source = f"{azure.url(broken.port)}/{container}"
    outcome = run(
        f"Azurite, {access}, http, cut 10 times", "mnist", tmp_path, source=source, limits=LIMITS
    )
    assert broken.done == 10
    check_mnist(outcome, azure, tmp_path)
    assert outcome.downloaded == 9_912_422 + 28_881


def test_a_whole_ingest_cut_ten_times(azure, cutter, tmp_path):
    """From the container into a table, by the command, and the table proves itself."""
    broken = cutter(azure.port, after=700_000, cuts=10)
    table = tmp_path / "table"
    command = [sys.executable, "-m", "mnist_spark", "ingest", "--target", str(table)]
    options = ["--source", f"{azure.url(broken.port)}/private?{azure.sas}", "--master", "local[2]"]
    done = subprocess.run(
        [*command, *options, "--cache", str(tmp_path / "cache"), "--report", tmp_path / "report"],
        env=os.environ | {"PYSPARK_SUBMIT_ARGS": "--driver-memory 1g pyspark-shell"},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert broken.done == 10
    found = verify(str(table))
    assert found.ok, found.summary()
    told = done.stdout + done.stderr + (tmp_path / "report").read_text()
    told += "".join(path.read_text() for path in (table / "_delta_log").glob("*.json"))
    for secret in (azure.signature, unquote(azure.signature), "sig="):
        assert secret not in told


@pytest.mark.parametrize(("access", "cuts"), [("SAS", 10), ("key", 0)])
def test_az_url(azure, cutter, tmp_path, access, cuts):
    broken = cutter(azure.port, after=700_000, cuts=cuts)
    env = {
        "AZURE_STORAGE_CONNECTION_STRING": azure.connection(broken.port, sas=access == "SAS"),
    }
    outcome = run(
        f"Azurite, {access}, az://, cut {cuts} times",
        "mnist",
        tmp_path,
        source="az://private",
        limits=LIMITS,
        env=env,
    )
    assert broken.done == cuts
    check_mnist(outcome, azure, tmp_path)
    assert outcome.urls[0] == "az://private/train-images-idx3-ubyte.gz"


def test_all_splits_are_prepared(azure, tmp_path):
    mnist = catalog.find("mnist")
    prepared = prepare.prepare(mnist, mnist.splits, Inputs(f"{azure.url()}/mnist/", tmp_path))
    assert [sum(split.label_counts) for split in prepared] == [60_000, 10_000]


def test_refused_access(azure, tmp_path, monkeypatch):
    mnist = catalog.find("mnist")
    # A signature still: of one that is cut short within an escape, Azurite says "HTTP 500".
    wrong = re.sub(r"sig=[^&]+", f"sig={'A' * 43}%3D", azure.sas)
    assert wrong != azure.sas
    # Azure says "not found" of what may not be seen.
    cases = {
        f"{azure.url()}/private": r"/private/: HTTP 40[34]",
        f"{azure.url()}/private?{wrong}": r"/private/: HTTP 403",
        f"{azure.url()}/absent": r"/absent/: HTTP 40[34]",
    }
    for source, reason in cases.items():
        with pytest.raises(DownloadError, match=reason) as caught:
            fetch(mnist, mnist.select("train"), Inputs(source, tmp_path))
        assert "sig=" not in str(caught.value)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure.connection(sas=True))
    for source in ("az://mnist/absent", "az://absent"):
        with pytest.raises(DownloadError, match="HTTP 404 Not Found|HTTP 403 Forbidden|not found"):
            fetch(mnist, mnist.select("test"), Inputs(source, tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_probe(azure, monkeypatch):
    name = "t10k-labels-idx1-ubyte.gz"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure.connection())
    for url in (
        f"{azure.url()}/mnist/{name}",
        f"{azure.url()}/private/{name}?{azure.sas}",
        f"az://mnist/{name}",
    ):
        first = transfer.probe(url)
        assert first.status == "unknown"
        assert first.etag
        assert first.last_modified
        assert transfer.probe(url, first.etag).status == "unchanged"
        assert transfer.probe(url, None, first.last_modified).status == "unchanged"
        assert transfer.probe(url, '"0x1"').status == "changed"
    hidden = transfer.probe(f"{azure.url()}/private/{name}", '"0x1"')
    assert (hidden.status, hidden.reason[:6]) == ("unknown", "HTTP 4")


def test_write_read_and_list(azure, monkeypatch, tmp_path):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure.connection())
    url = "az://mnist/staged/äö å/x.idx"
    data = bytes(range(256)) * 1000
    with objects.open_writer(url) as stream:
        stream.write(data)
    with objects.open_reader(url, 1 << 16) as stream:
        stream.seek(1000)
        assert stream.read(10) == data[1000:1010]
        stream.seek(0)
        whole = stream.read()
    assert hashlib.sha256(whole).digest() == hashlib.sha256(data).digest()
    assert objects.names("az://mnist/staged/äö å") == ["x.idx"]
    objects.delete(url)
    with pytest.raises(ObjectError) as caught:
        objects.head(url)
    assert caught.value.missing
    assert str(caught.value) in ("not found", "HTTP 404 Not Found")


def test_nobody_listens(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "READ_SECONDS", 0.5)
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(limits, "BACKOFF_SECONDS", 0.05)
    nobody = Azure(1)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", nobody.connection())
    mnist = catalog.find("mnist")
    with pytest.raises(DownloadError, match=r"az://mnist/.*: (no answer in time|Connection ref)"):
        fetch(mnist, mnist.select("train"), Inputs("az://mnist/", tmp_path))


def test_credentials_of_another_account(azure, tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure.connection())
    mnist = catalog.find("mnist")
    source = "abfss://mnist@someoneelse.dfs.core.windows.net/"
    with pytest.raises(UsageError, match="another account's") as caught:
        fetch(mnist, mnist.splits, Inputs(source, tmp_path))
    assert azure.key not in str(caught.value)


PAGE = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("case", "fault", "reason"),
    [
        ("hangs before the answer", Fault(hang="head"), "no answer in time"),
        ("trickles the headers", Fault(trickle="head"), "no answer in time"),
        ("500 for ever", Fault(500, b"<html>", PAGE), "HTTP 500 Internal Server Error|no answer"),
        ("403", Fault(403, b"<html>", PAGE), "HTTP 403 Forbidden"),
        ("an HTML page with 200", Fault(200, b"<html>", PAGE), "not an answer of cloud storage"),
    ],
)
def test_server_that_is_no_good(tmp_path, case, fault, reason):
    with serve(tmp_path) as server:
        server.faults["mnist"] = fault  # the container, listed
        for file in catalog.find("mnist").splits[0].files:
            server.faults[file.name] = fault
        nobody = Azure(urlsplit(server.url).port or 0)
        outcome = run(
            f"az://, {case}",
            "mnist",
            tmp_path / "cache",
            source="az://mnist",
            env={"AZURE_STORAGE_CONNECTION_STRING": nobody.connection()},
        )
    assert outcome.error == "DownloadError"
    assert re.search(f"az://mnist/.*({reason})", outcome.text)
    assert nobody.key not in outcome.output
    assert outcome.seconds < 2 * SHORT["TOTAL_SECONDS"] + 4
