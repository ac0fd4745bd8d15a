"""The notebooks under ``jobs/``, run from top to bottom on the real MNIST."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from matplotlib.figure import Figure
from packaging.requirements import Requirement

from tests.support import browser, notebook_page, notebooks
from tests.support.notebook_page import Cell

ROOT = Path(__file__).resolve().parents[2]
DATABRICKS = ROOT / "jobs" / "databricks_mnist.py"


@pytest.fixture
def _folders(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_SPARK_SOURCE", str(real_data / "mnist"))
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))


def shown(cells, word, kind):
    """What the cell that has the word in it shows, as one MIME type."""
    (cell,) = (cell for cell in cells if word in cell.source)
    found = [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]
    assert len(found) == 1, cell.outputs
    return found[0]


def printed(cells, word):
    (cell,) = (cell for cell in cells if word in cell.source)
    return "".join(
        output.text
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )


def check_shown(cells):
    """What the quickstart has to show, in a fresh run and in what is stored."""
    card = shown(cells, "get_tabular_dataset", "text/html")
    assert "train 60,000, test 10,000" in card
    assert "data:image/png;base64," in card
    frame = shown(cells, "to_spark_dataframe", "text/html")
    assert frame.count("<tr>") == 1 + 10
    assert re.findall(r"<td>(\d+)</td>", frame)[:4] == ["0", "6903", "1", "7877"]
    for picture in ("plot_digits", "plot_labels", "plot_means"):
        assert shown(cells, picture, "image/png")
    assert "  writer     columnar" in printed(cells, "mnist_spark.ingest")
    assert "(60000, 28, 28)" in shown(cells, "images.shape", "text/plain")
    accuracy = re.match(r"([\d.]+)%", printed(cells, "accuracy"))
    assert float(accuracy[1]) > 90


@pytest.mark.usefixtures("_folders")
def test_quickstart(tmp_path, real_data):
    """A run in a kernel of this environment shows what is stored."""
    fresh = notebooks.code_cells(notebooks.execute(tmp_path, real_data / "mnist"))
    check_shown(fresh)
    assert (tmp_path / "lake" / "mnist" / "_delta_log").is_dir()
    stored = notebooks.code_cells(nbformat.read(notebooks.QUICKSTART, as_version=4))
    for cell, other in zip(fresh, stored, strict=True):
        for one, two in zip(notebooks.comparable(cell), notebooks.comparable(other), strict=True):
            assert notebooks.same(one, two), cell.source


def test_quickstart_is_stored_with_the_outputs_of_its_code():
    notebook = nbformat.read(notebooks.QUICKSTART, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.mnist_spark.code_sha256 == notebooks.code_digest(notebook), (
        "the code has changed: run python -m tests.support.notebooks"
    )
    cells = notebooks.code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    check_shown(cells)


def test_quickstart_can_be_read_anywhere():
    text = notebooks.QUICKSTART.read_text("utf-8")
    assert len(text) < 600_000
    without_pictures = re.sub(r'"[\w+/=]{200,}(\\n)?"', "", text)
    assert not re.search("/(tmp|root|Users|home/(?!you/))", without_pictures)
    assert socket.gethostname() + "/" not in text


class Databricks:
    """Stand-ins for ``dbutils``, ``display`` and the ``%`` lines; they remember what they got."""

    def __init__(self, **widgets: str) -> None:
        self._widgets = widgets
        self.defaults: dict[str, str] = {}
        self.displayed: list[object] = []
        self.cells: list[Cell] = []
        self.installed: list[Requirement] = []
        self.result: str | None = None
        self.dbutils = SimpleNamespace(
            widgets=SimpleNamespace(text=self._text, dropdown=self._dropdown, get=self._get),
            notebook=SimpleNamespace(exit=self._exit),
            library=SimpleNamespace(restartPython=lambda: None),
        )

    def run(self, path: Path, **names: object) -> None:
        """Runs the cells one after the other in one namespace."""
        first, text = path.read_text("utf-8").split("\n", 1)
        assert first == "# Databricks notebook source"
        names |= {"dbutils": self.dbutils, "display": self._display}
        for cell in text.split("# COMMAND ----------\n"):
            magic = [line[8:] for line in cell.splitlines() if line.startswith("# MAGIC")]
            if magic:
                shown = magic[1:] if magic[0].strip() == "%md" else magic
                self.cells.append(Cell("\n".join(shown), code=shown is magic))
                self._magic(magic)
                continue
            self.cells.append(Cell(cell, code=True))
            printed = _Printed(self.cells[-1].shown)
            try:
                with contextlib.redirect_stdout(printed):
                    exec(compile(cell, str(path), "exec"), names)
            except Exception as error:
                self.cells[-1].error = f"{type(error).__name__}: {error}"
                raise

    def _magic(self, lines: list[str]) -> None:
        if lines[0].startswith("%pip install "):
            wanted = lines[0].removeprefix("%pip install ")
            self.installed.append(Requirement(wanted.strip('"')))
        else:
            assert lines[0].strip() == "%md"

    def _text(self, name: str, default: str, label: str) -> None:
        self.defaults[name] = default

    def _dropdown(self, name: str, default: str, choices: list[str], label: str) -> None:
        assert default in choices
        assert self._widgets.get(name, default) in choices
        self.defaults[name] = default

    def _get(self, name: str) -> str:
        return self._widgets.get(name, self.defaults[name])

    def _exit(self, value: str) -> None:
        self.result = value
        self.cells[-1].shown.append(f"Notebook exited: {value}")

    def _display(self, what: object) -> None:
        if isinstance(what, Figure):
            what.savefig(io.BytesIO(), format="png")
            self.displayed.append(what)
        else:
            self.displayed.append([row.asDict() for row in what.collect()])
        self.cells[-1].shown.append(self.displayed[-1])


class _Printed(io.TextIOBase):
    """What a cell prints, among what it displays."""

    def __init__(self, shown: list[object]) -> None:
        self._shown = shown

    def write(self, text: str) -> int:
        if self._shown and isinstance(self._shown[-1], str):
            self._shown[-1] += text
        else:
            self._shown.append(text)
        return len(text)


@pytest.mark.usefixtures("_folders")
@pytest.mark.parametrize("kind", ["spark", "serverless"])
def test_databricks(kind, request, real_data):
    """On a dedicated cluster, whose session is a classic one, and on serverless compute.

    The run is left as a page, artifacts/databricks-….html, whatever becomes of it.
    """
    spark = request.getfixturevalue(kind)
    table = "spark_catalog.default.notebook"
    there = Databricks(table=table, layout="image", source=str(real_data / "mnist"))
    try:
        there.run(DATABRICKS, spark=spark)
    finally:
        facts = {
            "session": f"{type(spark).__module__}.{type(spark).__qualname__}",
            "DATABRICKS_RUNTIME_VERSION": os.environ.get("DATABRICKS_RUNTIME_VERSION", "not set"),
            "Spark": spark.version,
        }
        page = ROOT / "artifacts" / f"databricks-{kind}.html"
        notebook_page.write(page, f"{DATABRICKS.name} on {kind}", facts, there.cells)
        spark.sql(f"DROP TABLE IF EXISTS {table}")
    rows, counts, picture, properties, history = there.displayed
    assert [row["label"] for row in rows] == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert rows[0]["image"]["data"][:200].count(0) < 200
    assert sum(row["count"] for row in counts) == 70_000
    assert isinstance(picture, Figure)
    assert {"key": "mnist_spark.dataset", "value": "mnist"} in properties
    assert history[0]["operation"]
    assert there.result == f"70000 rows in {table}"
    assert there.defaults["source"] == ""
    (arrays,) = (cell for cell in there.cells if "load_table" in cell.source and cell.code)
    assert arrays.shown == ["(10000, 28, 28) (10000,) uint8\n"]
    text = page.read_text("utf-8")
    assert text.count("<section") == len(there.cells)
    assert text.count("<img") == 10 + 1
    assert f"Notebook exited: {there.result}" in text


def test_a_page_of_a_run_is_escaped(tmp_path):
    page = tmp_path / "run.html"
    hostile = "</pre><script>alert(1)</script>"
    cells = [
        Cell(hostile, code=True, shown=[hostile, [{hostile: hostile}], []]),
        Cell(hostile, code=False, error=hostile),
    ]
    notebook_page.write(page, hostile, {hostile: hostile}, cells)
    assert "<script" not in page.read_text("utf-8")
    document, _ = browser.browse(page, tmp_path)
    assert document.count("&lt;script&gt;") == 10


def test_databricks_asks_for_what_there_is_and_what_serverless_allows():
    there, config = Databricks(), ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    text = DATABRICKS.read_text("utf-8")
    for line in re.findall(r"^# MAGIC (%pip .+)", text, re.MULTILINE):
        there._magic([line])
    (requirement,) = there.installed
    assert requirement.name == config["metadata"]["name"]
    assert requirement.extras <= set(config["options.extras_require"])
    assert not re.search(r"sparkContext|\brdd\b|\.cache\(|\.persist\(|_jvm|_jdf", text)
