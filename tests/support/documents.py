"""The project's documents, and the examples in them: which run, which can't, and why not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

READMES = (
    "README.md",
    "jobs/README.md",
    "conf/README.md",
    "mnist_spark/README.md",
    "tests/README.md",
)
DOCUMENTS = (*READMES, "SECURITY.md", "CHANGELOG.md")

LANGUAGES = {"python", "shell", "console", "toml", "promql"}
"""What is an example. ``text`` is for drawings, output and the list of commands."""

NOT_RUN = {
    "make ": "it installs things, and runs these tests: make only expands its recipe",
    "spark-submit --master spark://": "needs a cluster: tests/cluster runs ingests on one",
    'target="main.default.mnist"': "needs Databricks: tests/jobs runs the notebook",
    "--target s3a://": "needs Amazon's S3: tests/storage runs it with moto's",
    "torch.utils.data": "needs PyTorch, which nothing else here does",
    "time() - ": "needs Prometheus: tests/refresh reads the metrics",
}
"""Part of an example that can't run here → the reason."""


@dataclass(frozen=True)
class Example:
    """A Python block, a shell command, a console session with its output, a TOML file …"""

    document: str
    line: int
    language: str
    text: str

    @property
    def reason(self) -> str | None:
        """Why it can't run here; None if it can."""
        reasons = [reason for part, reason in NOT_RUN.items() if part in self.text]
        return reasons[0] if reasons else None

    @property
    def words(self) -> list[str]:
        """A shell command's words, without variables before it and comments after it."""
        words = shlex.split(re.sub(r"\s#.*", "", self.text))
        while "=" in words[0]:
            del words[0]
        return words

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def read(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


def blocks(document: str) -> Iterator[Example]:
    """All fenced blocks."""
    text = read(document)
    for block in re.finditer(r"(?ms)^```(\w*)\n(.*?)^```$", text):
        line = text.count("\n", 0, block.start()) + 2
        yield Example(document, line, block[1], block[2])


def examples(document: str) -> Iterator[Example]:
    """The blocks that are examples; of ``shell`` each command."""
    for block in blocks(document):
        if block.language == "shell":
            for command in block.text.replace("\\\n", "").splitlines():
                yield Example(document, block.line, "shell", command)
        elif block.language in LANGUAGES:
            yield block


ALL = [example for document in READMES for example in examples(document)]
