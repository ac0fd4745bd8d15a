"""A token in the source's URL and one in the environment: no failure names them.

``tests/jobs/test_submit.py`` looks for those of an ingest that went well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.faults import Fault, serve

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
