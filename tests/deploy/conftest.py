"""The descriptors, and the tools that judge them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
CONF = TOP / "conf"
JOBS = TOP / "jobs"

VENV = TOP / ".venv-deploy"
QUARTZ = "2.5.0"
SPARK_OPERATOR = "github.com/kubeflow/spark-operator/v2@v2.5.0"


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of the tools' commands."""
    if not (VENV / "installed").is_file():
        pytest.skip("no tools to judge deployments: make deploy-tools")
    return VENV / "bin"


@pytest.fixture(scope="session")
def judge(tools: Path, tmp_path_factory) -> Iterator[Callable[[str, object], Any]]:
    """Asks one of ``judges.py``; a ValueError is an error of the judge's."""
    log = tmp_path_factory.mktemp("judges") / "log"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [tools / "python", Path(__file__).with_name("judges.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):

        def judge(name: str, question: object) -> Any:
            print(json.dumps([name, question]), file=process.stdin, flush=True)
            line = process.stdout.readline()
            assert line, log.read_text()
            answer = json.loads(line)
            if "error" in answer:
                raise ValueError(answer["error"])
            return answer["verdict"]

        yield judge
        process.stdin.close()


@pytest.fixture(scope="session")
def custom_resources(tools: Path, tmp_path_factory) -> Path:
    """The Spark operator's CustomResourceDefinitions, of its Go module."""
    if shutil.which("go") is None:
        pytest.skip("needs go, to fetch the Spark operator's CustomResourceDefinitions")
    process = subprocess.run(
        ["go", "mod", "download", "-json", "-modcacherw", SPARK_OPERATOR],
        check=False,
        env={
            "PATH": str(Path(shutil.which("go")).parent),
            "HOME": str(tmp_path_factory.mktemp("home")),
            "GOMODCACHE": str(VENV / "go"),
        },
        cwd=tmp_path_factory.mktemp("go"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    module = Path(json.loads(process.stdout)["Dir"])
    return module / "charts" / "spark-operator-chart" / "crds"


@pytest.fixture(scope="session")
def quartz(tools: Path, tmp_path_factory):
    """``org.quartz`` in a JVM."""
    import pyspark
    from py4j.java_gateway import JavaGateway

    from mnist_spark.spark.java import find_java

    java = str(Path(find_java()) / "bin" / "java")
    jars = Path(pyspark.__file__).parent / "jars"
    jar = VENV / "quartz" / f"quartz-{QUARTZ}.jar"
    if not jar.exists():
        (ivy,) = jars.glob("ivy-*.jar")
        cache = tmp_path_factory.mktemp("ivy")
        into = f"{jar.parent}/[artifact]-[revision].[ext]"
        options = f"-notransitive -confs default -dependency org.quartz-scheduler quartz {QUARTZ}"
        subprocess.run(
            [java, "-jar", ivy, *options.split(), "-cache", cache, "-retrieve", into],
            check=True,
            capture_output=True,
            timeout=120,
        )
    (py4j,) = jars.glob("py4j-*.jar")
    gateway = JavaGateway.launch_gateway(
        classpath=str(jar), jarpath=str(py4j), java_path=java, die_on_exit=True
    )
    yield gateway.jvm.org.quartz
    gateway.shutdown()


@pytest.fixture(scope="session")
def bundle() -> dict[str, Any]:
    return yaml.safe_load((CONF / "databricks" / "databricks.yml").read_text())


@pytest.fixture
def manifests() -> list[dict[str, Any]]:
    """The ConfigMap and the ScheduledSparkApplication."""
    text = (CONF / "kubernetes" / "scheduled-refresh.yaml").read_text()
    return list(yaml.safe_load_all(text))


@pytest.fixture
def application(manifests) -> dict[str, Any]:
    return manifests[1]


@pytest.fixture(scope="session")
def dag(judge) -> dict[str, Any]:
    """The Airflow DAG, serialized."""
    found = judge("airflow_dag", str(JOBS / "airflow_dag.py"))
    assert found["errors"] == []
    ((name, serialized),) = found["dags"].items()
    assert name == "mnist_spark_refresh"
    return serialized["dag"]


def crontab_line() -> tuple[str, str]:
    """The schedule and the command of the crontab's one entry."""
    (line,) = (
        line
        for line in (CONF / "cron" / "mnist-spark.crontab").read_text().splitlines()
        if line[:1].isdigit()
    )
    fields = line.split(maxsplit=5)
    return " ".join(fields[:5]), fields[5]
