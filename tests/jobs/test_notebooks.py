"""The notebooks under ``jobs/``, run from top to bottom on the real MNIST."""

from __future__ import annotations

import io
import re
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "jobs" / "quickstart.ipynb"
DATABRICKS = ROOT / "jobs" / "databricks_mnist.py"


@pytest.fixture
def _folders(real_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_SPARK_SOURCE", str(real_data / "mnist"))
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def executed(_folders, tmp_path):
    """The quickstart's code cells after a run in a kernel of this environment."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells, word, kind):
    """What the cell that has the word in it shows, as one MIME type."""
    (cell,) = (cell for cell in cells if word in cell.source)
    found = [output.data[kind] for output in cell.outputs if kind in output.get("data", {})]
    assert len(found) == 1, cell.outputs
    return found[0]


def printed(cells, word):
    (cell,) = (cell for cell in cells if word in cell.source)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def test_quickstart(executed, tmp_path):
    card = shown(executed, "get_tabular_dataset", "text/html")
    assert "train 60,000, test 10,000" in card
    assert "data:image/png;base64," in card
    frame = shown(executed, "to_spark_dataframe", "text/html")
    assert frame.count("<tr>") == 1 + 10
    assert re.findall(r"<td>(\d+)</td>", frame)[:4] == ["0", "6903", "1", "7877"]
    for picture in ("plot_digits", "plot_labels", "plot_means"):
        assert shown(executed, picture, "image/png")
    assert "writer columnar" in printed(executed, "mnist_spark.ingest")
    assert (tmp_path / "lake" / "mnist" / "_delta_log").is_dir()
    accuracy = re.match(r"([\d.]+)%", printed(executed, "accuracy"))
    assert float(accuracy[1]) > 90


def test_quickstart_is_committed_without_outputs():
    notebook = nbformat.read(QUICKSTART, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


class Databricks:
    """Stand-ins for ``dbutils``, ``display`` and the ``%`` lines; they remember what they got."""

    def __init__(self, **widgets: str) -> None:
        self._widgets = widgets
        self.defaults: dict[str, str] = {}
        self.displayed: list[object] = []
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
            magic = [line[8:] for line in cell.splitlines() if line.startswith("# MAGIC ")]
            if magic:
                self._magic(magic)
            else:
                exec(compile(cell, str(path), "exec"), names)

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

    def _display(self, what: object) -> None:
        if isinstance(what, Figure):
            what.savefig(io.BytesIO(), format="png")
            self.displayed.append(what)
        else:
            self.displayed.append([row.asDict() for row in what.collect()])


@pytest.mark.usefixtures("_folders")
@pytest.mark.parametrize("kind", ["spark", "serverless"])
def test_databricks(kind, request, real_data):
    """On a dedicated cluster, whose session is a classic one, and on serverless compute."""
    spark = request.getfixturevalue(kind)
    table = "spark_catalog.default.notebook"
    there = Databricks(table=table, layout="image", source=str(real_data / "mnist"))
    try:
        there.run(DATABRICKS, spark=spark)
    finally:
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
