"""Which Java the embedded session starts."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from mnist_spark.errors import SparkError

JAVA_VERSIONS = (17, 21)
"""What Spark 4 runs on."""


def find_java() -> str:
    """The home of a Java that Spark 4 runs on: JAVA_HOME's, the PATH's, or an installed one.

    Returns:
        the folder that ``JAVA_HOME`` should name.

    Raises:
        SparkError: none is found; says which were and what to install.
    """
    if os.environ.get("JAVA_HOME"):
        homes = [Path(os.environ["JAVA_HOME"])]
    else:
        on_path = shutil.which("java")
        homes = [Path(on_path).resolve().parents[1]] if on_path else []
        # Where Debian, Ubuntu, Fedora, SUSE and macOS install JDKs.
        homes += sorted(Path("/usr/lib/jvm").glob("*"))
        homes += sorted(Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home"))
    versions = {home: _java_version(home) for home in homes}
    for home, version in versions.items():
        if version in JAVA_VERSIONS:
            return str(home)
    found = ", ".join(f"{v} in {home}" for home, v in versions.items() if v)
    raise SparkError(
        "no fitting Java",
        expected="Java 17 or 21",
        got=found or ("none in JAVA_HOME" if os.environ.get("JAVA_HOME") else "none"),
        hint="Install a JDK 17 or 21 (Debian: apt-get install openjdk-17-jre-headless), "
        "or point JAVA_HOME at one",
    )


def _java_version(home: Path) -> int | None:
    """The major version from the file ``release``, which every JDK since 9 has in its home."""
    try:
        release = (home / "release").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    match = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(match[1]) if match and (home / "bin" / "java").exists() else None
