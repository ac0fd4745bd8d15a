"""Runs a command in a fresh process and watches its whole process tree from outside. Linux only.

Memory is sampled: a peak between two samples is missed for the tree as a whole. The peaks of single
processes are the kernel's own high-water marks as last seen, so they miss only what a process did
in its last 50 ms.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks import disturb

INTERVAL = 0.05
_GRACE = 15.0
_TREE_EVERY = 3  # samples between looks for new processes, which cost more than samples
_PSS_EVERY = 10  # the kernel walks page tables for PSS, which holds up the process being watched


@dataclass
class Peaks:
    """Peak memory in bytes.

    Attributes:
        rss: of the whole tree, sum of resident sets; shared pages count once per process.
        pss: likewise, shared pages shared out; sampled ten times less often.
        driver: of the process that was started.
        jvm: of the largest JVM.
        worker: of the largest other process (Spark's Python workers, pool workers).
    """

    rss: int = 0
    pss: int = 0
    driver: int = 0
    jvm: int = 0
    worker: int = 0


@dataclass
class Run:
    """What was seen of one process tree.

    Attributes:
        started: ``time.monotonic()`` just before the process was started.
        seconds: until it ended.
        cpu: (time.monotonic(), CPU seconds of the tree so far), one per sample.
        sampler_cpu: CPU seconds that the watching itself took.
    """

    started: float
    seconds: float = 0.0
    status: int = 0
    peaks: Peaks = field(default_factory=Peaks)
    cpu: list[tuple[float, float]] = field(default_factory=list)
    sampler_cpu: float = 0.0
    disturbed: disturb.Disturbance | None = None

    def cpu_between(self, start: float, stop: float) -> float:
        """CPU seconds that the tree took between two times, interpolated."""
        import numpy as np

        times, seconds = zip(*self.cpu, strict=True)
        at_stop, at_start = np.interp([stop, start], times, seconds)
        return float(at_stop - at_start)


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, timeout: float
) -> Run:
    """Runs a command to its end, output to ``log``. Kills its tree after ``timeout`` seconds."""
    before = disturb.now()
    own = time.process_time()
    with log.open("wb") as output:
        result = Run(time.monotonic())
        process = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **env}, stdout=output, stderr=subprocess.STDOUT
        )
        tree = _Tree(process.pid)
        try:
            while process.poll() is None:
                tree.sample(result)
                if time.monotonic() - result.started > timeout:
                    raise TimeoutError(f"no end after {timeout:.0f} s")
                time.sleep(INTERVAL)
            result.seconds = time.monotonic() - result.started
            # The JVM removes its temporary files after the driver has ended.
            tree.wait(_GRACE)
        finally:
            tree.kill()
            process.wait()
    result.status = process.returncode
    result.sampler_cpu = time.process_time() - own
    tree_cpu = result.cpu[-1][1] if result.cpu else 0.0
    result.disturbed = disturb.since(before, ours=tree_cpu + result.sampler_cpu)
    return result


class _Tree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._root = psutil.Process(pid)
        self._members: list[psutil.Process] = []
        self._samples = 0

    def sample(self, result: Run) -> None:
        if self._samples % _TREE_EVERY == 0:
            self._look()
        with_pss = self._samples % _PSS_EVERY == 0
        self._samples += 1
        peaks, rss, pss, cpu = result.peaks, 0, 0, 0.0
        for process in self._members:
            try:
                kind = self._kind(process)
                if kind == "jvm" and self._borrows(process):
                    continue
                resident, highest = _memory(process.pid)
                pss += _pss(process.pid) if with_pss else 0
                times = process.cpu_times()
            except (psutil.Error, OSError):
                continue  # it has just ended
            rss += resident
            # What a parent has reaped counts as its children's.
            cpu += times.user + times.system + times.children_user + times.children_system
            setattr(peaks, kind, max(getattr(peaks, kind), highest))
        peaks.rss, peaks.pss = max(peaks.rss, rss), max(peaks.pss, pss)
        if not result.cpu or cpu >= result.cpu[-1][1]:  # less: one ended between two looks
            result.cpu.append((time.monotonic(), cpu))

    def wait(self, seconds: float) -> None:
        """Waits until the processes that were seen last have ended."""
        psutil.wait_procs([p for p in self._members if p != self._root], timeout=seconds)

    def kill(self) -> None:
        """Ends what is left of the tree, by process, never by name."""
        self._look()
        for process in self._members:
            try:
                process.kill()
            except psutil.Error:
                continue

    def _look(self) -> None:
        try:
            self._members = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return

    def _kind(self, process: psutil.Process) -> str:
        """Of a process as it is now: by its program, not its name, which may be a thread's."""
        if process.pid == self._pid:
            return "driver"
        return "jvm" if _program(process.pid) == "java" else "worker"

    def _borrows(self, process: psutil.Process) -> bool:
        """Whether it is a JVM's child that is about to become another program.

        Until then it has the JVM's memory, which must not be counted twice.
        """
        return _program(process.ppid()) == "java"


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/exe").readlink().name


def _memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process: now, and at most so far."""
    found = {"VmRSS": 0, "VmHWM": 0}
    with open(f"/proc/{pid}/status") as stream:
        for line in stream:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found["VmRSS"], found["VmHWM"]


def _pss(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as stream:
        for line in stream:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
