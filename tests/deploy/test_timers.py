"""The systemd units by systemd itself, the crontab's schedule by a cron parser."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.deploy.conftest import CONF, crontab_line

UNITS = CONF / "systemd"


@pytest.fixture
def systemd_analyze():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")

    def run(*args) -> tuple[int, str]:
        process = subprocess.run(
            ["systemd-analyze", *map(str, args)],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return process.returncode, process.stdout

    return run


@pytest.fixture
def units(tmp_path):
    """The units, with a program that exists: systemd looks for it."""
    program = tmp_path / "mnist-spark"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS.iterdir():
        text = unit.read_text()
        (tmp_path / unit.name).write_text(
            text.replace("/opt/mnist-spark/bin/mnist-spark ", f"{program} ")
        )
    return tmp_path


def names(folder):
    return sorted([*folder.glob("*.service"), *folder.glob("*.timer")])


def test_units(systemd_analyze, units):
    assert len(names(units)) == 3
    assert systemd_analyze("verify", "--recursive-errors=no", *names(units)) == (0, "")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Type=oneshot", "Type=onceshot", "Failed to parse service type"),
        ("PrivateTmp=", "PrivateTemp=", "Unknown key 'PrivateTemp'"),
        ("@system-service", "@system-services", "Unknown system call group"),
        ("OnCalendar=*-*-* 03:17:00", "OnCalendar=*-*-* 33:17:00", "Failed to parse calendar"),
    ],
)
def test_systemd_finds_mistakes(systemd_analyze, units, old, new, complaint):
    changed = 0
    for unit in names(units):
        text = unit.read_text()
        if unit.stem == "mnist-spark-refresh" and old in text:
            unit.write_text(text.replace(old, new))
            changed += 1
    assert changed == 1
    assert complaint in systemd_analyze("verify", *names(units))[1]


def test_units_know_each_other():
    service = (UNITS / "mnist-spark-refresh.service").read_text()
    assert (UNITS / "mnist-spark-refresh.timer").is_file()
    assert "\nOnFailure=mnist-spark-failed@%N.service\n" in service
    assert (UNITS / "mnist-spark-failed@.service").is_file()


def test_calendar(systemd_analyze):
    timer = (UNITS / "mnist-spark-refresh.timer").read_text()
    (calendar,) = (
        line.partition("=")[2] for line in timer.splitlines() if line.startswith("OnCalendar=")
    )
    code, out = systemd_analyze(
        "calendar", "--iterations=2", "--base-time=2026-01-01 00:00:00 UTC", calendar
    )
    assert code == 0
    assert "2026-01-01 03:17:00" in out
    assert "2026-01-02 03:17:00" in out


def test_exposure(systemd_analyze, units):
    """systemd's own score of what a service could do if it were taken over, 0 to 10, is below 2."""
    service = units / "mnist-spark-refresh.service"
    code, out = systemd_analyze("security", "--offline=true", "--threshold=20", service)
    assert code == 0, out


def test_crontab(judge):
    schedule, command = crontab_line()
    times = judge("cron", schedule)
    assert times == ["2026-01-01T03:17:00+00:00", "2026-01-02T03:17:00+00:00"]
    assert "%" not in command, "cron ends the command at a percent sign"
    with pytest.raises(ValueError, match="Bad minute"):
        judge("cron", "77 3 * * *")


@pytest.mark.parametrize(("code", "mail"), [(0, ""), (1, "it failed\n")])
def test_cron_sends_mail_of_failures_only(tmp_path, code, mail):
    """What the crontab's command prints, cron mails."""
    program = tmp_path / "mnist-spark-stub"
    program.write_text(f"#!/bin/sh\necho it failed >&2\nexit {code}\n")
    program.chmod(0o755)
    (tmp_path / "mnist-spark").mkdir()
    command = crontab_line()[1].replace("/opt/mnist-spark/bin/mnist-spark", str(program))
    process = subprocess.run(
        ["/bin/sh", "-c", command],
        check=False,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (process.stdout, process.stderr) == (mail, "")
