"""Judges that need packages of ``.venv-deploy``, in a process of its Python.

A line of stdin is a question: ``["judge", …]`` in JSON. The line of stdout that answers it has the
``verdict``, or the ``error`` that the judge raised.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path


def databricks_job(job):
    """What Databricks' SDK keeps of a job: it drops misspelt keys and unknown values of enums."""
    from databricks.sdk.service.jobs import JobSettings

    return JobSettings.from_dict(job).as_dict()


def spark_operator_models(application):
    """What the operator's published Python models keep of it; they raise on wrong types."""
    from kubeflow_spark_api import models

    return models.SparkV1beta2ScheduledSparkApplication.from_dict(application).to_dict()


def custom_resource(question):
    """Errors of an object by a CustomResourceDefinition, as the API server's strict validation."""
    import jsonschema
    import yaml

    definition = yaml.load(Path(question["definition"]).read_text(), yaml.CSafeLoader)
    assert definition["spec"]["group"] == question["object"]["apiVersion"].partition("/")[0]
    assert definition["spec"]["names"]["kind"] == question["object"]["kind"]
    (version,) = (
        version
        for version in definition["spec"]["versions"]
        if version["name"] == question["object"]["apiVersion"].partition("/")[2]
    )
    schema = version["schema"]["openAPIV3Schema"]
    _refuse_unknown(schema["properties"]["spec"])
    errors = jsonschema.Draft4Validator(schema).iter_errors(question["object"])
    return [f"{error.json_path}: {error.message}" for error in errors]


def _refuse_unknown(schema):
    # Structural schemas leave unknown fields to the API server, which drops or refuses them.
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for below in list(schema.values()):
            _refuse_unknown(below)
    elif isinstance(schema, list):
        for below in schema:
            _refuse_unknown(below)


def cron(expression):
    """The next two times after the start of 2026, by a parser that does as Debian's cron."""
    from cronsim import CronSim

    times = CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
    return [next(times).isoformat(), next(times).isoformat()]


def airflow_dag(path):
    """The DAGs of a file, as Airflow's processor finds and serializes them."""
    # Airflow reads its settings as it is imported, and logs on stdout.
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stdout(sys.stderr):
        os.environ.update(AIRFLOW_HOME=home, AIRFLOW__CORE__LOAD_EXAMPLES="False")
        from airflow.dag_processing.dagbag import DagBag
        from airflow.serialization.serialized_objects import DagSerialization

        bag = DagBag(dag_folder=path)
        dags = {name: DagSerialization.to_dict(dag) for name, dag in bag.dags.items()}
        for dag in dags.values():
            DagSerialization.validate_schema(dag)
        return {"errors": list(bag.import_errors.values()), "dags": dags}


def main():
    for line in sys.stdin:
        name, question = json.loads(line)
        try:
            answer = {"verdict": globals()[name](question)}
        except Exception as error:  # noqa: BLE001
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
