"""Runs the examples of the READMEs as they stand there, from top to bottom, in one Spark session.

``python -m tests.support.examples results.json``, in a folder where they may write. The Python of
a document shares its names, and all documents share the folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from mnist_spark.cli.main import main
from mnist_spark.spark.session import session
from tests.support.documents import READMES, Example, examples

AFTER = {
    "README.md": """
assert images.shape == (60_000, 28, 28)
assert X.shape == (60_000, 784)
assert train.count() == 60_000
assert mine.count() == 10_000
assert "train 60,000" in report.summary()
assert (pixels == mnist.to_numpy()[0]).all()
assert (digits == mnist.to_numpy()[1]).all()
""",
    "jobs/README.md": "assert images.shape == (10_000, 28, 28)",
}
"""What a document's Python must have come to."""


def run(example: Example, names: dict[str, Any]) -> None:
    match example.language:
        case "python":
            # As many lines before it as in the document, for tracebacks.
            code = "\n" * (example.line - 1) + example.text
            exec(compile(code, example.document, "exec"), names)
        case "shell":
            _command(example.words)
        case "console":
            _console(example.text)
        case "toml":
            name = example.text.partition("\n")[0].removeprefix("# ")
            Path(name).write_text(example.text, "utf-8")
        case other:
            raise AssertionError(f"cannot run {other}")


def _command(words: list[str]) -> None:
    program, *arguments = words
    if program == "mnist-spark":
        assert main(arguments) == 0
        return
    assert program == "spark-submit", program
    subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
        check=True,
    )


def _console(text: str) -> None:
    """A command after ``$`` and its output, which is right but for seconds and the folder."""
    prompt, _, expected = text.partition("\n")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        _command(prompt.removeprefix("$ ").split())
    got = printed.getvalue().replace(f"{Path.cwd()}/", "").rstrip() + "\n"
    seconds = re.compile(r"\d+\.\d+ s\b")
    assert seconds.sub("… s", got) == seconds.sub("… s", expected), got


def run_all() -> dict[str, dict[str, Any]]:
    """Document → how many examples have run, and the traceback of one that failed."""
    spark = session("local[2]", delta=True)
    results: dict[str, dict[str, Any]] = {}
    for document in READMES:
        names: dict[str, Any] = {"spark": spark}
        result = results[document] = {"ran": 0, "error": None}
        try:
            for example in examples(document):
                if example.reason is None:
                    print(f"--- {example}", file=sys.stderr, flush=True)
                    run(example, names)
                    result["ran"] += 1
            exec(AFTER.get(document, ""), names)
        except (Exception, SystemExit):  # noqa: BLE001 - an example may raise anything
            result["error"] = traceback.format_exc()
    return results


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(run_all()), "utf-8")
