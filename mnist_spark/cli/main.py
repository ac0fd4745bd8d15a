"""The command ``mnist-spark``. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from mnist_spark._version import __version__
from mnist_spark.cli.text import print_error
from mnist_spark.errors import MnistSparkError, nearest

# Each is a module of this package: ``add`` declares its arguments, ``run`` runs it. Only the module
# of the command at hand is imported, so that the help is there at once.
COMMANDS = {
    "datasets": "List the datasets of the catalog, or show one.",
    "download": "Put a dataset's published files, verified, into a folder.",
    "ingest": "Write a dataset into a Delta or Parquet table.",
    "verify": "Rebuild the source's bytes from a table, and compare their SHA-256.",
    "history": "List a Delta table's versions: when, what, rows, writer, source digests.",
    "preview": "Draw random records and the label histogram of a table or a dataset.",
    "refresh": "Make the tables of a config file what their sources are.",
    "sample": "Generate a dataset of the same format: digits drawn from a seed.",
    "inspect": "Show an IDX file's header, shape, type and digest.",
    "cache": "List, verify or clean the cache folder.",
    "unstage": "Remove the payloads that ingests have put into a staging location.",
}

_DESCRIPTION = "MNIST, and any dataset in its format, as a Delta or Parquet table."
_EXAMPLES = """\
examples:
  mnist-spark ingest --target lake/mnist      write MNIST into a Delta table
  mnist-spark verify lake/mnist               prove that the table holds the source
  mnist-spark refresh --config refresh.toml   keep many tables up to date
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. A failure is one line on stderr; ``--debug`` adds the traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _Parser(
        prog="mnist-spark",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mnist-spark {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in words:
            module = import_module(f"mnist_spark.cli.{name}")
            module.add(command)
            command.set_defaults(run=module.run)
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        command.set_defaults(parser=command)
    if not words:
        parser.print_help()
        return 0
    args, unknown = parser.parse_known_args(words)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return guarded(args)


def entry() -> None:
    """The console script, and the entry point of Databricks wheel tasks.

    Raises:
        SystemExit: a code other than 0. A wheel task takes any function that returns, whatever it
            returns, for a success.
    """
    if code := main():
        sys.exit(code)


def guarded(args: argparse.Namespace) -> int:
    """Runs ``args.run`` and turns errors into a line and an exit code."""
    try:
        args.run(args)
    except MnistSparkError as error:
        if args.debug:
            traceback.print_exc()
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("mnist-spark: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    """Errors are one line, with the nearest valid command, option or choice."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        options, suggestion = list(self._option_string_actions), ""
        if unknown := re.match(r"argument COMMAND: invalid choice: '?(.*?)'? \(", line):
            # Not all of them in one line: the help lists them.
            line, suggestion = f"unknown command {unknown[1]!r}", nearest(unknown[1], COMMANDS)
        elif choice := re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", line):
            suggestion = nearest(choice[1], [name.strip("' ") for name in choice[2].split(",")])
        elif unknown := re.search(r"unrecognized arguments: (--[^\s=]+)", line):
            suggestion = nearest(unknown[1], options)
        elif (stray := re.search(r"unrecognized arguments: (\S+)", line)) or "required" in line:
            word = stray[1] if stray else self._words[0] if self._words else ""
            suggestion = _with_option(word, options)
        suggestion = f" {suggestion}" if suggestion else ""
        self.exit(2, f"{self.prog}: {line}.{suggestion} See {self.prog} --help\n")


def _with_option(word: str, options: Sequence[str]) -> str:
    """How to write a dataset or a target that stands there without its option."""
    from mnist_spark.catalog.dataset import datasets

    if not word or word.startswith("-"):
        return ""
    is_dataset = word.endswith(".toml") or word in datasets()
    option = "--dataset" if is_dataset else "--target"
    return f"Write {option} {word}" + "." if option in options else ""
