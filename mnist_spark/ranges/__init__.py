"""Who reads what: record ranges, the tasks that read them, how their bytes travel.

In: payloads. Out: tasks. Runs on the driver.
"""
