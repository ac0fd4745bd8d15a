"""Spark's settings: ``spark-defaults.conf`` beside this module, which ``conf/`` links to."""

from __future__ import annotations

from importlib import resources

_DELTA_PREFIXES = ("spark.jars.", "spark.sql.extensions", "spark.sql.catalog.", "spark.databricks.")


def _defaults() -> dict[str, str]:
    lines = resources.files(__package__).joinpath("spark-defaults.conf").read_text("utf-8")
    pairs = (line.split(None, 1) for line in lines.splitlines() if line and line[0] != "#")
    return {key: value.strip() for key, value in pairs}


DELTA_SETTINGS = {k: v for k, v in _defaults().items() if k.startswith(_DELTA_PREFIXES)}
"""What Delta Lake needs."""

SETTINGS = {k: v for k, v in _defaults().items() if k not in DELTA_SETTINGS}
"""The others."""

DELTA_PACKAGE = DELTA_SETTINGS.pop("spark.jars.packages")
"""Maven coordinates of the Delta Lake that fits the pinned Spark."""
