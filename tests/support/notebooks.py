"""The quickstart: run in a kernel, and stored with what its cells have shown.

``python -m tests.support.notebooks`` runs it and stores the outputs; MNIST's files are where
``MNIST_SPARK_SOURCE`` says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import socket
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from matplotlib.image import imread
from nbclient import NotebookClient

QUICKSTART = Path(__file__).resolve().parents[2] / "jobs" / "quickstart.ipynb"
HOME = "/home/you"
"""What stored outputs have in place of the folder that the notebook ran in."""

_VARYING = re.compile(r"(?m)^  (table|ranges|tasks|source|seconds) .*\n")
"""Lines of a summary that depend on the machine."""
_PICTURE = re.compile(r"data:image/png;base64,[\w+/=]+")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def code_digest(notebook: Any) -> str:
    """Of the code, so that outputs say which code has made them."""
    sources = json.dumps([cell.source for cell in code_cells(notebook)])
    return hashlib.sha256(sources.encode()).hexdigest()


def made_public(outputs: Any, folder: Path, source: Path) -> Any:
    """A cell's outputs without what is this machine's: its folders and its name."""
    known = {str(source): f"{HOME}/files", str(folder): HOME, f"{socket.gethostname()}/": "laptop/"}
    if isinstance(outputs, str):
        for own, public in known.items():
            outputs = outputs.replace(own, public)
        return outputs
    if isinstance(outputs, list):
        return [made_public(each, folder, source) for each in outputs]
    if isinstance(outputs, dict):
        return nbformat.from_dict(
            {
                key: each if key == "image/png" else made_public(each, folder, source)
                for key, each in outputs.items()
            }
        )
    return outputs


def execute(folder: Path, source: Path) -> Any:
    """The notebook after a run in a kernel of this environment, in that folder."""
    notebook = nbformat.read(QUICKSTART, as_version=4)
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place).execute()
    for cell in code_cells(notebook):
        cell.outputs = made_public(cell.outputs, folder, source)
    return notebook


def store(notebook: Any) -> None:
    """Keeps what cells have shown."""
    for cell in code_cells(notebook):
        cell.metadata = {}
        # Progress bars and the JVM's warnings are not what a reader wants to see.
        cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata["mnist_spark"] = {"code_sha256": code_digest(notebook)}
    nbformat.validate(notebook)
    nbformat.write(notebook, QUICKSTART)


def comparable(cell: Any) -> list[object]:
    """What a cell has shown, as far as it's the same in every run on every machine."""
    shown: list[object] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stdout":
                shown.append(_VARYING.sub("", re.sub(r"→ .*", "→", output.text)))
            continue
        data = output.data
        if "image/png" in data:
            shown.append(imread(BytesIO(base64.b64decode(data["image/png"]))))
        else:
            shown.append(_PICTURE.sub("", data.get("text/html") or data["text/plain"]))
    return shown


def same(one: object, other: object) -> bool:
    """Texts are equal, but for percentages; pictures nearly, as fonts differ a little."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and float(np.abs(one - other).mean()) < 0.02
    percentage = re.compile(r"\d\d\.\d%")
    return percentage.sub("", str(one)) == percentage.sub("", str(other))


def main() -> None:
    source = Path(os.environ["MNIST_SPARK_SOURCE"]).absolute()
    os.environ["MNIST_SPARK_SOURCE"] = str(source)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MNIST_SPARK_CACHE"] = str(folder / "cache")
        store(execute(folder, source))
    print(f"{QUICKSTART}: {QUICKSTART.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
