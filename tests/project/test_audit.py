"""``make audit``: fails on vulnerabilities, and says so aloud when it couldn't look for any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "audit"

# Stands for a service that can't be had here; the arguments are pip-audit's own.
STAND_IN = """
import json, sys
from pathlib import Path
pins = Path(sys.argv[sys.argv.index("-r") + 1]).read_text().splitlines()
answers = {answers!r}
dependencies = []
for pin in pins:
    name, version = pin.split("==")
    answer = answers.get(name, [])
    part = {{"skip_reason": "no"}} if answer is None else {{"version": version, "vulns": answer}}
    dependencies.append({{"name": name, **part}})
print(json.dumps({{"dependencies": dependencies}}))
"""
FLAW = {"id": "PYSEC-1", "fix_versions": ["99.0"]}


def audit(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_without_a_network_it_is_skipped_aloud():
    """pip-audit itself, behind a proxy that isn't there."""
    nowhere = "http://127.0.0.1:9"
    done = audit(https_proxy=nowhere, HTTPS_PROXY=nowhere, no_proxy="", NO_PROXY="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("audit: SKIPPED, dependencies were NOT audited: ")
    assert "known vulnerabilities" not in done.stdout


@pytest.mark.parametrize(
    ("answers", "code", "line"),
    [
        ({}, 0, " packages audited, 0 known vulnerabilities"),
        ({"numpy": [FLAW]}, 1, "PYSEC-1, fixed in 99.0"),
        ({"numpy": None}, 0, "SKIPPED 1 that the service doesn't know: numpy"),
        ({"requests": None, "numpy": [FLAW]}, 0, "dependencies were NOT audited"),
    ],
)
def test_only_vulnerabilities_fail(tmp_path, answers, code, line):
    (tmp_path / "pip_audit.py").write_text(STAND_IN.format(answers=answers))
    done = audit(PYTHONPATH=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert line in done.stdout
    assert all(row.startswith("audit: ") for row in done.stdout.splitlines())
