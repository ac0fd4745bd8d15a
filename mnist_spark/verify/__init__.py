"""Proves that a table holds exactly its source: table → bytes → the same SHA-256.

In: a table. Out: a report of findings.
Runs on the driver or, with a master, on executors.
"""

from mnist_spark.verify.findings import Problem, SplitReport, VerifyReport, What
from mnist_spark.verify.run import verify

__all__ = ["Problem", "SplitReport", "VerifyReport", "What", "verify"]
