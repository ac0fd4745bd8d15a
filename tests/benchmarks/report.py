"""The one table that ``make bench`` prints, from its JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.benchmarks import disturb, reads
from tests.benchmarks.show import machine_line, median, megabytes, ratio, spread, table
from tests.benchmarks.writers import BARE, COMMAND, FIRST, LIMIT, OURS, WRITERS

Result = dict[str, Any]


def runs(result: Result, kind: str, key: str) -> list[dict[str, Any]]:
    """The runs of a contender that went well."""
    return [
        run
        for run in result["runs"]
        if (run["kind"], run["key"]) == (kind, key) and not run["error"]
    ]


def cold(result: Result, key: str) -> list[float]:
    """Seconds from process start to the first committed table."""
    return [run["cold"] for run in runs(result, "write", key)]


def warm(result: Result, key: str, step: str | None = None) -> list[float]:
    """Seconds of later writes in the same process, or of one of their steps."""
    writes = [write for run in runs(result, "write", key) for write in run["writes"][1:]]
    return [write["steps"][step] if step else write["seconds"] for write in writes]


def text(result: Result) -> str:
    """Tables, goals, disturbances."""
    seen = [disturb.Disturbance(**run["disturbed"]) for run in result["runs"] if run["disturbed"]]
    share = max(
        (run["sampler_cpu_seconds"] / run["process_seconds"] for run in result["runs"]), default=0
    )
    parts = [
        "",
        machine_line(),
        f"{result['rounds']} processes per contender, {result['repeat']} writes in each. Seconds: "
        "median (smallest–largest).",
        "",
        _writes(result),
        "",
        "Cold: process start to committed table. Warm: second and later writes of the process, each"
        " to a new path. CPU: of all the tree's processes; suffers least from what else runs."
        " Every table was checked by delta-rs and DuckDB.",
        "Memory: the tree's is sampled, RSS every 50 ms (counts shared pages once per process), PSS"
        " every 500 ms (shares them out); single processes' by the kernel's high-water mark.",
        "",
        _reads(result),
        "",
        *_goals(result),
        "",
        disturb.summary(seen) if seen else "",
        f"Watching took at most {share:.0%} of a core.",
    ]
    failed = [run for run in result["runs"] if run["error"]]
    parts += [f"FAILED: {run['key']}, round {run['round'] + 1}: {run['error']}" for run in failed]
    return "\n".join(parts)


def _writes(result: Result) -> str:
    heads = (
        *("from gzip to Delta, 70,000 rows", "cold s", "÷ bare", "CPU s"),
        *("warm s", "÷ ours", "÷ limit", "CPU s"),
        *("peak MB: tree RSS", "PSS", "driver", "JVM", "worker", "table MB", "log MB", "files"),
    )
    ours, limit = (median(warm(result, key)) for key in (OURS.key, LIMIT.key))
    bare = median(cold(result, BARE.key))
    rows = []
    for contender in (BARE, *WRITERS):
        good = runs(result, "write", contender.key)
        if not good:
            continue
        now = warm(result, contender.key)
        row = [contender.title, spread(cold(result, contender.key))]
        row += [ratio(median(cold(result, contender.key)), bare)]
        row += [f"{median([run['cold_cpu'] for run in good]) or 0:.1f}"]
        if contender is BARE:
            row += ["-"] * 4
        else:
            row += [spread(now), ratio(median(now), ours), ratio(median(now), limit)]
            cpu = [write["cpu"] for run in good for write in run["writes"][1:]]
            row += [f"{median(cpu) or 0:.1f}"]
        for name in ("rss", "pss", "driver", "jvm", "worker"):
            peak = max(run["peaks"][name] for run in good)
            row.append(megabytes(peak) if peak else "-")
        size = good[-1].get("size")
        row += (
            [megabytes(size["data"]), f"{size['log'] / 1e6:.2f}", str(size["files"])]
            if size
            else ["-"] * 3
        )
        rows.append(row)
    return table(heads, rows)


def read_times(result: Result) -> Iterator[tuple[str, str, str, list[float]]]:
    """Group, reader, title, warm seconds."""
    for group, titles in reads.TITLES.items():
        for key, title in titles.items():
            times = [s for run in runs(result, "read", group) for s in run["reads"][key][1:]]
            if times:
                yield group, key, title, times


def _reads(result: Result) -> str:
    rows = []
    first: dict[str, float | None] = {}
    for group, _, title, times in read_times(result):
        base = first.setdefault(group, median(times))
        rows.append([title, spread(times), ratio(median(times), base)])
    return table(("reading 70,000 rows, warm", "s", "÷ first of its group"), rows)


def _goals(result: Result) -> Iterator[str]:
    """The goals as ratios in this run."""
    ours, limit = (median(warm(result, key)) for key in (OURS.key, LIMIT.key))
    if ours is None:
        return
    for key, least in (("spark", 20), ("pyarrow-zstd", 4), ("pyarrow-tuned", 1), ("duckdb", 1)):
        other = median(warm(result, key))
        yield f"goal: warm columnar at least {least}× as fast as {key}: {ratio(other, ours)}"
    yield f"goal: warm columnar at most 1.6× the limit: {ratio(ours, limit)}"
    bare = median(cold(result, BARE.key))
    first, second = (median(cold(result, key)) for key in (FIRST.key, COMMAND.key))
    if bare and second:
        yield f"goal: cold, second run, at most 0.75× a bare session: {ratio(second, bare)}"
    if bare and first:
        yield f"goal: cold, first run, at most 2 s over a bare session: {first - bare:+.2f} s"
    for run in runs(result, "write", OURS.key)[-1:]:
        size = run["size"]["data"] + run["size"]["log"]
        yield "goal: table with its log at most 1.22× the gzip files: " + ratio(
            size, result["gzip_bytes"]
        )
    times = {key: median(values) for _, key, _, values in read_times(result)}
    if times.get("verify"):
        yield f"goal: verify at most 0.8 s: {times['verify']:.2f} s"
    if times.get("load_table"):
        loaded = ratio(times["load_table"], times["pyarrow"])
        yield f"goal: load_table at most 1.5× pyarrow: {loaded}"
    yield f"goal: to pandas under 2× numpy: {ratio(times.get('ours'), times.get('numpy'))}"
