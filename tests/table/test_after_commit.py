"""What goes wrong after the commit: the error says that the new version is there, and its number.

And what others have noted in the table's history, which the writer ``spark`` reads for its own run.
"""

from __future__ import annotations

from functools import partial

import pytest
from deltalake import CommitProperties, DeltaTable

from mnist_spark.errors import ConflictError, TableError
from mnist_spark.history import history
from tests.support.processes import until
from tests.support.tables import dataset_of, difference, expected, normal


@pytest.fixture
def write(write):
    return partial(write, writer="spark")


def test_notes_of_others_in_the_history(write, tmp_path):
    path = tmp_path / "t"
    first = write(path, transaction=1)
    for text in ("mine", '["mnist_spark"]', "7", '{"run": 7}', ""):
        DeltaTable(path).alter.set_table_properties(
            {"others": f"note {text}"},
            raise_if_not_exists=False,
            commit_properties=CommitProperties(custom_metadata={"userMetadata": text}),
        )
    # Delta passes over a transaction that the table has; so our commit isn't the latest.
    by = f"version {first.table_version}, by run {first.run_id}"
    with pytest.raises(ConflictError, match=f"another run has written the table.*{by}"):
        write(path, transaction=1)


def test_a_commit_that_counts_no_rows(write, spark, narrow, tmp_path):
    path, key = tmp_path / "t", "spark.databricks.delta.history.metricsEnabled"
    spark.conf.set(key, "false")
    try:
        with pytest.raises(TableError, match="the new version 1 of the table is committed, but"):
            write(path)
    finally:
        spark.conf.unset(key)
    assert history(path)[0].version == 1
    assert not difference(normal(dataset_of(path).to_table()), expected(narrow.dataset, "binary"))


def test_the_jvm_killed_after_the_commit(drivers, narrow, tmp_path):
    (driver,), path = drivers.take(1), tmp_path / "t"
    options = {"dataset": narrow.description, "cache": narrow.cache, "layout": "binary"}
    driver.start(target=path, writer="spark", **options)
    commit = path / "_delta_log" / f"{1:020}.json"
    until(commit.exists, "the commit", pause=0.002)
    next(process for process in driver.tree() if "java" in process.name()).kill()
    answer = driver.answer()
    driver.kill()
    if "error" in answer:
        assert "the new version 1 of the table is committed, but" in answer["line"]
    else:
        assert answer["table_version"] == 1
    assert not difference(normal(dataset_of(path).to_table()), expected(narrow.dataset, "binary"))
