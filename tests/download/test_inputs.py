"""Where files come from and which cache keeps them, as the user, the environment or nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnist_spark.download.inputs import Inputs


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MNIST_SPARK_SOURCE", "https://host/data/")
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))


def test_the_environment_is_for_datasets_of_the_catalog(tmp_path, monkeypatch):
    assert Inputs.chosen(dataset="mnist") == Inputs("https://host/data/", tmp_path / "cache")
    assert Inputs.chosen(dataset="own.toml") == Inputs(None, tmp_path / "cache")
    assert Inputs.chosen() == Inputs(None, tmp_path / "cache")
    monkeypatch.setenv("MNIST_SPARK_SOURCE", "")
    assert Inputs.chosen(dataset="mnist").source is None


@pytest.mark.parametrize("dataset", ["mnist", "own.toml", None])
@pytest.mark.parametrize("kind", [str, Path])
def test_what_is_chosen_comes_first(tmp_path, dataset, kind):
    found = Inputs.chosen(kind(tmp_path / "in"), kind(tmp_path / "c"), dataset=dataset)
    assert found == Inputs(str(tmp_path / "in"), tmp_path / "c")


def test_an_empty_source_is_not_the_environments(tmp_path):
    # It is a mistake, which the download tells.
    assert Inputs.chosen("", dataset="mnist").source == ""
