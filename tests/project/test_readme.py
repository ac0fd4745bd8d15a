"""The README's Python runs as it stands there, from top to bottom, on the real MNIST."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.fuse import needs_fuse

README = Path(__file__).resolve().parents[2] / "README.md"

BEFORE = """
from mnist_spark.spark.session import session
spark = session("local[2]")
"""
AFTER = """
assert images.shape == (60_000, 28, 28)
assert X.shape == (60_000, 784)
assert train.count() == 60_000
assert mine.count() == 10_000
print("README: done")
"""


@needs_fuse
def test_every_python_block(real_data, tmp_path):
    for role in ("images-idx3", "labels-idx1"):
        packed = real_data / "mnist" / f"t10k-{role}-ubyte.gz"
        with gzip.open(packed) as source, open(tmp_path / f"a-{role}-ubyte", "wb") as target:
            shutil.copyfileobj(source, target)
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", README.read_text("utf-8"))
    assert len(blocks) >= 4
    script = tmp_path / "readme.py"
    # Fashion-MNIST's files are elsewhere than MNIST's.
    text = "\n".join([BEFORE, *blocks, AFTER]).replace('"fashion-mnist"', '"mnist"')
    script.write_text(text, "utf-8")
    environment = os.environ | {
        "MNIST_SPARK_SOURCE": str(real_data / "mnist"),
        "MNIST_SPARK_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(README.parent),
    }
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "train 60,000" in done.stdout
    assert done.stdout.endswith("README: done\n")
