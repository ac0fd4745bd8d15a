"""MNIST, and any dataset in its format, as a Delta or Parquet table."""

from mnist_spark._version import __version__

__all__ = ["__version__"]
