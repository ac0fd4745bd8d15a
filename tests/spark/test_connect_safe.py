"""The library asks for nothing that Spark Connect lacks; ``tests/cluster`` runs it there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mnist_spark

CLASSIC_ONLY = {"sparkContext", "rdd", "_sc", "_jvm", "_jsparkSession", "_jsc", "_jdf"}


def asked_for(text: str) -> set[str]:
    """Of these, the attributes that a module's code names, strings among them."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant):
            names.add(node.value)
    return names & CLASSIC_ONLY


@pytest.mark.parametrize("text", ["spark._jvm.x", "frame.rdd.map(f)", "getattr(frame, '_jdf')"])
def test_it_would_be_noticed(text):
    assert asked_for(text)


def test_nothing_that_only_classic_sessions_have():
    modules = list(Path(mnist_spark.__file__).parent.rglob("*.py"))
    assert len(modules) > 50
    assert {path: found for path in modules if (found := asked_for(path.read_text("utf-8")))} == {}
