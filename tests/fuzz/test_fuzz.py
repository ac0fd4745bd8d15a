"""The fuzzers in short: the same random mutations every time, and all that ever crashed."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.mutate import cases
from tests.fuzz.targets import TARGETS, Target, execute

REGRESSIONS = Path(__file__).parent / "regressions"
CASES = {"decode": 800, "inflate": 800, "catalog": 250, "refresh": 300, "cli": 70, "ranges": 30}


def run_all(target: Target, inputs: list[bytes]) -> Counter[str]:
    tracemalloc.start()
    try:
        with target.sandbox():
            outcomes: Counter[str] = Counter()
            for data in inputs:
                try:
                    outcomes[execute(target, data)] += 1
                except BaseException as error:
                    error.add_note(f"input: {data!r}")
                    raise
            return outcomes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TARGETS)
def test_random_mutations(name):
    target = TARGETS[name]
    inputs = cases(target.seeds(), target.tokens, random.Random(8))
    outcomes = run_all(target, list(islice(inputs, CASES.get(name, 2000))))
    # Neither is all refused nor is nothing.
    assert outcomes["ok"] > 0
    assert name == "origin" or outcomes.total() > outcomes["ok"]


@pytest.mark.parametrize("name", TARGETS)
def test_what_once_crashed(name):
    inputs = [path.read_bytes() for path in sorted((REGRESSIONS / name).glob("*"))]
    run_all(TARGETS[name], inputs)


def test_regressions_belong_to_targets():
    assert {path.name for path in REGRESSIONS.iterdir() if path.is_dir()} <= set(TARGETS)
