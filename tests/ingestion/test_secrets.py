"""A token in the source's URL and one in the environment: no failure names them.

``tests/jobs/test_submit.py`` looks for those of an ingest that went well.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.faults import Fault, serve
from tests.support.leaks import environment, leaks, signed

# With all that libraries log, as people turn it on when they look for a fault.
NOISY = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from mnist_spark.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


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
