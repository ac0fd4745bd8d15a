"""What can be said of sessions without starting one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from mnist_spark.errors import IdxError, SparkError
from mnist_spark.spark import failures, session
from mnist_spark.spark.java import find_java

ROOT = Path(__file__).resolve().parents[2]


def java(home: Path, version: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").touch(mode=0o755)
    (home / "release").write_text(f'IMPLEMENTOR="X"\nJAVA_VERSION="{version}"\n')
    return home


def test_java_home_wins(tmp_path, monkeypatch):
    home = java(tmp_path / "21", "21.0.4")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert find_java() == str(home)


@pytest.mark.parametrize("version", ["11.0.2", "25", "1.8.0_402"])
def test_a_java_that_spark_does_not_run_on(tmp_path, monkeypatch, version):
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path / "jdk", version)))
    with pytest.raises(SparkError, match="expected Java 17 or 21, got .*Install a JDK") as caught:
        find_java()
    assert version.split(".")[0] in str(caught.value)


def test_java_on_the_path(tmp_path, monkeypatch):
    home = java(tmp_path / "17", "17.0.9")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(home / "bin" / "java")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_java() == str(home)


def defaults() -> dict[str, str]:
    lines = (ROOT / "conf" / "spark-defaults.conf").read_text("utf-8").splitlines()
    pairs = (line.split(None, 1) for line in lines if line and not line.startswith("#"))
    return {key: value.strip() for key, value in pairs}


def test_spark_defaults_are_the_embedded_sessions_settings():
    package = {"spark.jars.packages": session.delta_package()}
    assert defaults() == session.SETTINGS | session.DELTA_SETTINGS | package


@pytest.mark.parametrize("name", ["log4j2.properties", "spark-defaults.conf"])
def test_settings_are_in_one_file(name):
    assert (ROOT / "conf" / name).samefile(Path(session.__file__).with_name(name))


def test_the_pinned_versions_are_those_of_the_settings():
    pins = (ROOT / "conf" / "constraints.txt").read_text("utf-8").splitlines()
    version = session.delta_package().rpartition(":")[2]
    assert f"delta_spark=={version}" in pins
    assert all(pin.startswith("#") or "==" in pin for pin in pins)


PYTHON_FAILURE = """[PYTHON_EXCEPTION] An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "worker.py", line 1, in read
    raise ValueError("first")
ValueError: first

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
{last}
 SQLSTATE: 38000
"""


def test_our_error_comes_back_from_an_executor():
    line = "trailing bytes (file a.idx): expected 10 bytes, got 11 bytes"
    text = PYTHON_FAILURE.format(last=f"mnist_spark.errors.IdxError: {line}")
    error = failures.from_spark(RuntimeError(text))
    assert type(error) is IdxError
    assert str(error) == line


def test_another_error_comes_back_as_its_last_line():
    text = PYTHON_FAILURE.format(last="ZeroDivisionError: division by zero")
    error = failures.from_spark(RuntimeError(text))
    assert type(error) is SparkError
    assert str(error) == "Spark failed: got ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    "last",
    [
        "ModuleNotFoundError: No module named 'numpy'",
        "ModuleNotFoundError: No module named 'mnist_spark'",
        "ImportError: cannot import name 'trace' from 'mnist_spark' (/x/mnist_spark/__init__.py)",
        "AttributeError: Can't get attribute 'RangePartition' on <module 'mnist_spark.source'>",
    ],
)
def test_a_missing_package_says_what_to_do(last):
    error = failures.from_spark(RuntimeError(PYTHON_FAILURE.format(last=last)))
    assert type(error) is SparkError
    assert last in str(error)
    assert "--py-files" in str(error)


def test_an_error_of_the_jvm_comes_back_as_its_first_line():
    text = "[PATH_NOT_FOUND] Path does not exist: file:/x.\n\tat org.apache.spark.A\n\tat B"
    error = failures.from_spark(RuntimeError(text))
    assert str(error) == "Spark failed: got [PATH_NOT_FOUND] Path does not exist: file:/x."


def test_a_java_error_says_its_cause():
    """As py4j tells of an exception for which PySpark has no class."""
    text = """An error occurred while calling o142.overwrite.
: org.apache.spark.SparkException: Job aborted.
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2935)
Caused by: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)
\tat org.apache.spark.api.python.BasePythonRunner.read(PythonRunner.scala:650)
Caused by: java.io.EOFException
\t... 24 more
"""
    error = failures.from_spark(RuntimeError(text))
    assert str(error) == (
        "Spark failed: got org.apache.spark.SparkException:"
        " Python worker exited unexpectedly (crashed)"
    )


def test_a_session_without_delta_lake():
    error = failures.from_spark(
        RuntimeError("o42.sql.\n: java.lang.ClassNotFoundException: delta.DefaultSource")
    )
    assert str(error).startswith("the Spark session has no Delta Lake. Use the writer columnar")


@pytest.mark.parametrize(
    ("settings", "cores", "local"),
    [
        ({"spark.master": "local[2]"}, 2, True),
        ({"spark.master": "local-cluster[2,1,1024]", "spark.cores.max": "3"}, 3, False),
        ({"spark.master": "spark://host:7077", "spark.executor.instances": "3"}, 3, False),
        ({}, 1, False),
    ],
)
def test_what_a_master_says(settings, cores, local):
    told = SimpleNamespace(conf=SimpleNamespace(get=settings.get))
    assert session.parallelism(told) == cores
    assert session.is_local(told) is local
