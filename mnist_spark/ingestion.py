"""The main job: source → checked payloads → record ranges → table, with a report."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mnist_spark._version import __version__
from mnist_spark.catalog import dataset as catalog
from mnist_spark.catalog.schema import Layout, catalog_schema
from mnist_spark.download.inputs import Inputs
from mnist_spark.download.split import Steps, download, unpack
from mnist_spark.errors import UsageError, one_of
from mnist_spark.ranges.plan import SplitSize, plan_ranges
from mnist_spark.ranges.transport import Transport, choose_transport
from mnist_spark.spark import session
from mnist_spark.table.job import WriteJob
from mnist_spark.table.report import IngestReport, SourceFile
from mnist_spark.table.target import Target
from mnist_spark.table.write import Format, Writer, choose_writer, write

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark.sql import SparkSession


def ingest(
    dataset: str = "mnist",
    *,
    target: str | os.PathLike[str],
    source: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    split: str | Iterable[str] = catalog.ALL_SPLITS,
    format: str = "delta",  # noqa: A002 - Spark's own word
    layout: str = Layout.COLUMNS,
    writer: str = Writer.AUTO,
    transport: str = Transport.AUTO,
    staging: str | os.PathLike[str] | None = None,
    ranges: int | None = None,
    master: str | None = None,
    force: bool = False,
    transaction: int | None = None,
    batch: bool = False,
    spark: SparkSession | None = None,
) -> IngestReport:
    """Writes a dataset into a table. On any failure the old table is still there, whole.

    Only what fails after the commit leaves the new version; the error then says its number.

    Args:
        dataset: name in the catalog, or a TOML file that describes a dataset.
        target: path, URL, or ``schema.table``. If it is a table of the same dataset and layout,
            it is replaced in one transaction.
        source: folder or base URL instead of the catalog's mirrors; default, for a dataset of the
            catalog, ``$MNIST_SPARK_SOURCE``.
        cache: cache folder; default ``$MNIST_SPARK_CACHE`` or the platform's.
        split: ``all``, or the splits to write; the table's other splits stay as they are.
        format: ``delta`` or ``parquet``.
        layout: ``columns``, ``binary``, ``array`` or ``image``.
        writer: ``columnar``: executors write files, the driver commits them; ``spark``: Spark's
            own writer; ``auto``: columnar where it can be used, else spark.
        transport: ``shared``: executors open the payloads by path; ``inline``: the bytes travel
            inside the tasks; ``auto``: shared with a local master or a staging location, else
            inline.
        staging: folder or URL that all nodes reach, where the payloads are put, once, under their
            digests; ``mnist-spark unstage`` removes them.
        ranges: number of record ranges; default: from size and parallelism.
        master: Spark master, if there is no session yet; default ``local[*]``.
        force: replace a table that isn't ours, or of another dataset or layout.
        transaction: for schedulers that may run twice, a number that grows from write to write of
            a Delta table: if the table has this one or a later one, nothing is written, and that
            is an error.
        batch: nothing else will run in the embedded session, see :mod:`mnist_spark.spark.session`.
        spark: session to use; default: the active one, else an embedded local one.

    Raises:
        MnistSparkError: see :mod:`mnist_spark.errors`; every failure has its own class.
    """
    found = catalog.find(dataset)
    wanted = found.select(split)
    schema = catalog_schema(found, one_of(Layout, "layout", layout))
    place, table_format = Target.parse(os.fspath(target)), one_of(Format, "format", format)
    choice = choose_writer(one_of(Writer, "writer", writer), place, table_format)
    if transaction is not None and table_format != Format.DELTA:
        raise UsageError("only Delta tables have transactions", got=f"format {table_format}")
    if ranges is not None and ranges < 1:
        raise UsageError("number of ranges", expected="1 or more", got=ranges)
    steps = Steps()
    inputs = Inputs.chosen(source, cache, dataset=dataset)
    with steps("download"):
        fetched = download(found, wanted, inputs)
    with steps("session"), session.lasting():
        needs_delta = (table_format, choice.writer) == (Format.DELTA, Writer.SPARK)
        # Spark's own writer does its work in the JVM, which then needs its compiler.
        brief = batch and choice.writer == Writer.COLUMNAR
        spark = spark or session.session(
            master, delta=needs_delta, tables=[place.text], batch=brief
        )
        local, parallelism = session.is_local(spark), session.parallelism(spark)
    staging = None if staging is None else os.fspath(staging)
    payload_bytes = sum(file.payload_size for each in wanted for file in each.files)
    way = choose_transport(transport, local=local, staging=staging, payload_bytes=payload_bytes)
    planned = plan_ranges(
        [SplitSize(each.name, each.records, schema.record_bytes) for each in wanted],
        parallelism=parallelism,
        count=ranges,
        max_bytes=way.range_bytes,
    )
    # Planned before, so that the pass that checks the payloads digests the ranges too.
    stops = {each.name: [r.stop for r in planned if r.split == each.name] for each in wanted}
    prepared = unpack(found, wanted, fetched, inputs, stops=stops, steps=steps)
    with steps("write"), session.lasting():
        job = WriteJob(
            target=place,
            dataset=found,
            schema=schema,
            splits=prepared,
            ranges=planned,
            parallelism=parallelism,
            force=force,
            transport=way,
            staging=staging,
            transaction=transaction,
        )
        written = write(spark, job, table_format, choice)
    return IngestReport(
        dataset=found.name,
        generated=found.generated,
        target=str(place),
        format=table_format,
        layout=schema.layout,
        writer=choice.writer,
        writer_reason=choice.reason,
        table_version=written.version,
        table_files=written.files,
        table_bytes=written.bytes,
        rows={s.name: s.pair.records for s in prepared},
        classes=found.classes,
        label_counts={s.name: s.label_counts for s in prepared},
        transport=way.transport,
        transport_reason=way.reason,
        ranges=[str(r) for r in planned],
        tasks=written.tasks,
        payload_bytes=payload_bytes,
        downloaded_bytes=sum(s.downloaded for s in prepared),
        sources=[
            SourceFile(s.name, p.file.name, p.url, p.file.sha256, p.sha256)
            for s in prepared
            for p in s.payloads
        ],
        seconds=dict(steps),
        package_version=__version__,
        run_id=job.run_id,
    )
