"""The asset bundle: its job by Databricks' SDK, its schedule by Quartz, its paths and variables.

The SDK's classes are generated from the interface that the bundle's jobs are sent to. The bundle's
own keys (``sync``, ``artifacts``, ``targets``) have an open schema nowhere: the CLI's is under a
licence for Databricks' customers. ``databricks bundle validate`` checks those, in a workspace.
"""

from __future__ import annotations

import copy
import os
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mnist_spark.refresh import reader
from tests.deploy.conftest import CONF, TOP

BUILT_IN = ("bundle.name", "bundle.target", "workspace.file_path")


@pytest.fixture
def jobs(bundle):
    return copy.deepcopy(bundle["resources"]["jobs"])


@pytest.fixture
def job(jobs):
    return jobs["mnist_refresh"]


def test_jobs_are_what_the_sdk_reads(jobs, judge):
    for job in jobs.values():
        assert judge("databricks_job", job) == job


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "max_concurrent_run", 1),
        (("tasks", 0), "retries", 3),
        (("tasks", 0, "python_wheel_task"), "parameter", ["ingest"]),
        (("environments", 0, "spec"), "dependency", ["numpy"]),
        (("schedule",), "pause_status", "RUNNING"),
        ((), "performance_target", "CHEAP"),
    ],
)
def test_the_sdk_finds_mistakes(job, judge, path, key, value):
    below = job
    for step in path:
        below = below[step]
    below[key] = value
    assert judge("databricks_job", job) != job


def test_schedule(job, quartz):
    schedule = job["schedule"]
    times = quartz.CronExpression(schedule["quartz_cron_expression"])
    assert not quartz.CronExpression.isValidExpression("17 3 * * *")
    assert quartz.CronExpression.isValidExpression(schedule["quartz_cron_expression"])
    assert times.getExpressionSummary().splitlines()[:3] == [
        "seconds: 0",
        "minutes: 17",
        "hours: 3",
    ]


def test_runs_end_and_are_tried_again(jobs):
    for job in jobs.values():
        (task,) = job["tasks"]
        tries = task["max_retries"]
        pauses = tries * task["min_retry_interval_millis"] / 1000
        assert tries >= 1
        assert job["max_concurrent_runs"] == 1
        assert (tries + 1) * task["timeout_seconds"] + pauses <= job["timeout_seconds"]


def test_serverless(jobs):
    """No cluster anywhere, and the wheel task in an environment that there is."""
    for job in jobs.values():
        (task,) = job["tasks"]
        assert "job_clusters" not in job
        assert not {"new_cluster", "existing_cluster_id", "job_cluster_key"} & task.keys()
        if "python_wheel_task" in task:
            environments = {each["environment_key"] for each in job["environments"]}
            assert task["environment_key"] in environments


def test_dependencies_are_pinned_as_tested(job):
    wheel, *pins = job["environments"][0]["spec"]["dependencies"]
    assert wheel == "../../dist/*.whl"
    tested = (CONF / "constraints.txt").read_text().splitlines()
    assert pins
    for pin in pins:
        assert pin in tested, f"conf/constraints.txt has another version than {pin}"


def test_dependencies_are_complete(job):
    """All that the package needs, but for what the environment brings."""
    setup = ConfigParser()
    setup.read(TOP / "setup.cfg")
    needed = {
        Requirement(line).name for line in setup["options"]["install_requires"].split("\n")[1:]
    }
    pinned = {Requirement(pin).name for pin in job["environments"][0]["spec"]["dependencies"][1:]}
    assert needed - pinned == {"numpy", "pyarrow"}


def test_paths(bundle, jobs):
    """What the bundle points at is there, and what the workspace needs of it is synchronized."""
    here = CONF / "databricks"
    synchronized = [(here / path).resolve() for path in bundle["sync"]["paths"]]
    # Paths in the workspace start at what the synchronized folders have in common.
    assert Path(os.path.commonpath(synchronized)) == TOP
    assert (here / bundle["artifacts"]["wheel"]["path"]).resolve() == TOP
    notebook = jobs["mnist_notebook"]["tasks"][0]["notebook_task"]
    path = (here / notebook["notebook_path"]).resolve()
    assert path.read_text().startswith("# Databricks notebook source\n")
    assert path.parent in synchronized
    widgets = re.findall(r"dbutils\.widgets\.\w+\(\s*\"(\w+)\"", path.read_text())
    assert notebook["base_parameters"].keys() <= set(widgets)


def test_configs(bundle, jobs):
    """Each target has a config, at the place that the job names, and refresh takes it."""
    parameters = jobs["mnist_refresh"]["tasks"][0]["python_wheel_task"]["parameters"]
    (config,) = (each.partition("=")[2] for each in parameters if each.startswith("--config="))
    assert config.startswith("${workspace.file_path}/")
    for target in bundle["targets"]:
        place = config.replace("${workspace.file_path}", str(TOP))
        tables = reader.load(Path(place.replace("${bundle.target}", target)))
        assert tables


def test_variables(bundle):
    """Each ``${…}`` is declared or Databricks' own, each variable used, each override declared."""
    text = (CONF / "databricks" / "databricks.yml").read_text()
    used = set(re.findall(r"\$\{([^}]*)\}", text))
    declared = {f"var.{name}" for name in bundle["variables"]}
    assert used - set(BUILT_IN) == declared
    for target in bundle["targets"].values():
        assert target.get("variables", {}).keys() <= bundle["variables"].keys()


def test_targets(bundle):
    targets = bundle["targets"]
    assert {name: target["mode"] for name, target in targets.items()} == {
        "dev": "development",
        "prod": "production",
    }
    assert [name for name, target in targets.items() if target.get("default")] == ["dev"]
    assert targets["prod"]["run_as"]
