"""Hadoop's connectors to cloud storage, for the writer ``spark``: their jars and their settings.

Spark has none of them. No setting holds a credential: the connectors read these in the environment.
"""

from __future__ import annotations

import os

from mnist_spark.storage.options import CONNECT_SECONDS
from mnist_spark.storage.urls import scheme

# For the Hadoop that Spark brings. Of Amazon's SDK, in the version that the connector was built
# with, what it needs instead of one jar with all services.
_PACKAGES = {
    "4.2": {
        "s3": (
            "org.apache.hadoop:hadoop-aws:3.5.0",
            "software.amazon.awssdk:s3-transfer-manager:2.35.4",
            "software.amazon.awssdk:sts:2.35.4",  # roles: of a profile, of Kubernetes' accounts
        ),
        "azure": ("org.apache.hadoop:hadoop-azure:3.5.0",),
    }
}
_CLOUDS = {"s3": "s3", "s3a": "s3", "abfs": "azure", "abfss": "azure"}


def spark_version() -> str:
    """Major and minor version of the installed pyspark, which jars are chosen by."""
    import pyspark

    return ".".join(pyspark.__version__.split(".")[:2])


def packages(url: str) -> tuple[str, ...]:
    """Maven coordinates of the URL's connector for the installed pyspark; empty if unknown."""
    known = _PACKAGES.get(spark_version(), {})
    return known.get(_cloud(url), ())


def settings(url: str) -> dict[str, str]:
    """What the connector has to be told so that the environment which serves the others serves it.

    obstore and delta-rs see region and endpoint in ``AWS_*`` by themselves, and an account's key
    or SAS token in ``AZURE_STORAGE_*``.
    """
    found: dict[str, str] = {}
    match _cloud(url):
        case "s3":
            found = _s3()
        case "azure":
            found = _azure()
    return {f"spark.hadoop.fs.{key}": value for key, value in found.items()}


def _cloud(url: str) -> str:
    return _CLOUDS.get(scheme(url), "")


def _s3() -> dict[str, str]:
    found = {
        "s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        # The connector's own choice leaves out AWS_PROFILE and the credentials file.
        "s3a.aws.credentials.provider": "software.amazon.awssdk.auth.credentials"
        ".DefaultCredentialsProvider",
        # Each is tried as often as the other says, and all that by Delta again: with what Hadoop
        # sets it takes more than three minutes to tell that a port is closed, so some ten seconds.
        "s3a.attempts.maximum": "3",
        "s3a.retry.limit": "2",
        "s3a.connection.establish.timeout": f"{CONNECT_SECONDS}s",
    }
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        found["s3a.endpoint"] = endpoint
        # As delta-rs: other servers than Amazon's rarely have a host name for each bucket.
        found["s3a.path.style.access"] = "true"
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        found["s3a.endpoint.region"] = region
    return found


def _azure() -> dict[str, str]:
    found = {
        "azure.io.retry.max.retries": "3",  # of 30, which take a quarter of an hour
        "azure.ssl.channel.mode": "Default_JSSE",
    }
    # Hadoop itself puts in the variable's value, and only where it is used.
    if os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        found["azure.account.auth.type"] = "SAS"
        found["azure.sas.fixed.token"] = "${env.AZURE_STORAGE_SAS_TOKEN}"
    elif os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        found["azure.account.key"] = "${env.AZURE_STORAGE_ACCOUNT_KEY}"
    return found
