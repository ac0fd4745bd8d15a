"""Published files: downloaded, checked against their digests, unpacked into the cache.

In: a dataset of the catalog. Out: payloads on the driver's disk.
Runs on the driver.
"""
