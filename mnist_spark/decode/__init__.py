"""A task's bytes become Arrow record batches or a Parquet file; a table's files, rows again.

In: a task. Out: record batches, or a file and its statistics.
Runs on executors, which need numpy and pyarrow only: the code travels with the tasks.
"""
