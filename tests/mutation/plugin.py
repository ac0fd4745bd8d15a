"""A plugin of pytest for mutation tests: quick tests first, no search for a smaller example."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest
from hypothesis import Phase, settings

CPU_SECONDS = 30  # of a mutant's tests; not of the clock, which a busy machine would falsify

settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    phases=[Phase.explicit, Phase.generate],
)


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """After tests/conftest.py, which loads another profile."""
    settings.load_profile("mutation")


def pytest_sessionstart() -> None:
    if "__mutmut_" in os.environ.get("MUTANT_UNDER_TEST", ""):
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, most))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    stats = Path("mutmut-stats.json")
    if stats.exists():
        seconds = json.loads(stats.read_text())["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, 0))
