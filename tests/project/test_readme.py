"""The examples of the READMEs run as they stand there, from top to bottom, on the real MNIST.

What can't run here is listed with the reason (``NOT_RUN``), and parsed instead.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from mnist_spark.cli import main as cli
from mnist_spark.refresh import metrics
from mnist_spark.spark import connector, session
from tests.support.documents import ALL, LANGUAGES, NOT_RUN, READMES, ROOT, blocks, read
from tests.support.fuse import needs_fuse


@pytest.fixture(scope="module")
def results(real_data, tmp_path_factory):
    """How each document's examples have fared, all in one process."""
    folder = tmp_path_factory.mktemp("examples")
    for role in ("images-idx3", "labels-idx1"):
        packed = real_data / "mnist" / f"t10k-{role}-ubyte.gz"
        with gzip.open(packed) as source, open(folder / f"a-{role}-ubyte", "wb") as target:
            shutil.copyfileobj(source, target)
    for name in ("conf", "jobs"):
        (folder / name).symlink_to(ROOT / name)
    environment = os.environ | {
        "MNIST_SPARK_SOURCE": str(real_data),  # a folder per dataset
        "MNIST_SPARK_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.examples", "results.json"],
        cwd=folder,
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=840,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "results.json").read_text())


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "document",
    [pytest.param(name, marks=needs_fuse if name == "README.md" else ()) for name in READMES],
)
def test_every_example_runs(results, document):
    assert results[document]["error"] is None, results[document]["error"]
    runnable = [each for each in ALL if each.document == document and each.reason is None]
    assert results[document]["ran"] == len(runnable)


def test_enough_examples_run():
    ran = [example for example in ALL if example.reason is None]
    assert len([example for example in ran if example.language == "python"]) >= 8
    assert len([example for example in ran if example.language == "shell"]) >= 13


def test_no_example_is_skipped_in_silence():
    for document in READMES:
        languages = {block.language for block in blocks(document)}
        assert languages <= LANGUAGES | {"text"}, document
        outside = re.sub(r"(?ms)^```.*?^```$", "", read(document))
        assert not re.search(r"(?m)^(    |\t)", outside), f"{document}: a block without a fence"
        for block in blocks(document):
            if block.language == "text":
                assert not re.search(r"(?m)^(import|from|\$|make|pip) ", block.text), block
    for part in NOT_RUN:
        assert any(part in example.text for example in ALL), f"nothing has {part!r} any more"


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{example}: {example.reason}")
        for example in ALL
        if example.reason is not None
    ],
)
def test_what_cannot_run_is_parsed(example, monkeypatch):
    if example.language == "python":
        compile(example.text, str(example), "exec")
    elif example.language == "promql":
        (name,) = re.findall(r"mnist_spark_\w+", example.text)
        assert name in metrics.__doc__
    elif example.words[0] == "make":
        expand = ["make", "--dry-run", *example.words[1:]]
        subprocess.run(expand, cwd=ROOT, check=True, capture_output=True, timeout=60)
    else:
        program, *arguments = example.words
        assert program == "spark-submit"
        job = arguments.index("jobs/ingest.py")
        parsed = []
        monkeypatch.setattr(cli, "guarded", lambda args: parsed.append(args) or 0)
        assert cli.main(["ingest", *arguments[job + 1 :]]) == 0
        (args,) = parsed
        if "--packages" in arguments:
            packages = arguments[arguments.index("--packages") + 1].split(",")
            wanted = [session.delta_package(), *connector.packages(args.target)]
            assert packages == wanted


def test_the_list_of_commands(capsys):
    """Each command and each option of it."""
    (listed,) = (b for b in blocks("README.md") if b.text.startswith("mnist-spark datasets "))
    commands = re.split(r"(?m)^mnist-spark ", listed.text)[1:]
    assert {command.split()[0] for command in commands} == set(cli.COMMANDS)
    for command in commands:
        with pytest.raises(SystemExit):
            cli.main([command.split()[0], "--help"])
        shown = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
        assert set(re.findall(r"\[(--[\w-]+)", command)) <= shown
