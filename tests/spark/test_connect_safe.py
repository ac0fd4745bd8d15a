"""The library touches nothing that Spark Connect lacks: it raises here when the library asks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql.classic.dataframe import DataFrame
from pyspark.sql.session import SparkSession

import mnist_spark
from mnist_spark import ingest, register
from mnist_spark.verify import verify

LIBRARY = str(Path(mnist_spark.__file__).parent)
CLASSIC_ONLY = {
    SparkSession: ("sparkContext", "_sc", "_jvm", "_jsparkSession", "_jsc"),
    DataFrame: ("rdd", "_jdf", "_sc"),
}


class Guard:
    """An attribute that code of the library may not read; PySpark itself and the tests may."""

    def __init__(self, cls: type, name: str) -> None:
        self._name = name
        self._original = cls.__dict__.get(name)

    def __get__(self, instance: Any, owner: type) -> Any:
        if sys._getframe(1).f_code.co_filename.startswith(LIBRARY):
            raise AssertionError(f"the library asks for {self._name}")
        if instance is None:
            return self
        if self._original is not None:
            return self._original.__get__(instance, owner)
        try:
            return instance.__dict__[self._name]
        except KeyError:
            raise AttributeError(self._name) from None

    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self._name] = value


@pytest.fixture
def guarded(spark, monkeypatch):
    for cls, names in CLASSIC_ONLY.items():
        for name in names:
            monkeypatch.setattr(cls, name, Guard(cls, name), raising=False)
    return spark


def test_the_guard_guards(guarded):
    frame = guarded.range(1)
    for text in ("spark.sparkContext", "spark._jvm", "frame.rdd"):
        with pytest.raises(AssertionError, match="the library asks for"):
            eval(compile(text, f"{LIBRARY}/x.py", "eval"), {"spark": guarded, "frame": frame})
    assert guarded.sparkContext.master == "local[2]"


@pytest.mark.parametrize("writer", ["columnar", "spark"])
@pytest.mark.parametrize("transport", ["shared", "inline"])
def test_ingest_and_verify(guarded, tiny, tmp_path, writer, transport):
    report = ingest(
        tiny.description,
        target=tmp_path / "t",
        cache=tiny.cache,
        writer=writer,
        transport=transport,
        layout="binary",
        spark=guarded,
    )
    assert (report.writer, report.transport) == (writer, transport)
    found = verify(str(tmp_path / "t"), dataset=tiny.description, spark=guarded)
    assert found.ok, found.summary()


def test_data_sources(guarded, tiny):
    register(guarded)
    options = {"dataset": tiny.description, "cache": str(tiny.cache), "layout": "binary"}
    assert guarded.read.format("mnist").options(**options).load().count() == 3500
