"""``make bench``: gzip files on disk → readable Delta table, every contender in fresh processes.

- *cold*: from the start of the process to the committed table, all imports and the JVM included.
- *warm*: the second and later writes in the same process. Every write makes a new table at a new
  path, and every contender decompresses the gzip files anew, ours too (but for the row that says
  otherwise). Only ours compare the files' SHA-256 with the published ones meanwhile.
- Contenders take turns; every round is in another order. After each process, its last table is read
  by delta-rs and DuckDB: columns, types, rows, label counts, a checksum of each pixel column.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mnist_spark.download.entries import JVM_ARCHIVES
from mnist_spark.spark import jvm_archive
from mnist_spark.spark.java import find_java
from tests.benchmarks import chart, measure, reads, report
from tests.benchmarks.check import Content, check, expected
from tests.benchmarks.data import BENCH, ROOT, mnist_folder
from tests.benchmarks.show import machine
from tests.benchmarks.writers import BARE, LIMIT, WRITERS, Contender
from tests.support import jvm

TIMEOUT = 900.0
KEPT = ("columnar", "spark")  # contenders whose tables are scanned afterwards
RESULT = BENCH / "bench.json"
CHART = Path(__file__).with_name("bench.png")


def main() -> int:
    """Runs, prints, saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes per contender")
    parser.add_argument("--repeat", type=int, default=4, help="writes per process, first is cold")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="some contenders or read groups")
    parser.add_argument("--no-chart", action="store_true", help="leave the PNG as it is")
    args = parser.parse_args()
    contenders = [c for c in (BARE, *WRITERS) if args.only is None or c.key in args.only]
    groups = [g for g in reads.TITLES if args.only is None or g in args.only]
    bench = Bench(args.repeat)
    for number in range(args.rounds):
        shift = number * 3 % max(1, len(contenders))
        for contender in contenders[shift:] + contenders[:shift]:
            bench.write(contender, number)
        for group in groups:
            bench.read(group, number)
    result = bench.result(args.rounds)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    bench.clean()
    print(report.text(result))
    if not args.no_chart:
        chart.draw(result, CHART)
    return 1 if any(run.get("error") for run in bench.runs) else 0


