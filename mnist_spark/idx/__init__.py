"""The IDX format: header, elements, pairs of images and labels; the generated sample.

In: bytes of an IDX file. Out: numpy arrays. Runs on the driver and on executors.
"""
