"""The workflow of Azure Open Datasets: tabular datasets, files, mounts.

In: MNIST and its relatives. Out: DataFrames, folders. Runs on the driver.
"""
