"""What Spark, Java and Hadoop's connectors say of a failure, as one of our errors.

The one place that reads their text. They have classes and conditions for few of these failures,
and what a Python worker or a connector has raised reaches the driver as text in any case.
"""

from __future__ import annotations

import re

from mnist_spark import errors
from mnist_spark.errors import ConflictError, MnistSparkError, SparkError, TableError
from mnist_spark.spark import connector


def spark_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """PySpark's, py4j's for Java's errors that PySpark has no class for (Delta's conflicts)."""
    from pyspark.errors import PySparkException

    try:
        from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    except ImportError:  # PySpark for Spark Connect alone
        return PySparkException, *more
    return PySparkException, Py4JError, *more


def from_spark(error: Exception) -> MnistSparkError:
    """The error behind a failed Spark job: our own if an executor raised one, else Spark's.

    Spark hands errors of its Python workers on as text, the traceback's last line among it.
    """
    text = str(error)
    for name, line in reversed(re.findall(r"mnist_spark\.errors\.(\w+): (.+)", text)):
        cls = getattr(errors, name, None)
        if isinstance(cls, type) and issubclass(cls, MnistSparkError):
            return cls(line.strip())
    lacking = re.search(
        r"ModuleNotFoundError: No module named '[\w.]+'"
        r"|(?:ImportError: cannot import name|AttributeError: (?:Can't get|module)).*mnist_spark.*",
        text,
    )
    if lacking is not None:
        return SparkError(
            "an executor's Python lacks what this job needs",
            expected="numpy and pyarrow",
            got=lacking[0],
            hint="Name a Python that has it with PYSPARK_PYTHON, or hand it out with --py-files,"
            " spark.archives or addArtifacts",
        )
    if "delta.DefaultSource" in text or "Failed to find the data source: delta" in text:
        return SparkError(
            "the Spark session has no Delta Lake",
            hint="Use the writer columnar, which needs none, or give Spark Delta's jars",
        )
    program = re.search(r"Cannot run program \"([^\"]*)\".*", text)
    if program is not None:
        return SparkError(
            "an executor cannot start its Python",
            got=program[0],
            hint="Name one that every node has with PYSPARK_PYTHON (spark-submit:"
            " spark.pyspark.python)",
        )
    raised = re.findall(r"^\s*(?:[a-z_]+\.)*\w+(?:Error|Exception): .+", text, re.MULTILINE)
    if not raised:  # py4j's text begins with what was called, Java's causes come after it
        raised = re.findall(r"^(?:: |Caused by: )(\S+(?:Error|Exception): .+)", text, re.MULTILINE)
    if not raised:  # of a class that doesn't name itself
        raised = re.findall(r"^: (.+)", text, re.MULTILINE)
    return SparkError("Spark failed", got=raised[-1] if raised else first_line(error))


def first_line(error: object) -> str:
    """The first line of a message that has any text."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def from_write(error: Exception, target: str) -> MnistSparkError:
    """The error behind a failed write of a table: a conflict, a refusal, trouble with files."""
    found = from_spark(error)
    if isinstance(found, SparkError) and found.hint is None:
        return _table_error(str(error), target) or found
    return found


def _table_error(text: str, target: str) -> TableError | None:
    lacking = re.search(
        r'No FileSystem for scheme "[^"]*"|Class org\.apache\.hadoop\.fs\.\S+ not found'
        r"|NoClassDefFoundError: software/amazon/\S+",
        text,
    )
    if lacking is not None:
        wanted = ",".join(connector.packages(target))
        wanted = wanted or "the connector (hadoop-aws, hadoop-azure, gcs-connector)"
        return TableError(
            "this Spark has no Hadoop connector for the target",
            file=target,
            got=lacking[0],
            hint=f"Use --writer columnar, which needs none, or give Spark {wanted}",
        )
    if reason := _cloud_reason(text):
        return TableError("cannot write the table", file=target, got=reason)
    refused = re.search(r"\[(DELTA_\w+|TABLE_OR_VIEW_ALREADY_EXISTS)\b.*", text)
    if refused is None:
        causes = re.findall(r"Caused by: java\.(?:n?io\.\S+: |net\.)(.+)", text)
        if causes:
            return TableError("cannot write the table", file=target, got=causes[-1])
        return None
    if re.search("CONCURRENT|CHANGED|EXISTS|NON_EMPTY_LOCATION", refused[1]):
        return ConflictError(
            "the table was changed by others while this job was writing",
            file=target,
            got=refused[0],
            hint="Run the ingest again",
        )
    return TableError("Delta Lake refuses to write the table", file=target, got=refused[0])


def _cloud_reason(text: str) -> str | None:
    """What S3 or Azure answered, or that none was asked; None if it's no connector's error."""
    answer = re.search(r".*Exception: (.*?) ?\(Service: S3, Status Code: (\d+)", text)
    answer = answer or re.search(r'Operation failed: "([^"?]*).*?", (\d{3}),', text)
    if answer is not None:
        return f"HTTP {answer[2]} {answer[1]}".rstrip(" .")
    lacking = re.search("Unable to load credentials|Invalid configuration value .* fs.azure", text)
    return "no credentials" if lacking else None