class Bench:
    """Runs contenders one by one and collects what was seen of them."""

    def __init__(self, repeat: int) -> None:
        self.runs: list[dict[str, Any]] = []
        self._repeat = repeat
        self._source = mnist_folder()
        self._work = BENCH / "work"
        self._cache = BENCH / "cache"
        self.clean()
        self._wanted: dict[str, Content] = expected(self._source)
        self._archive = self._cache / JVM_ARCHIVES / jvm_archive.archive_name(find_java())
        jvm.make(self._archive)

    def write(self, contender: Contender, number: int) -> None:
        """One process of a contender: a cold write, then warm ones, then the check."""
        if not contender.keep_archive:
            self._archive.unlink()
        if not contender.keep_payloads:
            shutil.rmtree(self._cache / "payloads", ignore_errors=True)
        else:
            self._decompress()
        noted, run = self._run(
            "write", contender.key, number, min(self._repeat, 2) if contender.slow else self._repeat
        )
        if not contender.keep_archive:
            jvm.make(self._archive)  # perhaps the contender has left a process that makes it
        folder = self._work / contender.key
        if run.get("error") is None and contender not in (BARE, LIMIT):
            try:
                run["size"] = asdict(check(Path(noted[-1]["target"]), self._wanted))
            except ValueError as error:
                run["error"] = f"wrong table: {error}"
        run["writes"] = [_times(line) for line in noted]
        if noted:
            run["cold"] = noted[0]["stop"] - run["started"]
            run["cold_cpu"] = noted[0].get("cpu_before", 0.0) + noted[0].get("cpu", 0.0)
        if contender.key in KEPT and noted and not run.get("error"):
            kept = self._kept(contender.key)
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            Path(noted[-1]["target"]).rename(kept)
        shutil.rmtree(folder, ignore_errors=True)
        self._say(run, contender.title.strip())

    def read(self, group: str, number: int) -> None:
        """One process of a group of readers."""
        tables = {key: str(self._kept(key)) for key in KEPT}
        needed = {"scan": KEPT, "verify": KEPT[:1], "load": KEPT[:1]}.get(group, ())
        if not all(Path(tables[key]).is_dir() for key in needed):
            return
        self._decompress()
        noted, run = self._run("read", group, number, self._repeat, tables=tables)
        run["reads"] = {key: [] for key in reads.TITLES[group]}
        for line in noted:
            run["reads"][line["reader"]].append(line["stop"] - line["start"])
        self._say(run, f"reads: {group}")

    def result(self, rounds: int) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "rounds": rounds,
            "repeat": self._repeat,
            "machine": machine(),
            "gzip_bytes": sum(path.stat().st_size for path in self._source.glob("*.gz")),
            "runs": self.runs,
        }

    def clean(self) -> None:
        """Removes tables and cache."""
        for folder in (self._work, self._cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def _decompress(self) -> None:
        from mnist_spark.catalog import dataset as catalog
        from mnist_spark.download.inputs import Inputs
        from mnist_spark.download.split import prepare

        dataset = catalog.find("mnist")
        prepare(dataset, dataset.splits, Inputs(str(self._source), self._cache))

    def _kept(self, key: str) -> Path:
        return self._work / "kept" / key

    def _run(
        self, kind: str, key: str, number: int, repeat: int, **more: object
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        work = self._work / key
        work.mkdir(parents=True, exist_ok=True)
        output, log = work / "noted.json", BENCH / f"{key}.log"
        order = {
            "kind": kind,
            "key": key,
            "source": str(self._source),
            "cache": str(self._cache),
            "work": str(work),
            "repeat": repeat,
            "output": str(output),
            **more,
        }
        command = [sys.executable, "-m", "tests.benchmarks.child", json.dumps(order)]
        error = None
        try:
            seen = measure.run(
                command,
                cwd=work,
                env={"PYTHONPATH": str(ROOT), "MNIST_SPARK_CACHE": str(self._cache)},
                log=log,
                timeout=TIMEOUT,
            )
            if seen.status:
                error = f"exit code {seen.status}: {_last_line(log)}"
        except TimeoutError as late:
            seen, error = measure.Run(0.0), str(late)
        noted = [json.loads(line) for line in _lines(output)]
        for line in noted if seen.cpu else []:
            line["cpu_before"] = seen.cpu_between(seen.started, line["start"])
            line["cpu"] = seen.cpu_between(line["start"], line["stop"])
        run = {
            "kind": kind,
            "key": key,
            "round": number,
            "error": error,
            "started": seen.started,
            "process_seconds": seen.seconds,
            "cpu_seconds": seen.cpu[-1][1] if seen.cpu else None,
            "sampler_cpu_seconds": seen.sampler_cpu,
            "peaks": asdict(seen.peaks),
            "disturbed": asdict(seen.disturbed) if seen.disturbed else None,
        }
        self.runs.append(run)
        return noted, run

    def _say(self, run: dict[str, Any], title: str) -> None:
        times = [write["seconds"] for write in run.get("writes", [])]
        text = " ".join(f"{seconds:.2f}" for seconds in times)
        cold = f"cold {run['cold']:.2f}, " if "cold" in run else ""
        many = "; ".join(
            f"{key} {' '.join(f'{s:.2f}' for s in values)}"
            for key, values in run.get("reads", {}).items()
        )
        print(
            f"round {run['round'] + 1}, {title}: {run['error'] or cold + text + many}",
            file=sys.stderr,
        )


def _times(line: dict[str, Any]) -> dict[str, Any]:
    return {
        "seconds": line["stop"] - line["start"],
        "cpu": line.get("cpu"),
        "steps": line["steps"],
    }


def _last_line(log: Path) -> str:
    lines = _lines(log)
    return lines[-1][:300] if lines else "no output"


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip()]


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


if __name__ == "__main__":
    os.environ.pop("SPARK_CONF_DIR", None)  # all contenders get the embedded session's settings
    sys.exit(main())
