"""A token in the source's URL and one in the environment: used, and then nowhere to be found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.faults import Fault, serve
from tests.support.tables import dataset_of

ROOT = Path(__file__).resolve().parents[2]
# As a SAS token's signature: base64 of 32 bytes, quoted in a URL. None has a word such as "token"
# in it: Spark hides values that have, and these must be hidden for what they are.
SIGNATURE = "kW8xQz+7Lr/0vTfYc2mHjN5bDpUeAoXiRgS1w9ZtBqE="
PASSWORD = "hunter2-Xy7"
ENVIRONMENT = "Vb3nMk9-Lq4"
SECRETS = [SIGNATURE, quote(SIGNATURE, safe=""), PASSWORD, ENVIRONMENT]

# With all that libraries log, as people turn it on when they look for a fault.
NOISY = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from mnist_spark.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def signed(url: str) -> str:
    host = url.removeprefix("http://").rstrip("/")
    query = f"sv=2026-01-01&sr=c&sp=rl&sig={quote(SIGNATURE, safe='')}"
    return f"http://someone:{PASSWORD}@{host}/mnist?{query}"


def environment() -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MNIST_SPARK", "PYSPARK"))}
    return clean | {
        "AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={ENVIRONMENT}",
        # Spark makes settings of Hadoop of the two.
        "AWS_ACCESS_KEY_ID": "AKIATESTSOFSECRETS00",
        "AWS_SECRET_ACCESS_KEY": ENVIRONMENT,
        "PYSPARK_PYTHON": sys.executable,
    }


def leaks(*places: Path | str) -> list[str]:
    """Which secrets are in which texts or files, names of files included."""
    found = []
    for place in places:
        if isinstance(place, str):
            found += [f"output: {secret}" for secret in SECRETS if secret in place]
            continue
        for path in [place, *place.rglob("*")]:
            data = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
            found += [f"{path}: {secret}" for secret in SECRETS if secret.encode() in data]
    return found


def test_an_ingest_leaves_no_trace_of_them(tiny, tmp_path):
    """spark-submit with the event log on: outputs, logs, report, table, cache.

    The URL is an argument, the worst place for it: Spark's events have its command line.
    """
    events = tmp_path / "events"
    events.mkdir()
    with serve(tiny.folder) as server:
        source = signed(server.url)
        command = [Path(sys.executable).with_name("spark-submit")]
        command += ["--properties-file", ROOT / "conf" / "spark-defaults.conf"]
        command += ["--master", "local[2]", "--driver-memory", "1g"]
        command += ["--conf", "spark.eventLog.enabled=true"]
        command += ["--conf", f"spark.eventLog.dir={events.as_uri()}"]
        command += ["--conf", "spark.eventLog.compress=false"]
        command += [ROOT / "jobs" / "ingest.py", "--dataset", tiny.description, "--debug"]
        command += ["--target", tmp_path / "table", "--cache", tmp_path / "cache"]
        command += ["--report", tmp_path / "report.json", "--layout", "binary"]
        command += ["--source", source]
        done = subprocess.run(
            list(map(str, command)),
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert dataset_of(tmp_path / "table").count_rows() == 3500
    # It was used.
    assert all(f"sig={quote(SIGNATURE, safe='')}" in target for target in server.targets)
    assert all("Authorization" in headers for headers in server.headers)
    # All places have something in them.
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rows"], report["writer"]) == ({"train": 3000, "test": 500}, "columnar")
    assert {s["url"] for s in report["sources"]} == {
        f"{server.url}mnist/{path.name}" for path in tiny.folder.glob("*.gz")
    }
    log = "".join(path.read_text() for path in events.rglob("events_*"))
    assert '"sun.java.command":' in log
    assert len(list((tmp_path / "cache").rglob("*.json"))) >= 4
    assert list((tmp_path / "table" / "_delta_log").glob("*.json"))
    assert leaks(done.stdout, done.stderr, tmp_path) == []


@pytest.mark.parametrize("fault", ["403", "wrong bytes", "redirect", "refused"])
def test_a_failure_names_none_of_them(tiny, tmp_path, fault):
    """With tracebacks, and with everything that the libraries below log."""
    faults = {
        "403": Fault(status=403, body=b"<Error>sig did not match</Error>"),
        "wrong bytes": Fault(body=b"<html>log in</html>"),
    }
    with serve(tiny.folder) as server:
        source = signed(server.url)
        if fault == "redirect":
            again = {"Location": source.replace("/mnist?", "/elsewhere?")}
            faults[fault] = Fault(status=302, headers=again, loop=False)
        if fault == "refused":
            source = signed("http://127.0.0.1:9/")
        for path in tiny.folder.glob("*.gz"):
            server.faults[path.name] = faults.get(fault, Fault())
        command = [sys.executable, "-c", NOISY, "download", "--dataset", tiny.description]
        command += ["--to", str(tmp_path / "to"), "--cache", str(tmp_path / "cache"), "--debug"]
        done = subprocess.run(
            [*command, "--source", source],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1, done.stderr[-3000:]
    assert "mnist-spark: no mirror gave the file" in done.stderr
    assert "Traceback" in done.stderr
    assert leaks(done.stdout, done.stderr, tmp_path) == []
