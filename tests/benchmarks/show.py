"""Text for people: tables with aligned columns, medians with their spread."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

PACKAGES = ("mnist-spark", "pyspark", "delta-spark", "deltalake", "pyarrow", "pandas", "polars")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        others = (cell.rjust(w) for cell, w in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([first, *others]).rstrip()

    return "\n".join([line(heads), line(["-" * w for w in widths]), *map(line, rows)])


def spread(values: Sequence[float]) -> str:
    """Median, smallest and largest."""
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def ratio(value: float | None, base: float | None) -> str:
    """How many times."""
    return "-" if not value or not base else f"{value / base:.2f}×"


def median(values: Sequence[float]) -> float | None:
    """None for no values."""
    return statistics.median(values) if values else None


def megabytes(count: float) -> str:
    """Decimal megabytes."""
    return f"{count / 1e6:,.0f}" if count >= 1e8 else f"{count / 1e6:,.1f}"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cores": psutil.cpu_count(),
        "cpu": _cpu(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "java": _java(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def machine_line() -> str:
    """The same in one line."""
    seen = machine()
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{seen['cores']} cores ({seen['cpu']}), {memory:.0f} GiB, Python {seen['python']}, "
        f"Java {seen['java']}, {packages}"
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _java() -> str:
    from mnist_spark.spark.java import find_java

    run = subprocess.run(
        [f"{find_java()}/bin/java", "-version"], capture_output=True, text=True, check=True
    )
    return run.stderr.split('"')[1]
