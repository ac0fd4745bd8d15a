"""Spark: the session, functions that run on executors, the data sources idx and mnist.

In: tasks. Out: rows or written files. Runs on the driver and hands work to executors.
"""
