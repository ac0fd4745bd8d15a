"""Chaos: one Delta table, refreshed without end while everything around it breaks.

``python -m tests.chaos.run --seconds 300``. Two refreshers with a Spark session each, one of them
with Spark's own writer, take turns by a lock or race as if on two machines; they, their JVMs and
their Python workers are killed at random points. The source flips between two versions, the disk
that the table is on fills up and empties. Spark, delta-rs and DuckDB read all the time, and every
read must be one of the two versions, whole. After the dust settles, one ``mnist-spark refresh`` and
one ``mnist-spark verify`` must be clean, and so must be every version that the table ever had.

All of it runs in mount and process namespaces of its own (Linux, root), so that the small disk and
all processes end with it, whatever happens.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from deltalake import DeltaTable

from mnist_spark import errors
from mnist_spark.history import history
from tests.chaos.actors import rows_of
from tests.chaos.content import Content, digest, make
from tests.support.faults import Fault, Server, serve

PROJECT = Path(__file__).resolve().parents[2]
NAMESPACES = [
    *("setpriv", "--pdeathsig", "KILL"),  # with whoever starts them, they end
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
]
PATIENCE = 180
"""Seconds after which something that has to happen is missed, on however slow a machine."""

WHOLE = ("refreshers", "JVMs", "Pythons of refreshers")
READERS = ("spark", "delta-rs", "duckdb")

CONFIG = """
[tables.t]
dataset = "chaos"
target = "{table}"
writer = "{writer}"
retention_days = 7

[datasets.chaos]
"""
SPLIT = """
[datasets.chaos.splits.{split}]
images = "{url}{split}-images.gz"
labels = "{url}{split}-labels.gz"
"""


# --- What came of it ------------------------------------------------------------------------------


@dataclass
class Report:
    """What happened, counted.

    Attributes:
        chaos_seconds: while things broke, without start and settling.
        kills: by what was killed.
        refreshes: by outcome; ``cut short``: its process was killed.
        errors: of refreshes, by class and first words; of each kind one in full in ``examples``.
        reads: by reader, then by the version of the source that was read.
        versions: of the table at the end; how many hold which version of the source.
        disk_full: periods, their seconds, and refreshes that failed for want of space.
        orphans: data files that belong to no version: what killed and failed refreshes left.
        settled: what the refresh and the verification said in the end.
        violations: what must not be.
    """

    seed: int
    seconds: float
    chaos_seconds: float = 0
    flips: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    refreshes: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    reads: dict[str, Counter[str]] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    disk_full: Counter[str] = field(default_factory=Counter)
    orphans: int = 0
    settled: dict[str, Any] = field(default_factory=dict)
    violations: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> str:
        return json.dumps(vars(self), indent=2, ensure_ascii=False)

    def table(self) -> str:
        def counts(counter: Counter[str]) -> str:
            return ", ".join(f"{n:,} {name}" for name, n in sorted(counter.items())) or "none"

        reads = {name: f"{c.total():,} ({counts(c)})" for name, c in sorted(self.reads.items())}
        lines = [
            ("seed", str(self.seed)),
            ("chaos", f"{self.chaos_seconds:.0f} s, the source flipped {self.flips} times"),
            ("kills", f"{self.kills.total()}: {counts(self.kills)}"),
            ("refreshes", counts(self.refreshes)),
            ("written because", counts(self.causes)),
            *((f"reads by {name}", text) for name, text in reads.items()),
            ("versions", f"{self.versions.total():,}: {counts(self.versions)}"),
            ("disk full", counts(self.disk_full)),
            ("files of no version", f"{self.orphans:,}"),
            *(("failed refreshes", f"{n:>4} × {kind}") for kind, n in self.errors.most_common()),
            *(("settled", f"{name}: {text}") for name, text in self.settled.items()),
            ("violations", str(self.violations.total())),
            *(("", f"{n:>4} × {text}") for text, n in self.violations.items()),
        ]
        return "\n".join(f"{name:<20} {text}" for name, text in lines)


# --- Processes ------------------------------------------------------------------------------------


class Actor:
    """A process of :mod:`tests.chaos.actors`, whose lines end up in the run's queue.

    Attributes:
        doomed: when it was killed, or told to end; what it tells of later failures is no news.
        told: whether it has told of a refresh since.
        refreshes: how many it has told of.
        lifetime: how many it has before it's killed: slow machines need more time for each.
    """

    def __init__(self, name: str, role: str, inbox: queue.Queue[Any], home: Path, **given: Any):
        self.name, self.role, self.given = name, role, given
        self.doomed: float | None = None
        self.told = False
        self.refreshes = self.lifetime = 0
        home.mkdir()
        self._log = home / "stderr"
        environment = os.environ | {
            "PYTHONPATH": str(PROJECT),
            "PYSPARK_SUBMIT_ARGS": "--driver-memory 800m pyspark-shell",
            "SPARK_LOCAL_DIRS": str(home),
            # PerfData: its files are named by process ids, which are other ones outside of the
            # namespace. The others: quick to start, as none lives long.
            "JAVA_TOOL_OPTIONS": "-XX:-UsePerfData -XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.actors", role, json.dumps(given)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=home,
                env=environment,
            )
        self.root = psutil.Process(self.process.pid)
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()

    def _listen(self, inbox: queue.Queue[Any]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # cut short by its death
                inbox.put((self, json.loads(line)))
        inbox.put((self, {"event": "end", "time": time.time()}))

    def complaint(self) -> str:
        return self._log.read_text("utf-8", "replace")[-6000:]

    def tree(self) -> list[psutil.Process]:
        """The living process and all below it."""
        if self.process.poll() is not None:
            return []
        try:
            return [self.root, *self.root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def end(self) -> None:
        self.doomed = self.doomed or time.time()
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def is_java(process: psutil.Process) -> bool:
    try:
        return process.name() == "java"
    except psutil.NoSuchProcess:
        return False


def workers_in(tree: list[psutil.Process]) -> Iterator[tuple[psutil.Process, bool]]:
    """Spark's Python processes, and whether each is the daemon, which the JVM itself starts.

    Others in the tree are Python too: one that has just been forked to become the JVM, say. Killed,
    it ends the start of the session, and nothing tells the run that it did so itself.
    """
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            above = process.parents()
            if process.name().startswith("python") and any(map(is_java, above[:2])):
                yield process, is_java(above[0])


def is_alive(process: psutil.Process) -> bool:
    """Zombies aren't: the namespace's first process will collect them."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


