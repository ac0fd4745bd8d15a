"""What the documents name exists: links, headings, files, tests, functions, targets of make."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.support.documents import DOCUMENTS, READMES, ROOT, read

TESTS = {
    document: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read(document)) for document in DOCUMENTS
}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HOUSE = ROOT / "mnist_spark"


def functions(path: Path) -> set[str]:
    """Functions, and methods as ``Class.method``."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)}
    return found


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```$", "", document.read_text("utf-8"))
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document):
    for link in LINK.findall(read(document)):
        if re.match(r"https?:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / document).parent / file if file else ROOT / document
        assert target.exists(), link
        assert target.resolve().is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_tests(document):
    for file, name in TESTS[document]:
        assert name in functions(ROOT / file), f"{file} has no {name}"
        assert name.startswith("test_")


def test_security_claims_nothing_without_a_test():
    assert len(TESTS["SECURITY.md"]) > 25


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files(document):
    """Paths in code style, from the top of the checkout or, in a folder's README, from there."""
    own = (ROOT / document).parent
    tops = {path.name for path in (*ROOT.iterdir(), *own.iterdir()) if path.is_dir()}
    tops -= {"data", "artifacts", "dist", "build"}
    for name in re.findall(r"`([\w.@-]+(?:/[\w.@-]+)*/?)`", read(document)):
        is_python = name.endswith((".py", ".ipynb"))
        if is_python or ("/" in name and name.partition("/")[0] in tops):
            assert (ROOT / name).exists() or (own / name).exists(), name


def test_rooms_are_drawn_and_described():
    text = read("mnist_spark/README.md")
    drawing, table = re.search(r"(?s)## The rooms.*?```text(.*?)```(.*?)\n## ", text).groups()
    rooms = {path.parent.name for path in HOUSE.glob("*/__init__.py")}
    assert set(re.findall(r"\b([a-z_]+)/(?= |\n)", drawing)) == rooms
    assert set(re.findall(r"`([a-z_]+)/`", table.partition("\n\nA room's")[0])) == rooms


def test_way_of_one_pixel():
    """Each step has a file of the package and a function in it."""
    text = read("mnist_spark/README.md")
    steps = re.findall(r"(?m)^\| (\d+) \| \w+ \| `([^`]+)` \| `([^`]+)` \|", text)
    assert [int(number) for number, _, _ in steps] == list(range(1, len(steps) + 1))
    assert len(steps) > 20
    for number, file, function in steps:
        assert function in functions(HOUSE / file), f"step {number}: {file} has no {function}"
    beside = re.search(r"(?s)With the writer `spark`, steps.*?\n\n", text)[0]
    for file, function in re.findall(r"`([\w/]+\.py)` \(`(\w+)`\)", beside):
        assert function in functions(HOUSE / file), f"{file} has no {function}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_of_the_package(document):
    """``mnist_spark.room.name`` in code style."""
    for name in re.findall(r"`(mnist_spark(?:\.\w+)+)\b", read(document)):
        found = importlib.import_module("mnist_spark")
        parts = name.split(".")
        for i, part in enumerate(parts[1:], 2):
            if not hasattr(found, part):
                importlib.import_module(".".join(parts[:i]))
            found = getattr(found, part)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_of_make(document):
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    text = " ".join(read(document).split())
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets


def test_readme_is_short_and_leads_to_the_rest():
    assert read("README.md").count("\n") <= 300
    links = LINK.findall(read("README.md"))
    assert {*READMES, "SECURITY.md", "CHANGELOG.md"} - {"README.md"} <= set(links)
