"""Mutation tests: changes the code in many small ways, and counts the changes that no test notices.

mutmut makes the mutants and runs the tests. A room's mutants are tried by that room's tests without
Spark, and of these by those that reach the changed function. All happens in copies of the checkout
under ``artifacts/mutation``, where each room's survivors are listed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst as cst
import tomli_w
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

CHECKOUT = Path(__file__).resolve().parents[2]
WORK = CHECKOUT / "artifacts" / "mutation"
HERE = Path(__file__).parent
NEEDED = ("mnist_spark", "tests", "conf", "jobs", "README.md", "pyproject.toml", "setup.cfg")

# mutmut leaves decorated functions alone. These decorators can be applied after the function.
LATER = {"property", "cached_property", "functools.cached_property"}
LATER |= {"contextmanager", "contextlib.contextmanager"}


KILLED = ("killed", "timeout", "segfault")

# Both sides of every zip() of the package have one length by construction; ``strict`` asserts it.
_STRICT = re.compile(r",?\s*\bstrict=\w+|, (?=\))")


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant: mutmut's word, or ``text`` or ``harmless``."""

    status: str
    diff: str


class _DecorateLater(cst.CSTTransformer):
    """Turns ``@property def f`` into ``def f`` and ``f = property(f)``."""

    def leave_FunctionDef(  # noqa: N802
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef | cst.FlattenSentinel[cst.BaseStatement]:
        decorators = [cst.Module([]).code_for_node(d.decorator) for d in original_node.decorators]
        if len(decorators) != 1 or decorators[0] not in LATER:
            return updated_node
        name = original_node.name.value
        after = cst.parse_statement(f"{name} = {decorators[0]}({name})\n")
        return cst.FlattenSentinel([updated_node.with_changes(decorators=[]), after])


def prepare(room: str, settings: dict[str, Any]) -> Path:
    """A copy of the checkout for one room's mutants, and mutmut's settings in it.

    What hasn't changed since the last time stays, and so does what mutmut knows of it.
    """
    work = WORK / room
    (work / "mutants").mkdir(parents=True, exist_ok=True)  # before Python sees it in PYTHONPATH
    files = {path.relative_to(CHECKOUT) for name in NEEDED for path in found(CHECKOUT / name)}
    mutated = {path for pattern in settings["files"] for path in files if path.match(pattern)}
    for stale in {path.relative_to(work) for name in NEEDED for path in found(work / name)} - files:
        for place in (work, work / "mutants"):
            (place / stale).unlink(missing_ok=True)
    for path in files:
        data = (CHECKOUT / path).read_bytes()
        if path in mutated:
            data = cst.parse_module(data).visit(_DecorateLater()).bytes
        elif path == Path("pyproject.toml"):
            data = configuration(tomllib.loads(data.decode()), settings).encode()
        copy = work / path
        if not copy.exists() or copy.read_bytes() != data:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
    return work


def found(path: Path) -> list[Path]:
    """The file, or all files below the folder."""
    paths = path.rglob("*") if path.is_dir() else [path]
    return [each for each in paths if each.is_file() and "__pycache__" not in each.parts]


def configuration(project: dict[str, Any], settings: dict[str, Any]) -> str:
    """``pyproject.toml`` with mutmut's settings for a room."""
    without = [f"--deselect={name}" for name in settings.get("without", [])]
    project["tool"]["mutmut"] = {
        "source_paths": ["mnist_spark"],
        "only_mutate": settings["files"],
        "do_not_mutate_patterns": [r"raise \w+"],
        "also_copy": [name for name in NEEDED if name not in ("mnist_spark", "tests")],
        "pytest_add_cli_args_test_selection": [
            *settings["tests"],
            "-m=not spark and not long",
            *without,
        ],
        "pytest_add_cli_args": ["-ptests.mutation.plugin", "-pno:xdist", "-pno:cacheprovider"],
        "process_isolation": "forkserver",  # obstore can't be used in a fork of its user
        # Of the clock. The plugin counts seconds of the processor, which are what is meant.
        "timeout_constant": 15.0,
        "timeout_multiplier": 6.0,
        "use_git_change_detection": False,
    }
    return tomli_w.dumps(project)


def all_mutants(settings: dict[str, Any]) -> list[str]:
    """The names of a room's mutants. The working directory is the room's copy."""
    names = []
    for pattern in settings["files"]:
        for path in sorted(Path().glob(pattern)):
            made = mutate_file_contents(str(path), path.read_text())
            names += [get_mutant_name(path, name) for name in made.mutant_names]
    return names


def run_mutants(names: list[str]) -> dict[str, Verdict]:
    """Runs mutmut for these mutants. The working directory is the room's copy."""
    data = os.environ.get("MNIST_SPARK_TEST_DATA") or CHECKOUT.parent / "shared" / "data"
    environment = os.environ | {
        "JAVA_HOME": "/nowhere",
        "MNIST_SPARK_TEST_DATA": str(data),
        "PYTHONPATH": str(Path("mutants").absolute()),
    }
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children=1", *names]
    with Path("mutmut.log").open("w") as log:
        code = subprocess.run(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if code:
        sys.exit(f"mutmut failed: {Path('mutmut.log').absolute()}")
    known = tomllib.loads((HERE / "harmless.toml").read_text())["harmless"]
    verdicts = {}
    for meta in sorted(Path("mutants").rglob("*.meta")):
        verdicts |= read(meta, names, known)
    return verdicts


def read(meta: Path, names: list[str], known: list[dict[str, str]]) -> dict[str, Verdict]:
    """What became of the mutants of one file."""
    codes = json.loads(meta.read_text())["exit_code_by_key"]
    source = meta.relative_to("mutants").with_suffix("")
    verdicts = {}
    for name in sorted(set(names) & set(codes)):
        status = status_by_exit_code[codes[name]]
        diff = get_diff_for_mutant(name, path=source)
        verdicts[name] = Verdict(classified(source, diff, status, known), diff)
    return verdicts


def classified(source: Path, diff: str, status: str, known: list[dict[str, str]]) -> str:
    """The status, or why it isn't counted."""
    lines = diff.splitlines()[2:]
    was = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
    becomes = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
    if is_prose(was, becomes):
        return "text"
    if status in KILLED:
        return status
    if _STRICT.sub("", was) == _STRICT.sub("", becomes):
        return "harmless"
    facts = {"file": str(source), "was": was, "becomes": becomes}
    return "harmless" if any(facts.items() <= each.items() for each in known) else status


def is_prose(was: str, becomes: str) -> bool:
    """Whether only the letters of a sentence differ: a message's wording is nobody's contract."""
    if was.casefold() == becomes.replace("XX", "").casefold() and was != becomes:
        place = next(i for i, letter in enumerate(becomes) if was[i : i + 1] != letter)
        literals = re.finditer(r'"[^"]*"', was)
        return any(x.start() <= place <= x.end() and " " in x[0] for x in literals)
    return False


def report(room: str, made: int, verdicts: dict[str, Verdict], seconds: float) -> str:
    """One line of figures; the survivors go to a file."""
    count = Counter(verdict.status for verdict in verdicts.values())
    alive = {
        name: verdict
        for name, verdict in verdicts.items()
        if verdict.status not in (*KILLED, "text", "harmless")
    }
    (WORK / f"{room}.survivors").write_text(
        "\n\n".join(f"{name}: {each.status}\n{each.diff}" for name, each in alive.items())
    )
    (WORK / f"{room}.json").write_text(
        json.dumps({name: vars(each) for name, each in verdicts.items()}, indent=1)
    )
    killed = sum(count[status] for status in KILLED)
    score = 100 * killed / max(1, killed + len(alive))
    counts = f"{count['timeout']:>8} {count['text']:>5} {count['harmless']:>9} {len(alive):>9}"
    tried = f"{room:<8} {made:>6} {len(verdicts):>6} {killed:>7}"
    return f"{tried} {counts} {score:>5.0f} % {seconds:>6.0f} s"


def main() -> None:
    """One line per room."""
    rooms = tomllib.loads((HERE / "rooms.toml").read_text())
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=", ".join(rooms))
    parser.add_argument("--number", type=int, default=60, help="of mutants per room; 0: all")
    parser.add_argument("--seed", type=int, default=1, help="which mutants")
    parser.add_argument("--again", action="store_true", help="only those that survived last time")
    options = parser.parse_args()
    if unknown := set(options.rooms) - set(rooms):
        parser.error(f"no such room: {', '.join(sorted(unknown))}")
    print("room       made  tried  killed  timeout  text  harmless  survived  score    time")
    for room in options.rooms or rooms:
        began = time.monotonic()
        before: dict[str, Verdict] = {}
        if options.again:
            last = json.loads((WORK / f"{room}.json").read_text())
            before = {name: Verdict(**each) for name, each in last.items()}
        with contextlib.chdir(prepare(room, rooms[room])):
            made = names = all_mutants(rooms[room])
            if options.again:
                before = {name: each for name, each in before.items() if name in made}
                names = [n for n, each in before.items() if each.status not in (*KILLED, "text")]
            elif 0 < options.number < len(made):
                names = sorted(random.Random(options.seed).sample(made, options.number))
            verdicts = before | run_mutants(names)
        print(report(room, len(made), verdicts, time.monotonic() - began), flush=True)


if __name__ == "__main__":
    main()
