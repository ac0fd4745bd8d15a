"""What else the machine did meanwhile: load before, other processes' CPU, steal. Linux only."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Snapshot:
    """Totals since the machine was started, in seconds, and the load average."""

    time: float
    busy: float
    waiting: float
    stolen: float
    load: float


@dataclass(frozen=True)
class Disturbance:
    """What could have slowed down a run.

    Attributes:
        load_before: runnable processes, average of the minute before.
        others: cores that processes outside the run kept busy, on average.
        waiting: cores idle while a process waited for a disk, on average.
        stolen: cores that the hypervisor gave to other machines, on average.
    """

    load_before: float
    others: float
    waiting: float
    stolen: float


def now() -> Snapshot:
    """The totals now."""
    with open("/proc/stat") as stream:
        fields = [int(text) / os.sysconf("SC_CLK_TCK") for text in stream.readline().split()[1:9]]
    user, nice, system, _idle, waiting, irq, softirq, stolen = fields
    busy = user + nice + system + irq + softirq
    return Snapshot(time.monotonic(), busy, waiting, stolen, os.getloadavg()[0])


def since(before: Snapshot, ours: float) -> Disturbance:
    """What happened since a snapshot, but for ``ours``: CPU seconds of the run itself."""
    after = now()
    wall = max(after.time - before.time, 1e-6)
    return Disturbance(
        before.load,
        max(0.0, (after.busy - before.busy - ours) / wall),
        (after.waiting - before.waiting) / wall,
        (after.stolen - before.stolen) / wall,
    )


def summary(seen: Sequence[Disturbance]) -> str:
    """One line about several runs."""

    def most(name: str) -> str:
        values = sorted(getattr(item, name) for item in seen)
        return f"{values[len(values) // 2]:.2f} (at most {values[-1]:.2f})"

    return (
        f"Disturbances over {len(seen)} runs on {os.cpu_count()} cores, median (and most): "
        f"load average before {most('load_before')}; "
        f"other processes kept {most('others')} cores busy; "
        f"waiting for disks {most('waiting')} cores; stolen by the hypervisor {most('stolen')}."
    )
