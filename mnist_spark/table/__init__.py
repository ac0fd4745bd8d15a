"""Files become one commit; what a table says of itself; reading it.

In: written files. Out: a version of a Delta or Parquet table. Runs on the driver.
"""
