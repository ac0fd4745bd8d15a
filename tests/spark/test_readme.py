"""The README's Python runs as it stands there, from top to bottom, on the real MNIST."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

from tests.fuse import needs_fuse

README = Path(__file__).resolve().parents[2] / "README.md"


@needs_fuse
def test_every_python_block(spark, real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_SPARK_SOURCE", str(real_data / "mnist"))
    monkeypatch.setenv("MNIST_SPARK_CACHE", str(tmp_path / "cache"))
    for role in ("images-idx3", "labels-idx1"):
        packed = real_data / "mnist" / f"t10k-{role}-ubyte.gz"
        with gzip.open(packed) as source, open(f"a-{role}-ubyte", "wb") as target:
            shutil.copyfileobj(source, target)
    blocks = re.findall(
        r"^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert len(blocks) >= 4
    names: dict[str, Any] = {"spark": spark}
    for block in blocks:
        # Fashion-MNIST's files are elsewhere than MNIST's, and the JVM has started elsewhere.
        text = block.replace('"fashion-mnist"', '"mnist"').replace('"a-', f'"{tmp_path}/a-')
        exec(compile(text, "README.md", "exec"), names)
    assert "60,000" in capsys.readouterr().out
    assert names["images"].shape == (60_000, 28, 28)
    assert names["X"].shape == (60_000, 784)
    assert names["train"].count() == 60_000
    assert names["mine"].count() == 10_000
