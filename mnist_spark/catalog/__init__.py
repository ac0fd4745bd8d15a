"""Which datasets there are, which files they have, which columns their tables get.

In: a dataset's name or its TOML file. Out: a dataset and the schema of its table.
Runs on the driver; executors use the schema.
"""
