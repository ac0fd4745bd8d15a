"""The DAG, found, serialized and run by the real Airflow, in ``.venv-deploy``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_spark.idx import sample
from tests.deploy.conftest import JOBS


def test_dag(dag):
    assert dag["timetable"]["__var"]["expression"] == "17 3 * * *"
    assert dag["timetable"]["__var"]["timezone"] == "UTC"
    assert dag["catchup"] is False
    assert dag["max_active_runs"] == 1
    assert dag["dagrun_timeout"] > 0


def test_task(dag):
    ((task,),) = [[task["__var"] for task in dag["tasks"]]]
    assert task["task_id"] == "refresh"
    assert task["retries"] >= 1
    assert task["retry_exponential_backoff"]
    # All tries, each up to its limit, with the longest pauses between, fit into a run's limit.
    tries = task["retries"] + 1
    longest = tries * task["execution_timeout"] + task["retries"] * task["max_retry_delay"]
    assert longest <= dag["dagrun_timeout"]


def test_airflow_finds_mistakes(tmp_path, judge):
    (tmp_path / "dag.py").write_text(
        (JOBS / "airflow_dag.py").read_text().replace("task_id=", "task_name=")
    )
    found = judge("airflow_dag", str(tmp_path / "dag.py"))
    assert found["dags"] == {}
    assert "task_id" in found["errors"][0]


@pytest.fixture(scope="module")
def airflow(tools, tmp_path_factory):
    """Runs the DAG once, as a scheduler would, with a refresh.toml; returns code and log."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    # A failure is final at once: the pause before the next try is minutes.
    text, changes = re.subn(
        r'"retries": \d+', '"retries": 0', (JOBS / "airflow_dag.py").read_text()
    )
    assert changes == 1
    (home / "dags" / "airflow_dag.py").write_text(text)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MNIST_SPARK_CACHE": str(home / "cache"),
    }

    def call(*args, **more):
        process = subprocess.run(
            [tools / "airflow", *args],
            check=False,
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return process.returncode, process.stdout

    code, log = call("db", "migrate")
    assert code == 0, log
    return lambda config: call(
        "dags", "test", "mnist_spark_refresh", AIRFLOW_VAR_MNIST_SPARK_CONFIG=str(config)
    )


def test_run(airflow, tmp_path):
    """Airflow's worker starts the installed command, and the table is there."""
    from deltalake import DeltaTable

    sample.write_sample(tmp_path / "sample", train=100, test=20)
    config = tmp_path / "refresh.toml"
    config.write_text(
        f'[tables.sample]\ndataset = "sample/dataset.toml"\ntarget = "{tmp_path / "table"}"\n'
    )
    code, log = airflow(config)
    assert code == 0, log
    assert DeltaTable(tmp_path / "table").version() >= 0


def test_failure_is_a_failure(airflow, tmp_path):
    missing = tmp_path / "missing.toml"
    code, log = airflow(missing)
    assert code != 0
    assert str(missing) in log
    assert "state=success" not in log