# --- The run --------------------------------------------------------------------------------------


class Chaos:
    """One run: a clock with what is due, and an inbox with what the processes tell."""

    def __init__(self, home: Path, server: Server, seed: int, seconds: float) -> None:
        self.report = Report(seed, seconds)
        self._dice = random.Random(seed)
        self._home, self._server = home, server
        self._disk = home / "disk"
        self._table = self._disk / "t"
        self._filler = self._disk / "filler"
        self._contents = (make("A", 2 * seed), make("B", 2 * seed + 1))
        self._published = self._contents[0]
        self._names = {content.digest: content.name for content in self._contents}
        self._seen: dict[int, str] = {}  # by version of the table, what is in it
        self._latest: Counter[str] = Counter()
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._refreshers: list[Actor] = []
        self._readers: list[Actor] = []
        self._breaking = True
        self._full_since: float | None = None
        self._remains: list[tuple[float, str, list[psutil.Process]]] = []

    def run(self) -> Report:
        try:
            self._start()
            self._break_things()
            self._settle()
        finally:
            actors = [*self._refreshers, *self._readers]
            kill([process for actor in actors for process in actor.tree()])
        return self.report

    # --- Phases

    def _start(self) -> None:
        """Returns when there is a table with rows, which readers then expect."""
        self._disk.mkdir()
        # Grows with the history, of which nothing is removed within the retention.
        size = f"size={64 + round(self.report.seconds)}m"
        mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self._disk)]
        subprocess.run(mount, check=True)
        self._publish(self._contents[0])
        for number, writer in enumerate(("columnar", "spark")):
            text = CONFIG.format(table=self._table, writer=writer)
            text += "".join(SPLIT.format(split=s, url=self._server.url) for s in ("train", "test"))
            (self._home / f"refresh{number}.toml").write_text(text, "utf-8")
        self._start_refresher(0)
        self._until(lambda: self.report.refreshes["written"] > 0, "a first refresh")
        self._start_refresher(1)
        self._readers = [
            self._actor(role, role, path=str(self._table), seed=self._seed())
            for role in ("delta-rs", "duckdb")
        ]

    def _break_things(self) -> None:
        start = time.monotonic()
        for action, least, most in (
            (self._flip, 2, 8),
            (self._kill_worker, 0.5, 5),
            (self._kill_refresher, 1, 5),
        ):
            self._repeat(action, least, most)
        self._later(self._dice.uniform(1, 5), self._fill)
        end = start + self.report.seconds
        while time.monotonic() < end or not (self._enough() or time.monotonic() > end + PATIENCE):
            self._step()
        self._breaking = False
        self._due.clear()
        self._empty()
        self.report.chaos_seconds = round(time.monotonic() - start, 1)

    def _enough(self) -> bool:
        """Whether everything has happened at least once: slow machines need more time for it."""
        report = self.report
        whole = sum(report.kills[what] for what in WHOLE)
        return (
            all(report.reads.get(reader) for reader in READERS)
            and len(report.reads["delta-rs"]) == len(self._contents)
            and whole > 0
            and report.kills.total() > whole
            and report.disk_full["refreshes failed"] > 0
        )

    def _settle(self) -> None:
        """Nothing breaks any more; the readers read on."""
        for actor in self._refreshers:
            if actor.doomed:
                kill(actor.tree())
            actor.end()
        self._until(lambda: not any(a.tree() for a in self._refreshers), "the refreshers' end")
        self._flip()
        refresh = ["refresh", "--config", str(self._home / "refresh0.toml"), "--master", "local[2]"]
        self._command("refresh", *refresh)
        self._check_settled("refresh")
        self._command("verify", "verify", str(self._table))
        before = DeltaTable(self._table).version()
        self._command("another refresh", *refresh, "--deep")
        after = DeltaTable(self._table).version()
        if after != before:
            self._violation(f"a refresh of what was fresh made version {after} of {before}")
        for actor in self._readers:
            actor.end()
        self._until(lambda: not any(a.tree() for a in self._readers), "the readers' end")
        self._audit()
        self._check_processes()

    # --- Time

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), action))

    def _repeat(self, action: Callable[[], None], least: float, most: float) -> None:
        def again() -> None:
            action()
            self._repeat(action, least, most)

        self._later(self._dice.uniform(least, most), again)

    def _step(self) -> None:
        """Does what is due, and hears what the processes tell."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        with contextlib.suppress(queue.Empty):
            while True:
                self._hear(*self._inbox.get(timeout=0.02))
        for number, actor in enumerate(self._refreshers):
            if not self._breaking:
                break
            if actor.doomed and (actor.told or time.time() > actor.doomed + 10):
                kill(actor.tree())
                self._start_refresher(number)
        for remains in self._remains[:]:
            deadline, what, processes = remains
            alive = [process for process in processes if is_alive(process)]
            if alive and now > deadline:
                self._violation(f"{what} killed, and {len(alive)} processes live on: {alive}")
                kill(alive)
            if not alive or now > deadline:
                self._remains.remove(remains)

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                said = "\n".join(actor.complaint() for actor in self._refreshers)
                raise TimeoutError(f"waited in vain for {what}\n{self.report.table()}\n{said}")
            self._step()

    def _seed(self) -> int:
        return self._dice.randrange(1 << 32)

    # --- What the processes tell

    def _actor(self, name: str, role: str, **given: Any) -> Actor:
        home = self._home / f"{name}-{next(self._count)}"
        return Actor(name, role, self._inbox, home, **given)

    def _start_refresher(self, number: int) -> None:
        shared, own = str(self._home / "cache"), str(self._disk / "cache")
        actor = self._actor(
            f"refresher{number}",
            "refresher",
            config=str(self._home / f"refresh{number}.toml"),
            # The second one's own cache suffers from the full disk, too.
            caches=[shared, own] if number else [shared],
            # With Spark's retries of tasks, and without.
            master="local[2]" if number else "local[2,3]",
            reads=str(self._table) if number else None,
            seed=self._seed(),
        )
        actor.lifetime = self._dice.randint(2, 12)
        self._refreshers[number : number + 1] = [actor]

    def _hear(self, actor: Actor, told: dict[str, Any]) -> None:
        late = actor.doomed is not None and told["time"] > actor.doomed
        match told["event"]:
            case "read":
                self._check_read(told)
            case "read-failed" if not late:
                self._violation(f"{told['reader']} could not read: {told['error']}")
            case "raised":
                self._violation(f"refresh() raised {told['error']}")
            case "refresh":
                actor.told |= late
                actor.refreshes += 1
                self._count_refresh(told)
                # At the pace of the machine, besides what happens in the middle of a refresh.
                if self._breaking and self._dice.random() < 0.5:
                    self._later(self._dice.uniform(0, 0.5), self._flip)
            case "end" if not late:
                actor.doomed = told["time"]
                self._violation(f"{actor.name} ended: {actor.complaint()}")

    def _count_refresh(self, told: dict[str, Any]) -> None:
        self.report.refreshes[told["outcome"]] += 1
        if told["outcome"] == "written":
            self.report.causes[told["cause"]] += 1
        if told["error"] is None:
            return
        name, _, line = told["error"].partition(": ")
        what = f"{name}: {line.partition(':')[0].partition(' (')[0]}"
        self.report.errors[what] += 1
        self.report.examples.setdefault(what, line)
        if "No space left" in line:
            self.report.disk_full["refreshes failed"] += 1
        kind = getattr(errors, name, None)
        if not (isinstance(kind, type) and issubclass(kind, errors.MnistSparkError)):
            self._violation(f"an error without a class of ours: {told['error']}")

    def _check_read(self, told: dict[str, Any]) -> None:
        reader, version = told["reader"], told["version"]
        name = self._names.get(told["digest"])
        self.report.reads.setdefault(reader, Counter())[name or "neither"] += 1
        if name is None:
            self._violation(f"{reader} read neither A nor B in version {version}: {told}")
        elif version is not None and self._seen.setdefault(version, name) != name:
            self._violation(f"{reader} read {name} in version {version}, others did not")
        if version is not None and told["latest"]:
            if version < self._latest[reader]:
                self._violation(f"{reader} read version {version} after {self._latest[reader]}")
            self._latest[reader] = version

    def _violation(self, text: str) -> None:
        if text not in self.report.violations:
            print(f"VIOLATION {text}", file=sys.stderr, flush=True)
        self.report.violations[text] += 1

    # --- What breaks

    def _publish(self, content: Content) -> None:
        # At once: no request is answered with one version's bytes and the other's tag.
        self._server.faults = {
            name: Fault(body=data, headers={"ETag": content.tags[name]})
            for name, data in content.files.items()
        }
        self._published = content

    def _flip(self) -> None:
        self._publish(self._contents[self._published is self._contents[0]])
        self.report.flips += 1

    def _kill_worker(self) -> None:
        """A Python worker of Spark's, or, now and then, the daemon that forks them."""
        living = [actor for actor in self._refreshers if not actor.doomed]
        workers = [
            (process, daemon)
            for actor in living
            for process, daemon in workers_in(actor.tree())
            if not daemon or self._dice.random() < 0.2
        ]
        if workers:
            process, daemon = self._dice.choice(workers)
            kill([process])
            self.report.kills["Python daemons" if daemon else "Python workers"] += 1

    def _kill_refresher(self) -> None:
        """All of it, its Python or its JVM alone: at once, or when it writes or commits."""
        due = [a for a in self._refreshers if a.refreshes >= a.lifetime and not a.doomed]
        if not due:
            return
        actor = self._dice.choice(due)
        moment = self._dice.choice(("any", "split=*/*", "_delta_log/*"))
        if moment != "any":
            before = set(self._table.glob(moment))
            self._flip()  # so that there is something to write
            end = time.monotonic() + 3
            while set(self._table.glob(moment)) == before and time.monotonic() < end:
                time.sleep(0.001)
        tree = actor.tree()
        what = self._dice.choice(WHOLE)
        victims = {
            "refreshers": tree[:1] + [p for p in tree if is_java(p)],
            "JVMs": [p for p in tree if is_java(p)],
            "Pythons of refreshers": tree[:1],
        }[what]
        if not victims:
            return
        actor.doomed = time.time()
        kill(victims)
        self.report.kills[what] += 1
        if what != "JVMs":
            # The rest has to end by itself.
            actor.told = True
            self.report.refreshes["cut short"] += 1
            rest = [process for process in tree if process not in victims]
            self._remains.append((time.monotonic() + PATIENCE, what, rest))

    def _fill(self) -> None:
        """All of the disk, or but for room for some of what a refresh writes."""
        room = self._dice.choice((0, 4096, self._dice.randrange(20_000), 250_000, 400_000))
        with contextlib.suppress(OSError), self._filler.open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 16)):
                pass
        with contextlib.suppress(OSError):
            os.truncate(self._filler, max(0, self._filler.stat().st_size - room))
        self._flip()  # so that there is something to write
        self._full_since = time.monotonic()
        self.report.disk_full["periods"] += 1
        failed = self.report.refreshes["failed"]
        end = self._full_since + self._dice.uniform(4, 10)

        def empty() -> None:
            if self.report.refreshes["failed"] == failed and time.monotonic() < end:
                self._later(0.5, empty)
                return
            self._empty()
            self._later(self._dice.uniform(3, 8), self._fill)

        self._later(self._dice.uniform(1, 4), empty)

    def _empty(self) -> None:
        self._filler.unlink(missing_ok=True)
        if self._full_since is not None:
            self.report.disk_full["seconds"] += round(time.monotonic() - self._full_since)
        self._full_since = None

    # --- After the dust has settled

    def _command(self, name: str, *arguments: str) -> None:
        """``mnist-spark …`` as an operator runs it."""
        with (self._home / "command").open("w+") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "mnist_spark", *arguments],
                cwd=self._home,
                env=os.environ | {"MNIST_SPARK_CACHE": str(self._home / "cache")},
                stdout=output,
                stderr=output,
            )
            self._until(lambda: process.poll() is not None, name)
            output.seek(0)
            said = output.read()
        self.report.settled[name] = "clean" if process.returncode == 0 else "FAILED"
        if process.returncode:
            self._violation(f"{name} failed: {said[-2000:]}")

    def _check_settled(self, what: str) -> None:
        name = self._names.get(digest(rows_of(DeltaTable(self._table))))
        if name != self._published.name:
            wanted = self._published.name
            self._violation(f"after the {what} the table has {name}, the source {wanted}")

    def _audit(self) -> None:
        """Every version that there ever was, and whether it says of itself what it is."""
        said = {version.version: version.sha256 for version in history(str(self._table))}
        files = set()
        for version in range(1, DeltaTable(self._table).version() + 1):
            table = DeltaTable(self._table, version=version)
            files |= {Path(uri.removeprefix("file://")) for uri in table.file_uris()}
            rows = digest(rows_of(table))
            found = next((c for c in self._contents if c.digest == rows), None)
            self.report.versions[found.name if found else "neither"] += 1
            if found is None or self._seen.setdefault(version, found.name) != found.name:
                self._violation(f"version {version} is {found and found.name}")
            elif said.get(version) and set(said[version].values()) != set(found.payloads.values()):
                self._violation(f"version {version} is {found.name}, its commit says another one")
        self.report.orphans = len(set(self._table.glob("split=*/*.parquet")) - files)

    def _check_processes(self) -> None:
        """In the namespace there is, besides this process, its first one only."""

        def others() -> list[psutil.Process]:
            found = (process for process in psutil.process_iter() if is_alive(process))
            return [process for process in found if process.pid not in (1, os.getpid())]

        with contextlib.suppress(TimeoutError):
            self._until(lambda: not others(), "orphans' end")
        if left := others():
            self._violation(f"left running: {left}")


# --- Command --------------------------------------------------------------------------------------


def main() -> int:
    """Exit code 1 if anything was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="of chaos; start and end: 30")
    parser.add_argument("--seed", type=int, default=None, help="of all that is random")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    if args.inside is None:
        return outside(seed, args.seconds, args.report)
    # What the server has is in its answers, none of it in files.
    with serve(args.inside) as server:
        report = Chaos(args.inside, server, seed, args.seconds).run()
    print(report.table())
    if args.report is not None:
        args.report.write_text(report.to_json() + "\n", "utf-8")
    return int(bool(report.violations))


def outside(seed: int, seconds: float, report: Path | None) -> int:
    """Starts this program again, within its namespaces, and removes what it leaves."""
    print(f"seed {seed}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="mnist-spark-chaos-"))
    # The shell is the namespace's first process and collects those whose parents were killed.
    command = [*NAMESPACES, "bash", "-c", '"$@"; exit $?', "bash", sys.executable, "-m"]
    command += ["tests.chaos.run", "--inside", str(home), "--seed", str(seed)]
    command += ["--seconds", str(seconds)]
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        command += ["--report", str(report.absolute())]
    try:
        return subprocess.run(command, check=False, cwd=PROJECT).returncode
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
