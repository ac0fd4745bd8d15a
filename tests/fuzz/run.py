"""Fuzzes for longer: ``make fuzz SECONDS=600 ARGS='header cli'``.

Guided by coverage with atheris (libFuzzer) where it is installed, else random mutations. Inputs
that crash are put into ``regressions/``, where ``test_fuzz.py`` runs them from then on; what
coverage has found to be interesting stays in ``artifacts/fuzz``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import time
import traceback
import tracemalloc
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / "artifacts" / "fuzz"
ATHERIS = importlib.util.find_spec("atheris") is not None
MAX_BYTES = 8192
CASE_SECONDS = 30
RSS_MB = 1500


def main() -> int:
    """Each target in a process of its own, then a table. Exit code 1 if any crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=180, help="per target")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        (guided if ATHERIS else unguided)(args.names[0], args.seconds)
        return 0
    names = args.names or list_targets()
    print(f"{'target':<10} {'cases':>10}  outcome   ({engine()}, {args.seconds} s each)")
    crashed = False
    for name in names:
        command = [sys.executable, "-m", "tests.fuzz.run", name, "--child"]
        child = subprocess.run(
            [*command, "--seconds", str(args.seconds)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        # libFuzzer's words, which unguided() repeats; the last of the lines if it crashed.
        counts = re.findall(r"(?:number_of_executed_units: +|\n#)(\d+)", child.stderr)
        count = int(counts[-1]) if counts else 0
        print(f"{name:<10} {count:>10,}  {'CRASHED' if child.returncode else 'ok'}", flush=True)
        if child.returncode:
            crashed = True
            said = [x for x in child.stderr.splitlines() if not x.startswith("INFO: Instrum")]
            print("\n".join(said)[-4000:], file=sys.stderr)
    return int(crashed)


def engine() -> str:
    """What guides the fuzzing."""
    return "atheris" if ATHERIS else "random mutations; atheris isn't installed"


def list_targets() -> list[str]:
    """The targets' names."""
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def guided(name: str, seconds: int) -> None:
    """Child process: libFuzzer, until the time is over or a case crashes. Doesn't return."""
    import atheris

    with atheris.instrument_imports(include=["mnist_spark", "tomllib"]):
        from tests.fuzz.targets import TARGETS, execute
    target, crashes, corpus = TARGETS[name], HERE / "regressions" / name, CORPUS / name
    seeds = corpus / "seeds"
    for folder in (crashes, seeds, corpus / "found"):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(seed)
    words = corpus / "words"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.tokens)
    words.write_text("".join(f'"{word}"\n' for word in escaped if len(word) < 256))
    options: dict[str, object] = {
        "max_total_time": seconds,
        "max_len": MAX_BYTES,
        "timeout": CASE_SECONDS,
        "rss_limit_mb": RSS_MB,
        "print_final_stats": 1,
        "artifact_prefix": f"{crashes}/",
    }
    if target.tokens:
        options["dict"] = words
    stack = contextlib.ExitStack()
    stack.enter_context(target.sandbox())
    tracemalloc.start()
    flags = [f"-{key}={value}" for key, value in options.items()]
    folders = map(str, (corpus / "found", seeds, crashes))
    atheris.Setup([sys.argv[0], *flags, *folders], lambda data: execute(target, data) and None)
    atheris.Fuzz()


def unguided(name: str, seconds: int) -> None:
    """Child process: random mutations until the time is over or a case crashes."""
    from tests.fuzz.mutate import cases
    from tests.fuzz.targets import TARGETS, execute

    target, count = TARGETS[name], 0
    end = time.monotonic() + seconds
    tracemalloc.start()
    with target.sandbox():
        for data in cases(target.seeds(), target.tokens, random.Random()):
            if time.monotonic() > end:
                break
            count += 1
            try:
                execute(target, data)
            except Exception:  # noqa: BLE001 - whatever it is, it's a bug to be kept
                traceback.print_exc()
                path = HERE / "regressions" / name / f"crash-{hashlib.sha1(data).hexdigest()}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                print(f"#{count} kept as {path}", file=sys.stderr)
                sys.exit(1)
    print(f"number_of_executed_units: {count}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
