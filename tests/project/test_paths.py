"""Every public function that takes a path takes it as a ``str`` and as any ``os.PathLike``."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

import mnist_spark
from mnist_spark import history, upkeep
from mnist_spark.catalog import dataset as catalog
from mnist_spark.errors import MnistSparkError
from mnist_spark.opendatasets.files import FileDataset
from mnist_spark.opendatasets.tabular import TabularDataset
from mnist_spark.verify import verify
from tests.support.idxfiles import random_pair, write_dataset

PATHS = {
    "cache", "filename", "folder", "mount_point", "path", "source", "staging", "target",
    "target_path", "what",
}  # fmt: skip


class Somewhere(os.PathLike):
    """A path that is no :class:`pathlib.Path`."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __fspath__(self) -> str:
        return self._path


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """All that can be called, with the methods of public classes and of what they return."""
    found = [getattr(mnist_spark, name) for name in mnist_spark.__all__]
    for each in (*found, FileDataset, TabularDataset, verify, upkeep.optimize, upkeep.vacuum,
                 history.history):  # fmt: skip
        if inspect.isclass(each):
            for name, member in inspect.getmembers(each, callable):
                if not name.startswith("_") and not inspect.isclass(member):
                    yield f"{each.__name__}.{name}", member
        elif callable(each):
            yield each.__name__, each


def parameters() -> Iterator[tuple[str, str, object]]:
    """Function, parameter and type of each that takes a path."""
    for name, function in functions():
        module = inspect.getmodule(function)
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in PATHS:
                names = vars(module) | {"os": os, "TabularDataset": TabularDataset}
                yield name, parameter.name, eval(parameter.annotation, names)


def test_paths_are_found():
    found = {(function, parameter) for function, parameter, _ in parameters()}
    assert found >= {
        ("ingest", "target"), ("ingest", "source"), ("ingest", "cache"), ("ingest", "staging"),
        ("write_sample", "folder"), ("load_data", "filename"), ("preview", "what"),
        ("IngestReport.write", "path"), ("MNIST.get_file_dataset", "cache"),
        ("FileDataset.download", "target_path"), ("FileDataset.mount", "mount_point"),
        ("verify", "target"), ("vacuum", "target"), ("history", "target"),
    }  # fmt: skip


@pytest.mark.parametrize(("function", "parameter", "annotation"), list(parameters()))
def test_annotations(function, parameter, annotation):
    kinds = typing.get_args(annotation)
    assert str in kinds
    assert os.PathLike[str] in kinds


def test_no_other_parameter_is_a_path_alone():
    for name, function in functions():
        for parameter in inspect.signature(function).parameters.values():
            assert "Path" not in str(parameter.annotation).replace("PathLike", ""), name


@pytest.mark.parametrize("kind", [str, Path, Somewhere])
def test_calls(tmp_path, monkeypatch, kind):
    dataset = mnist_spark.write_sample(kind(tmp_path / "sample"), train=10, test=10)
    assert dataset == catalog.find(str(tmp_path / "sample" / "dataset.toml"))
    name = dataset.splits[0].images.name
    assert mnist_spark.load_data(kind(tmp_path / "sample" / name)).shape == (10, 784)

    tiny = write_dataset(tmp_path / "in", {"train": random_pair(4, 3, 2)}, name="mnist")
    monkeypatch.setattr(catalog, "find", lambda name: tiny)
    where = {"source": kind(tmp_path / "in"), "cache": kind(tmp_path / "cache")}
    files = mnist_spark.MNIST.get_file_dataset(**where).download(kind(tmp_path / "copy"))
    assert files == [str(tmp_path / "copy" / f"train-{role}.gz") for role in ("images", "labels")]
    rows = mnist_spark.MNIST.get_tabular_dataset(**where)
    assert len(rows.to_pandas_dataframe()) == 4


@pytest.mark.parametrize("kind", [str, Path, Somewhere])
def test_errors_name_the_path(tmp_path, kind):
    table, nothing, week = tmp_path / "t", tmp_path / "nothing", timedelta(days=7)
    for call in (verify, history.history, upkeep.optimize, partial(upkeep.vacuum, retention=week)):
        with pytest.raises(MnistSparkError, match=f"{table}\\b"):
            call(kind(table))
    with pytest.raises(MnistSparkError, match=f"{nothing}/"):
        mnist_spark.ingest(target=kind(table), source=kind(nothing), cache=kind(tmp_path / "c"))


@pytest.mark.parametrize("kind", [str, Path, Somewhere])
def test_reports_are_written(tmp_path, kind):
    empty = {field.name: {} for field in fields(mnist_spark.IngestReport)}
    report = mnist_spark.IngestReport(**(empty | {"tasks": [], "sources": []}))
    report.write(kind(tmp_path / "report.json"))
    assert (tmp_path / "report.json").read_text("utf-8").startswith("{")
