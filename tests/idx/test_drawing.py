"""The digits of a sample are drawn as ever; without the bank that test_sample.py keeps."""

from __future__ import annotations

import hashlib

from mnist_spark.idx import digits


def test_the_first_block():
    """It changes only if digits are drawn differently: see GOLDEN in test_sample.py."""
    images, labels = next(digits.blocks(1024, 0, 0))
    found = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert found == "f840a191888990658e4d3977b6e9e7063733210ca8de33ef14d59f860250e094"
