"""The command mnist-spark, a module per command.

In: arguments. Out: text and an exit code. Runs on the driver.
"""
