"""Plots of a dataset or of a table.

In: records. Out: matplotlib figures and PNG files. Runs on the driver.
"""
