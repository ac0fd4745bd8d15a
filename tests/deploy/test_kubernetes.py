"""The ScheduledSparkApplication by the operator's definition and models, the image by hadolint."""

from __future__ import annotations

import subprocess

import pyspark
import pytest

from mnist_spark import __version__
from mnist_spark.refresh import reader
from tests.deploy.conftest import CONF

MISTAKES = [
    (("spec",), "timezone", "UTC"),
    (("spec", "template", "restartPolicy"), "retries", 3),
    (("spec", "template"), "type", "Pyhton"),
    (("spec", "template", "driver"), "cores", "1"),
    (("spec", "template", "driver", "securityContext"), "runAsRoot", False),
]


def broken(application, path, key, value):
    below = application
    for step in path:
        below = below[step]
    below[key] = value
    return application


@pytest.fixture
def errors(judge, custom_resources):
    definition = custom_resources / "sparkoperator.k8s.io_scheduledsparkapplications.yaml"
    return lambda application: judge(
        "custom_resource", {"definition": str(definition), "object": application}
    )


def test_custom_resource(application, errors):
    assert errors(application) == []


@pytest.mark.parametrize(("path", "key", "value"), MISTAKES)
def test_the_definition_finds_mistakes(application, errors, path, key, value):
    found = errors(broken(application, path, key, value))
    assert any(str(key) in error or str(value) in error for error in found)


def test_models(application, judge):
    """As the definition, for where there is no Go to fetch it: unknown keys, wrong types."""
    assert judge("spark_operator_models", application) == application
    misspelt = broken(application, *MISTAKES[0])
    assert judge("spark_operator_models", misspelt) != misspelt


def test_schedule(application, judge):
    times = judge("cron", application["spec"]["schedule"])
    assert times == ["2026-01-01T03:17:00+00:00", "2026-01-02T03:17:00+00:00"]
    assert application["spec"]["timeZone"] == "UTC"
    assert application["spec"]["concurrencyPolicy"] == "Forbid"


def test_versions(application):
    template = application["spec"]["template"]
    assert template["sparkVersion"] == pyspark.__version__
    assert template["image"].endswith(f":{__version__}")
    dockerfile = (CONF / "kubernetes" / "Dockerfile").read_text()
    assert f"FROM apache/spark:{pyspark.__version__} " in dockerfile
    assert template["image"] in dockerfile


def test_the_lake_is_mounted_where_the_tables_and_the_cache_are(manifests, tmp_path):
    config_map, application = manifests
    template = application["spec"]["template"]
    mounts = {
        role: {mount["name"]: mount["mountPath"] for mount in template[role]["volumeMounts"]}
        for role in ("driver", "executor")
    }
    assert mounts["driver"]["lake"] == mounts["executor"]["lake"]
    volumes = {volume["name"]: volume for volume in template["volumes"]}
    assert mounts["driver"].keys() == volumes.keys()
    assert volumes["config"]["configMap"]["name"] == config_map["metadata"]["name"]
    assert config_map["metadata"]["namespace"] == application["metadata"]["namespace"]
    arguments = dict(argument.removeprefix("--").split("=") for argument in template["arguments"])
    assert arguments["cache"].startswith(mounts["driver"]["lake"] + "/")
    ((name, text),) = config_map["data"].items()
    assert arguments["config"] == f"{mounts['driver']['config']}/{name}"
    for table in reader.parse(text, tmp_path / name):
        assert table.target.text.startswith(mounts["driver"]["lake"] + "/")


def test_dockerfile(application, tools):
    dockerfile = CONF / "kubernetes" / "Dockerfile"
    process = subprocess.run(
        [tools / "hadolint", dockerfile], check=False, capture_output=True, text=True
    )
    assert (process.returncode, process.stdout) == (0, "")
    folder, _, file = application["spec"]["template"]["mainApplicationFile"].rpartition("/")
    assert f" jobs/{file} {folder.removeprefix('local://')}/\n" in dockerfile.read_text()
