"""SECURITY.md claims nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
CITED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def test_the_tests_that_are_named_exist():
    assert len(CITED) > 25
    for file, name in CITED:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{file} has no {name}"
        assert name.startswith("test_")


def test_other_files_that_are_named_exist():
    for name in re.findall(r"`((?:tests|conf)/[\w./-]+)`", TEXT):
        assert (ROOT / name).exists(), name
