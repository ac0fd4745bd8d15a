"""The command ``mnist-spark``. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from mnist_spark._version import __version__
from mnist_spark.cli.commands import COMMANDS
from mnist_spark.errors import MnistSparkError


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. A failure is one line on stderr; ``--debug`` adds the traceback."""
    parser = _Parser(prog="mnist-spark", description=__doc__)
    parser.add_argument("--version", action="version", version=f"mnist-spark {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (add, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add(command)
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        command.set_defaults(run=run)
    return guarded(parser.parse_args(argv))


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
        print(f"mnist-spark: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("mnist-spark: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line}. See {self.prog} --help\n")
