"""Every command line in a descriptor is one that ``mnist-spark`` takes."""

from __future__ import annotations

import shlex
from configparser import ConfigParser
from importlib.metadata import EntryPoint

import pytest

from mnist_spark.cli import main as cli
from tests.deploy.conftest import CONF, JOBS, TOP, crontab_line

DESCRIPTORS = ("databricks", "kubernetes", "systemd", "cron", "airflow")


@pytest.fixture
def parse(monkeypatch):
    """The arguments as ``mnist-spark`` parses them, without running anything."""

    def parse(argv):
        parsed = []
        monkeypatch.setattr(cli, "guarded", lambda args: parsed.append(args) or 0)
        assert cli.main(argv) == 0
        return parsed[0]

    return parse


@pytest.fixture
def command(request, bundle, application):
    """The words of a descriptor's command, and those that ``mnist-spark`` gets."""
    match request.param:
        case "databricks":
            (task,) = (
                task["python_wheel_task"]
                for task in bundle["resources"]["jobs"]["mnist_refresh"]["tasks"]
                if "python_wheel_task" in task
            )
            assert task["entry_point"] == "mnist-spark"
            return task["parameters"]
        case "kubernetes":
            template = application["spec"]["template"]
            assert template["mainApplicationFile"].endswith("/jobs/refresh.py")
            assert 'main(["refresh", *sys.argv[1:]])' in (JOBS / "refresh.py").read_text()
            return ["refresh", *template["arguments"]]
        case "systemd":
            unit = (CONF / "systemd" / "mnist-spark-refresh.service").read_text()
            (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
            words = shlex.split(line.partition("=")[2])
        case "cron":
            line, _, _ = crontab_line()[1].partition(" >")
            words = shlex.split(line)
        case "airflow":
            (task,) = request.getfixturevalue("dag")["tasks"]
            before, *words = shlex.split(task["__var"]["bash_command"])
            assert before == "exec"
    assert words[0].rpartition("/")[2] == "mnist-spark"
    return words[1:]


@pytest.mark.parametrize("command", DESCRIPTORS, indirect=True)
def test_command(command, parse):
    parse(command)


@pytest.mark.parametrize("command", DESCRIPTORS, indirect=True)
def test_a_misspelt_option_is_found(command, parse, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse([*command, "--no-such-option"])
    assert exit_.value.code == 2


def test_schedulers_get_what_they_can_work_with(bundle):
    """Machine-readable logs wherever something else than a person reads them."""
    for path in ("systemd/mnist-spark-refresh.service", "cron/mnist-spark.crontab"):
        text = (CONF / path).read_text()
        for option in ("--report", "--metrics", "--log-format json"):
            assert option in text


def test_wheel_task_fails_when_the_command_does(monkeypatch, tmp_path):
    """What Databricks does: it loads the entry point and calls it, whatever it returns."""
    setup = ConfigParser()
    setup.read(TOP / "setup.cfg")
    (line,) = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    name, _, value = line.partition(" = ")
    entry = EntryPoint(name, value, "console_scripts")
    assert name == "mnist-spark"
    monkeypatch.setattr("sys.argv", ["mnist_spark", "inspect", str(tmp_path / "missing")])
    with pytest.raises(SystemExit) as exit_:
        entry.load()()
    assert exit_.value.code == 1
    monkeypatch.setattr("sys.argv", ["mnist_spark", "datasets"])
    assert entry.load()() is None
