"""A task's bytes become Arrow record batches or a Parquet file.

In: a task. Out: record batches, or a file and its statistics.
Runs on executors, which need numpy and pyarrow only.
"""
